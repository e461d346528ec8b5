//! How values become bodies of messages, and bodies values.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a value cannot be encoded, or a body not decoded.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// A way to write values as bodies, named in the messages' `content_type`.
///
/// [`Json`] is the default, [`Raw`] passes bytes on. One of your own implements [`Encode`] and
/// [`Decode`] for the types it can write and read.
pub trait Codec: Send + Sync + 'static {
    /// The MIME type of its bodies.
    const CONTENT_TYPE: &'static str;
}

/// A [`Codec`] that can write a `T`.
pub trait Encode<T: ?Sized>: Codec {
    /// The body of a value.
    ///
    /// # Errors
    /// The value cannot be written.
    fn encode(value: &T) -> Result<Bytes, CodecError>;
}

/// A [`Codec`] that can read a `T`.
pub trait Decode<T>: Codec {
    /// The value of a body.
    ///
    /// # Errors
    /// The body is not one of a `T`.
    fn decode(body: &Bytes) -> Result<T, CodecError>;
}

/// JSON, by serde. An empty body is `null`: what a worker that says nothing has to say.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: &'static str = "application/json";
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(serde_json::to_vec(value)?.into())
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(body: &Bytes) -> Result<T, CodecError> {
        let body: &[u8] = if body.is_empty() { b"null" } else { body };
        Ok(serde_json::from_slice(body)?)
    }
}

/// Bytes, as they are.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl Codec for Raw {
    const CONTENT_TYPE: &'static str = "application/octet-stream";
}

impl<T: AsRef<[u8]> + ?Sized> Encode<T> for Raw {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value.as_ref()))
    }
}

impl Decode<Bytes> for Raw {
    fn decode(body: &Bytes) -> Result<Bytes, CodecError> {
        Ok(body.clone())
    }
}

impl Decode<Vec<u8>> for Raw {
    fn decode(body: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(body.to_vec())
    }
}

impl Decode<String> for Raw {
    fn decode(body: &Bytes) -> Result<String, CodecError> {
        Ok(std::str::from_utf8(body)?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_an_empty_body_is_null() {
        let body = <Json as Encode<_>>::encode(&vec![1, 2]).expect("numbers can be written");
        assert_eq!(<Json as Decode<Vec<u8>>>::decode(&body).expect("and read"), [1, 2]);
        <Json as Decode<()>>::decode(&Bytes::new()).expect("null");
        assert_eq!(<Json as Decode<Option<u8>>>::decode(&Bytes::new()).expect("null"), None);
        assert!(<Json as Decode<u8>>::decode(&Bytes::from_static(b"x")).is_err());
        let body = <Raw as Encode<str>>::encode("text").expect("bytes are bytes");
        assert_eq!(<Raw as Decode<String>>::decode(&body).expect("UTF-8"), "text");
        assert!(<Raw as Decode<String>>::decode(&Bytes::from_static(b"\xFF")).is_err());
    }
}
