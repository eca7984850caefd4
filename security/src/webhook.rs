//! Signatures of webhooks, as Standard Webhooks 1.0.0 describes them: whoever holds the secret can tell that a message is ours, whole
//! and recent.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{self, InvalidHeaderValue},
};

use crate::EgressRequest;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// What messages to one receiver are signed with.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl WebhookSecret {
    /// Reads `whsec_` and 24 to 64 bytes in base64; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok().filter(|bytes| LENGTH.contains(&bytes.len()))?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The request that tells a receiver a message: `body` is JSON, `timestamp` is the attempt's, in seconds since 1970. Receivers
    /// refuse what is old, so that nobody can send it again.
    ///
    /// # Errors
    /// When the id cannot be a header's value.
    pub fn request(&self, url: &str, id: &str, timestamp: i64, body: Bytes) -> Result<EgressRequest, InvalidHeaderValue> {
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (WEBHOOK_ID, HeaderValue::from_str(id)?),
            (WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp)),
            (WEBHOOK_SIGNATURE, HeaderValue::from_str(&self.sign(id, timestamp, &body))?),
        ]);
        Ok(EgressRequest { method: Method::POST, url: url.to_owned(), headers, body })
    }

    /// The header `webhook-signature` of a message: `timestamp` is in seconds since 1970, as in `webhook-timestamp`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_over_id_time_and_body() {
        let secret = WebhookSecret::parse(&format!("whsec_{}", STANDARD.encode([7; 32]))).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let signature = secret.sign("a", 12, b"{}");
        let tag = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        assert!(hmac::verify(&key, b"a.12.{}", &tag).is_ok());
        assert!(
            [secret.sign("b", 12, b"{}"), secret.sign("a", 13, b"{}"), secret.sign("a", 12, b"[]")]
                .iter()
                .all(|other| *other != signature)
        );
    }

    #[test]
    fn the_example_of_the_specification_comes_out() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_24_to_64_bytes_and_its_prefix() {
        let text = |length: usize| format!("whsec_{}", STANDARD.encode(vec![1; length]));
        for (length, fits) in [(0, false), (23, false), (24, true), (25, true), (63, true), (64, true), (65, false)] {
            assert_eq!(WebhookSecret::parse(&text(length)).is_some(), fits, "{length}");
        }
        let good = text(32);
        for wrong in
            [good.replace("whsec_", ""), good.replace("whsec_", "whpk_"), format!("{good}?"), format!(" {good}"), String::new()]
        {
            assert!(WebhookSecret::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn it_is_not_shown() {
        assert_eq!(
            format!("{:?}", WebhookSecret::parse(&format!("whsec_{}", STANDARD.encode([7; 32]))).unwrap()),
            "WebhookSecret"
        );
    }
}
