//! A socket to a broker, with TLS or without, on which AMQP 1.0 is about to be spoken: SASL is through.
//!
//! SASL is done here, and not by the AMQP crate, since that has EXTERNAL only over its own TLS.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::down::Down;
use crate::tls::TlsOptions;
use crate::url::{Address, Mechanism};

/// Where there is no AMQP on the socket, the answer is something else.
const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// Longer frames are none of SASL's.
const FRAME_BYTES_MAX: usize = 4096;
const FRAME_HEADER_BYTES: usize = 8;
/// The type of a SASL frame.
const SASL_FRAME: u8 = 1;

const MECHANISMS: u8 = 0x40;
const INIT: u8 = 0x41;
const OUTCOME: u8 = 0x44;

/// What AMQP is spoken on.
pub(super) trait Stream: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin> Stream for T {}

/// Opens a socket to one of the hosts, and logs in.
pub(super) async fn open(address: &Address, attempt: usize) -> Result<Box<dyn Stream>, Down> {
    let (host, port) = &address.hosts[attempt % address.hosts.len()];
    let mut stream: Box<dyn Stream> = match &address.tls {
        None => {
            Box::new(plain(host, *port).await.map_err(|error| Down::Socket(error.to_string()))?)
        }
        Some(options) => over_tls(host, *port, options).await?,
    };
    log_in(&mut stream, address, host).await?;
    Ok(stream)
}

async fn plain(host: &str, port: u16) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

#[cfg(feature = "tls")]
async fn over_tls(host: &str, port: u16, options: &TlsOptions) -> Result<Box<dyn Stream>, Down> {
    use crate::tls::{TlsError, TlsSocket};

    // In a box for those who do without.
    let stream = Box::pin(TlsSocket::open(host, port, options)).await;
    let stream = stream.map_err(|error| match TlsError::of(&error) {
        Some(TlsError::NotTls) => Down::NotTls,
        Some(TlsError::Failed(why)) => Down::Tls(why.clone()),
        None => Down::Socket(error.to_string()),
    })?;
    Ok(Box::new(stream))
}

#[cfg(not(feature = "tls"))]
async fn over_tls(_: &str, _: u16, options: &TlsOptions) -> Result<Box<dyn Stream>, Down> {
    match *options {}
}

async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: &Address,
    host: &str,
) -> Result<(), Down> {
    let io = |error: io::Error| Down::Socket(error.to_string());
    stream.write_all(&SASL_HEADER).await.map_err(io)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.map_err(io)?;
    if header != SASL_HEADER {
        return Err(Down::NotAmqp(header.escape_ascii().to_string()));
    }
    let (mechanism, response) = credentials(address);
    let mechanisms = read(stream, MECHANISMS).await?;
    if !mechanisms.windows(mechanism.len()).any(|window| window == mechanism.as_bytes()) {
        return Err(Down::Login(format!("the broker does not offer {mechanism}")));
    }
    stream.write_all(&init(mechanism, &response, host)).await.map_err(io)?;
    let outcome = read(stream, OUTCOME).await?;
    match code(&outcome) {
        Some(0) => Ok(()),
        Some(1) => Err(Down::Login("the broker does not let us in".to_owned())),
        _ => Err(Down::Socket("the broker cannot log anybody in now".to_owned())),
    }
}

/// The mechanism, and what is said in it.
fn credentials(address: &Address) -> (&'static str, Vec<u8>) {
    let Address { user, password, mechanism, .. } = address;
    match mechanism {
        Mechanism::External => (mechanism.name(), Vec::new()),
        _ if user.is_empty() => ("ANONYMOUS", Vec::new()),
        _ => (Mechanism::Plain.name(), [&[0], user.as_bytes(), &[0], password.as_bytes()].concat()),
    }
}

/// A frame with the mechanism that is chosen.
fn init(mechanism: &str, response: &[u8], host: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
    // sym32, vbin32, str32
    let mut fields = vec![0xb3];
    fields.extend(length(mechanism.as_bytes()));
    fields.extend(mechanism.as_bytes());
    fields.push(0xb0);
    fields.extend(length(response));
    fields.extend(response);
    fields.push(0xb1);
    fields.extend(length(host.as_bytes()));
    fields.extend(host.as_bytes());
    // A described list32 of three.
    let mut body = vec![0, 0x53, INIT, 0xd0];
    body.extend((fields.len() as u32 + 4).to_be_bytes());
    body.extend(3_u32.to_be_bytes());
    body.extend(fields);
    let mut frame = ((body.len() + FRAME_HEADER_BYTES) as u32).to_be_bytes().to_vec();
    frame.extend([2, SASL_FRAME, 0, 0]);
    frame.extend(body);
    frame
}

