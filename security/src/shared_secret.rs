use std::fmt;

use aws_lc_rs::hmac;

/// What somebody else signs its messages to us with.
#[derive(Clone)]
pub struct SharedSecret(hmac::Key);

impl SharedSecret {
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Whether `signature` is the HMAC-SHA256 of the message in hex. Takes as long for any signature of the right length.
    pub fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        let digits = signature.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(byte));
        let Some(tag) = digits.collect::<Option<Vec<u8>>>() else { return false };
        hmac::verify(&self.0, message, &tag).is_ok()
    }
}

/// Two digits and nothing else: the library would take a sign as well.
fn byte(pair: &str) -> Option<u8> {
    let is_hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, section 4.3.
    const TAG: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn only_the_whole_signature_of_the_same_message_holds() {
        let (secret, message) = (SharedSecret::new("Jefe"), b"what do ya want for nothing?");
        assert!(secret.has_signed(message, TAG) && secret.has_signed(message, &TAG.to_uppercase()));
        assert!(!secret.has_signed(b"what do ya want for nothing", TAG) && !SharedSecret::new("jefe").has_signed(message, TAG));
        for wrong in [
            "",
            "5b",
            &TAG[1..],
            &TAG[2..],
            &TAG.replace('3', "4"),
            &format!("{TAG}0"),
            &format!("{TAG}00"),
            &TAG.replace("5b", "+b"),
        ] {
            assert!(!secret.has_signed(message, wrong), "{wrong}");
        }
    }
}
