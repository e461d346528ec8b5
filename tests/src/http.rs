//! HTTP/1.1 by hand: one request, one answer, one connection.

use crate::{Json, PATIENCE};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// `guest:guest` in the form of basic authentication.
const GUEST: &str = "Z3Vlc3Q6Z3Vlc3Q=";

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body; [`Json::Null`] when there is none.
    pub json: Json,
}

/// Sends a request as guest, without a body.
#[track_caller]
pub(crate) fn ask(address: &str, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("an HTTP connection");
    // A long poll alone may use up half of this.
    stream.set_read_timeout(Some(2 * PATIENCE)).expect("a read time-out");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Basic {GUEST}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    assert!(!is_chunked, "{head}");
    let json = if body.is_empty() { Some(Json::Null) } else { Json::parse(body) };
    Answer { status: status.expect("a status"), json: json.expect("JSON") }
}

/// The value of `authorization` for a name and a password, in base64.
pub fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for part in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits = part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - part.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= part.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// A name as it stands in a path or query.
pub fn escape(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}