/// Reads the frame that has to come now; returns its fields.
async fn read(stream: &mut (impl AsyncRead + Unpin), expected: u8) -> Result<Vec<u8>, Down> {
    let io = |error: io::Error| Down::Socket(error.to_string());
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(io)?;
    let [a, b, c, d, offset, kind, ..] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let begin = usize::from(offset) * 4;
    if !(begin..=FRAME_BYTES_MAX).contains(&length)
        || begin < FRAME_HEADER_BYTES
        || kind != SASL_FRAME
    {
        return Err(Down::NotAmqp("no frame of SASL".to_owned()));
    }
    let mut rest = vec![0; length - FRAME_HEADER_BYTES];
    stream.read_exact(&mut rest).await.map_err(io)?;
    let body = rest.split_off(begin - FRAME_HEADER_BYTES);
    // The descriptor is a small or a long number.
    match body.as_slice() {
        [0, 0x53, descriptor, fields @ ..] if *descriptor == expected => Ok(fields.to_vec()),
        [0, 0x80, 0, 0, 0, 0, 0, 0, 0, descriptor, fields @ ..] if *descriptor == expected => {
            Ok(fields.to_vec())
        }
        _ => Err(Down::NotAmqp("another frame of SASL than there should be".to_owned())),
    }
}

/// The code in an outcome: the first field.
fn code(fields: &[u8]) -> Option<u8> {
    let fields = match fields {
        [0xc0, _, _, fields @ ..] | [0xd0, _, _, _, _, _, _, _, _, fields @ ..] => fields,
        _ => return None,
    };
    match fields {
        [0x50, code, ..] => Some(*code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as u32 + 8).to_be_bytes().to_vec();
        frame.extend([2, 1, 0, 0]);
        frame.extend(body);
        frame
    }

    fn run(url: &str, answers: &[Vec<u8>]) -> (Result<(), Down>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut ours, mut theirs) = duplex(1 << 16);
            for answer in answers {
                theirs.write_all(answer).await.expect("room");
            }
            theirs.shutdown().await.expect("it ends");
            let address = Address::parse(url).expect("a good one");
            let result = log_in(&mut ours, &address, "h").await;
            drop(ours);
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).await.expect("all");
            (result, said)
        })
    }

    fn mechanisms(names: &[&str]) -> Vec<u8> {
        let mut array = Vec::new();
        for name in names {
            array.push(name.len() as u8);
            array.extend(name.as_bytes());
        }
        let mut body =
            vec![0, 0x53, 0x40, 0xc0, array.len() as u8 + 5, 1, 0xe0, array.len() as u8 + 2];
        body.extend([names.len() as u8, 0xa3]);
        body.extend(array);
        frame(&body)
    }

    fn outcome(code: u8) -> Vec<u8> {
        frame(&[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x44, 0xc0, 3, 1, 0x50, code])
    }

    #[test]
    fn who_has_a_name_says_it_and_others_do_not() {
        let hello = SASL_HEADER.to_vec();
        let both = mechanisms(&["PLAIN", "ANONYMOUS"]);
        let (result, said) =
            run("activemq://u:geheim@h", &[hello.clone(), both.clone(), outcome(0)]);
        assert_eq!(result, Ok(()));
        assert!(
            said.ends_with(b"\xb0\0\0\0\x09\0u\0geheim\xb1\0\0\0\x01h"),
            "{}",
            said.escape_ascii()
        );
        let (result, said) = run("activemq://h", &[hello.clone(), both.clone(), outcome(0)]);
        assert_eq!(result, Ok(()));
        assert!(said.windows(9).any(|it| it == b"ANONYMOUS"));
        let (result, _) = run("activemq://u:x@h", &[hello.clone(), both, outcome(1)]);
        assert!(matches!(result, Err(Down::Login(_))), "{result:?}");
        let (result, _) = run("activemq://h", &[hello, mechanisms(&["PLAIN"]), outcome(0)]);
        assert!(matches!(result, Err(Down::Login(_))), "{result:?}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_certificate_says_who_we_are() {
        let url = "activemqs://u:geheim@h?certfile=c.pem&auth_mechanism=external";
        let answers = [SASL_HEADER.to_vec(), mechanisms(&["EXTERNAL", "PLAIN"]), outcome(0)];
        let (result, said) = run(url, &answers);
        assert_eq!(result, Ok(()));
        assert!(said.windows(8).any(|it| it == b"EXTERNAL"), "{}", said.escape_ascii());
        assert!(!said.windows(6).any(|it| it == b"geheim"), "{}", said.escape_ascii());
    }

    #[test]
    fn what_is_no_broker_is_seen() {
        let (result, _) = run("activemq://h", &[b"HTTP/1.1 400 Bad Request\r\n".to_vec()]);
        assert!(matches!(result, Err(Down::NotAmqp(_))), "{result:?}");
        let (result, _) = run("activemq://h", &[b"AMQP".to_vec()]);
        assert!(matches!(result, Err(Down::Socket(_))), "{result:?}");
        for bad in [vec![0; 8], vec![0xff; 8], frame(&[]), frame(&[0, 0x53, 0x44])] {
            let (result, _) = run("activemq://h", &[SASL_HEADER.to_vec(), bad]);
            assert!(matches!(result, Err(Down::NotAmqp(_))), "{result:?}");
        }
    }
}
