//! A socket with TLS on it, for a loop that waits for the TCP socket to be ready.
//!
//! rustls does no IO. What is read is decrypted at once and completely, so nothing waits in here for a
//! readiness that does not come; what is encrypted and not yet written is told by
//! [`is_writing`](TlsSocket::is_writing).

use std::io::{self, BufRead as _, Write};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConnection;
use tokio_rustls::rustls::{self, pki_types::ServerName};

use super::{TlsError, TlsOptions, config};

/// See the module's documentation.
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    tls: ClientConnection,
    has_certificate: bool,
    /// Whether the broker has said anything under TLS.
    has_heard: bool,
}

impl TlsSocket {
    /// Reads the files, opens the socket, and gets through the handshake.
    pub(crate) async fn connect(host: &str, port: u16, options: &TlsOptions) -> io::Result<Self> {
        let (tcp, tls) = Self::open(host, port, options).await?.into_inner();
        Ok(Self { tcp, tls, has_certificate: options.has_certificate(), has_heard: false })
    }

    /// The same, for those who have a loop of their own.
    pub(crate) async fn open(
        host: &str,
        port: u16,
        options: &TlsOptions,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            TlsError::Failed(format!("{name:?} is no name that a certificate could be for"))
        })?;
        let read = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || config::read(&options))
        };
        let config = read.await.map_err(io::Error::other)??;
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        let has_certificate = options.has_certificate();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let stream = connecting.await.map_err(|error| explain_handshake(error, has_certificate))?;
        if !options.verifies {
            tracing::warn!(
                "verify=verify_none: who has answered at {host}:{port} is taken for the broker, unverified"
            );
        }
        Ok(stream)
    }

    /// The socket to wait for.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Reads once what has come, and hands over what is in it: perhaps nothing. The error may come after
    /// something was handed over.
    pub(crate) fn read(&mut self, chunk: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let count = match self.tcp.try_read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            read => read.map_err(|error| self.without_a_word(error))?,
        };
        if count == 0 {
            return Err(self.without_a_word(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut encrypted = &chunk[..count];
        while !encrypted.is_empty() {
            if self.tls.read_tls(&mut encrypted)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let processed = self.tls.process_new_packets();
            self.hand_over(&mut take)?;
            match processed {
                Ok(state) if state.peer_has_closed() => {
                    return Err(self.without_a_word(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(_) => {}
                Err(error) => {
                    // Tells the broker why, if it can be told.
                    let _ = self.flush();
                    return Err(TlsError::explain(&error, self.has_certificate).into());
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut reader = self.tls.reader();
        loop {
            let count = match reader.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(bytes) => {
                    take(bytes);
                    bytes.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            reader.consume(count);
            self.has_heard = true;
        }
    }

    /// Encrypts some of this, and writes what the socket takes. Returns how much was encrypted: if that
    /// is all, some may still be to be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let count = self.tls.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Whether something is encrypted and not yet written.
    pub(crate) fn is_writing(&self) -> bool {
        self.tls.wants_write()
    }

    /// The broker is to know that nothing was cut off.
    pub(crate) fn say_end(&mut self) {
        self.tls.send_close_notify();
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Unwaiting(&self.tcp)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => {
                    return Err(self.last_words().unwrap_or_else(|| self.without_a_word(error)));
                }
            }
        }
        Ok(())
    }

    /// Why a broker has hung up, if it has said so before.
    fn last_words(&mut self) -> Option<io::Error> {
        let mut chunk = [0; 4096];
        let count = self.tcp.try_read(&mut chunk).ok()?;
        self.tls.read_tls(&mut &chunk[..count]).ok()?;
        let error = self.tls.process_new_packets().err()?;
        Some(TlsError::explain(&error, self.has_certificate).into())
    }

    /// With TLS 1.3 we are through before the broker has looked at our certificate, and its verdict is
    /// lost if its socket goes at once.
    fn without_a_word(&self, error: io::Error) -> io::Error {
        if self.has_heard {
            return error;
        }
        let guess = match self.has_certificate {
            true => "it may not accept the certificate that certfile in the URL names",
            false => {
                "it may demand a certificate, which certfile and keyfile in the URL would name"
            }
        };
        io::Error::new(error.kind(), format!("{error} right after the TLS handshake: {guess}"))
    }
}

fn explain_handshake(error: io::Error, has_certificate: bool) -> io::Error {
    let known = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match known {
        // Such as the greeting of a broker without TLS.
        Some(rustls::Error::InvalidMessage(_)) => TlsError::NotTls.into(),
        Some(known) => TlsError::explain(known, has_certificate).into(),
        None => {
            let text = format!(
                "{error}: the TLS handshake was cut off, so there may be no TLS on this port"
            );
            io::Error::new(error.kind(), text)
        }
    }
}

/// A socket as rustls writes to it: it never waits.
struct Unwaiting<'a>(&'a TcpStream);

impl Write for Unwaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
