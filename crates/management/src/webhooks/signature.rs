//! Secrets and signatures according to the Standard Webhooks specification (version 1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// Bytes of a secret that is generated here.
const SECRET_BYTES: usize = 32;

/// The secret of a webhook as its owner knows it: `whsec_` and base64. Never shown by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Generates a secret.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", STANDARD.encode(bytes))))
    }

    /// Reads a secret chosen by the owner: 24 to 64 bytes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        (24..=64).contains(&bytes.len()).then(|| Self(text.to_owned()))
    }

    /// The text, to be shown to its owner once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of the header `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let key = self.0.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        // HMAC takes a key of any length, and `parse` accepts only good ones.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.unwrap_or_default()) else {
            return String::new();
        };
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_specification() {
        // The example from the reference libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = secret.sign(id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_secrets_of_a_good_length_are_taken() {
        let of = |count: usize| format!("whsec_{}", STANDARD.encode(vec![1; count]));
        for (text, is_good) in [
            (of(23), false),
            (of(24), true),
            (of(64), true),
            (of(65), false),
            ("whsec_?".to_owned(), false),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), false),
        ] {
            assert_eq!(Secret::parse(&text).is_some(), is_good, "{text}");
        }
    }

    #[test]
    fn a_new_secret_is_a_good_one_and_stays_out_of_logs() {
        let secret = Secret::generate().expect("random bytes");
        assert!(Secret::parse(secret.reveal()).is_some());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
