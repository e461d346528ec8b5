//! A socket to a broker, with TLS or without, for a loop that waits until it is ready.
//!
//! Nothing in here waits but [`connect`](Socket::connect) and [`farewell`](Socket::farewell): reading and
//! writing do what can be done now, or say `WouldBlock`.

use std::io;

use tokio::net::TcpStream;

use super::link::Down;
use crate::tls::{TlsError, TlsOptions, TlsSocket};

/// See the module's documentation.
pub(super) enum Socket {
    Plain(TcpStream),
    /// In a box: TLS has much to remember.
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// Opens a socket over which AMQP can be spoken.
    pub(super) async fn connect(
        host: &str,
        port: u16,
        tls: Option<&TlsOptions>,
    ) -> io::Result<Self> {
        match tls {
            None => {
                let tcp = TcpStream::connect((host, port)).await?;
                tcp.set_nodelay(true)?;
                Ok(Self::Plain(tcp))
            }
            // In a box for those who do without.
            Some(tls) => {
                let socket = Box::pin(TlsSocket::connect(host, port, tls)).await?;
                Ok(Self::Tls(Box::new(socket)))
            }
        }
    }

    /// What to wait for.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// Reads once, by way of `chunk`, and hands over what has come. The error may come after something
    /// was handed over; the end of the stream is one.
    pub(super) fn read(&mut self, chunk: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => match tcp.try_read(chunk)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    take(&chunk[..count]);
                    Ok(())
                }
            },
            Self::Tls(tls) => tls.read(chunk, take),
        }
    }

    /// Takes some of these bytes, perhaps none, and writes what can be written. When it has taken all,
    /// it may still have something to write.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    /// Whether it has taken what it has not written yet: [`write`](Self::write) must be called again.
    pub(super) fn is_writing(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.is_writing(),
        }
    }

    /// Writes the last bytes, however long it takes.
    pub(super) async fn farewell(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        if let Self::Tls(tls) = self {
            tls.say_end();
        }
        self.write_all(&[]).await
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.is_writing() {
            self.tcp().writable().await?;
            match self.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Why there is no socket, or none any more.
pub(super) fn down(error: &io::Error) -> Down {
    match TlsError::of(error) {
        Some(TlsError::NotTls) => Down::NotTls,
        Some(TlsError::Failed(why)) => Down::Tls(why.clone()),
        None => Down::Socket(error.to_string()),
    }
}
