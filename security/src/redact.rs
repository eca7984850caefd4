//! Keeps credentials out of what is written down: log lines, outcomes, problems.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::BTreeSet,
    fmt,
    sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use regex::{Captures, Regex, RegexBuilder};
use serde_json::Value;
use url::Url;

const REDACTED: &str = "[redacted]";
/// Anything shorter is found in ordinary text.
const MIN_LENGTH: usize = 8;
/// Bytes of a compiled pattern at the most: some ten thousand secrets.
const MAX_PATTERN: usize = 256 * 1024 * 1024;
/// Everything that RFC 3986, section 2.3, does not call unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What looks like a credential, whoever's it is: a JSON Web Token (RFC 7515), what follows `Bearer` (RFC 6750), and the password
/// of a URL.
const CREDENTIALS: &str = r#"(?<jwt>eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{8,}){1,4})|(?<scheme>[Bb][Ee][Aa][Rr][Ee][Rr](?:[ \t]|%20)+)(?<bearer>[A-Za-z0-9._~+/-]{16,}=*)|(?<user>://[^/?\#@: \t\r\n"'<>]*:)[^/?\#@ \t\r\n"'<>]+@"#;

/// Replaces known secrets, and anything that looks like a credential, by `[redacted]`. A new one knows no secret, and clones share
/// what they know.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    forms: BTreeSet<String>,
    /// Made when it is first needed, so that learning is cheap.
    pattern: OnceLock<Regex>,
}

/// A secret in every form in which text may hold it: as it is, escaped as in JSON, percent-encoded, and anywhere within base64.
#[derive(Clone)]
pub struct SecretForms(Vec<String>);

impl Redactor {
    /// From now on `secret` is replaced as well. One of fewer than 8 bytes would be found in ordinary text and is ignored.
    pub fn learn(&self, secret: &str) {
        if secret.len() < MIN_LENGTH {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.forms.extend(SecretForms::of(secret).0);
        known.pattern = OnceLock::new();
    }

    /// Learns what a connection URL keeps secret: its password, as it is written and as it is meant; without one, a user that is
    /// long enough to be a token.
    pub fn learn_url(&self, url: &str) {
        let Ok(url) = Url::parse(url) else { return };
        // PostgreSQL's URLs may carry it there too.
        url.query_pairs().filter(|(name, _)| name == "password").for_each(|(_, password)| self.learn(&password));
        let secret = match url.password() {
            Some(password) => password,
            None => url.username(),
        };
        // A password that is no more than the login's own name protects nothing, and would be found everywhere.
        if url.password().is_some_and(|password| password == url.username()) || (url.password().is_none() && secret.len() < 16) {
            return;
        }
        self.learn(secret);
        self.learn(&percent_decode_str(secret).decode_utf8_lossy());
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.pattern.get_or_init(|| pattern(&known.forms)).replace_all(text, replacement)
    }

    /// Redacts every string of a document, names of members included.
    pub fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.redact(text) {
                    *text = redacted;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Object(members) => {
                if members.keys().any(|name| matches!(self.redact(name), Cow::Owned(_))) {
                    let renamed = std::mem::take(members).into_iter();
                    *members = renamed.map(|(name, value)| (self.redact(&name).into_owned(), value)).collect();
                }
                members.values_mut().for_each(|member| self.redact_value(member));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Replaces what looks like a credential, where no secret is known.
pub fn redact_credentials(text: &str) -> Cow<'_, str> {
    static CREDENTIALS_ONLY: LazyLock<Redactor> = LazyLock::new(Redactor::default);
    CREDENTIALS_ONLY.redact(text)
}

fn pattern(forms: &BTreeSet<String>) -> Regex {
    // The longest first, so that a secret that begins like another is replaced whole.
    let mut forms: Vec<_> = forms.iter().collect();
    forms.sort_by_key(|form| Reverse(form.len()));
    let alternatives: Vec<_> = forms.into_iter().map(|form| regex::escape(form)).chain([CREDENTIALS.to_owned()]).collect();
    match RegexBuilder::new(&alternatives.join("|")).size_limit(MAX_PATTERN).build() {
        Ok(pattern) => pattern,
        Err(error) => unreachable!("escaped text and a constant, of a bounded size: {error}"),
    }
}

fn replacement(found: &Captures<'_>) -> String {
    if let (Some(scheme), Some(token)) = (found.name("scheme"), found.name("bearer")) {
        // "bearer responsibilities" is no credential.
        let is_word = token.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        return if is_word { found[0].to_owned() } else { format!("{}{REDACTED}", scheme.as_str()) };
    }
    match found.name("user") {
        Some(user) => format!("{}{REDACTED}@", user.as_str()),
        None => REDACTED.to_owned(),
    }
}

impl SecretForms {
    pub fn of(secret: &str) -> Self {
        let escaped = Value::from(secret).to_string();
        let percent = utf8_percent_encode(secret, RESERVED).to_string();
        let mut forms = vec![secret.to_owned(), escaped[1..escaped.len() - 1].to_owned(), lower_escapes(&percent), percent];
        // Three bytes become four characters, so what a secret looks like depends on how many bytes stand before it. The
        // characters that its neighbours have a share in are left out.
        for before in 0..3 {
            let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(secret.bytes()).collect();
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let encoded = engine.encode(&bytes);
                let core = encoded.get((before * 8).div_ceil(6)..bytes.len() * 8 / 6);
                forms.extend(core.map(str::to_owned));
            }
        }
        forms.sort();
        forms.dedup();
        Self(forms)
    }

    /// Whether `text` holds the secret in any form.
    pub fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|form| text.contains(form.as_str()))
    }
}

fn lower_escapes(percent: &str) -> String {
    let mut lower = String::with_capacity(percent.len());
    let mut digits = 0;
    for c in percent.chars() {
        lower.push(if digits > 0 { c.to_ascii_lowercase() } else { c });
        digits = if c == '%' { 2 } else { i32::max(digits - 1, 0) };
    }
    lower
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl fmt::Debug for SecretForms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretForms")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "p@ss/w\"rd+Zürich";

    fn knowing(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        secrets.iter().for_each(|secret| redactor.learn(secret));
        redactor
    }

    #[test]
    fn a_known_secret_is_found_in_every_form() {
        let redactor = knowing(&[SECRET]);
        for text in [SECRET, "p@ss/w\\\"rd+Zürich", "p%40ss%2Fw%22rd%2BZ%C3%BCrich", "p%40ss%2fw%22rd%2bZ%c3%bcrich"] {
            assert_eq!(redactor.redact(&format!("a {text} b")), "a [redacted] b", "{text}");
        }
        assert_eq!(redactor.redact("nothing to see"), "nothing to see");
        assert!(matches!(redactor.redact("nothing to see"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_known_secret_is_found_anywhere_within_base64() {
        let redactor = knowing(&["canary-secret-1"]);
        for user in ["", "a", "ab", "abc", "abcd:"] {
            for rest in ["", "x", "xy", "xyz"] {
                for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    let text = engine.encode(format!("{user}canary-secret-1{rest}"));
                    let redacted = redactor.redact(&text);
                    assert!(redacted.contains(REDACTED) && redacted.len() <= text.len(), "{user} {rest}: {redacted}");
                    // Of the secret not more than its outermost characters are left.
                    let left: usize = redacted.split(REDACTED).map(str::len).sum();
                    assert!(left <= (user.len() + rest.len()) * 8 / 6 + 4, "{user} {rest}: {redacted}");
                }
            }
        }
    }

    #[test]
    fn both_alphabets_of_base64_are_known() {
        let secret = "???>>>???>>>";
        let (standard, url_safe) = (STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret));
        assert_ne!(standard, url_safe);
        let redactor = knowing(&[secret]);
        assert_eq!(redactor.redact(&format!("{standard} {url_safe}")), "[redacted] [redacted]");
        assert!(SecretForms::of(secret).are_in(&url_safe) && !SecretForms::of(secret).are_in(&url_safe[1..]));
        // Too short to be a secret, and no reason to panic.
        assert!(["", "a", "ab"].iter().all(|short| SecretForms::of(short).are_in("ab")));
    }

    #[test]
    fn short_secrets_are_left_alone_and_long_ones_found_whole() {
        let redactor = knowing(&["1234567", "12345678", "12345678-and-more"]);
        assert_eq!(redactor.redact("1234567"), "1234567");
        assert_eq!(redactor.redact("12345678"), REDACTED);
        assert_eq!(redactor.redact("12345678-and-more"), REDACTED);
        assert_eq!(redactor.redact("12345678-and-less"), "[redacted]-and-less");
    }

    #[test]
    fn what_looks_like_a_credential_is_none_the_less_one() {
        let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
        for (text, redacted) in [
            (format!("x {token} y"), "x [redacted] y"),
            (format!("token={token}&a"), "token=[redacted]&a"),
            (token.rsplit_once('.').unwrap().0.to_owned(), "[redacted]"),
            (format!("Authorization: Bearer {token}"), "Authorization: Bearer [redacted]"),
            ("bearer 0123456789abcdef==".to_owned(), "bearer [redacted]"),
            ("Bearer%200123456789abcdef".to_owned(), "Bearer%20[redacted]"),
            ("\"BEARER  abcdefghijklmnoP\"".to_owned(), "\"BEARER  [redacted]\""),
            ("postgres://u:hunter2@h/d".to_owned(), "postgres://u:[redacted]@h/d"),
            ("nats://:p@h, https://a:b:c@d".to_owned(), "nats://:[redacted]@h, https://a:[redacted]@d"),
        ] {
            assert_eq!(redact_credentials(&text), redacted);
        }
        for harmless in [
            "the bearer responsibilities-of-office",
            "Bearer <token>",
            "Bearer 0123456789abcde",
            "https://h:80/a@b",
            "eyJhbGciOiJ.x",
            "a://b/c:d@e",
            "postgres://user@h/d",
            "12:30 a@b",
        ] {
            assert_eq!(redact_credentials(harmless), harmless);
        }
    }

    #[test]
    fn connection_urls_tell_what_to_hide() {
        let learnt = |url: &str, text: &str| {
            let redactor = Redactor::default();
            redactor.learn_url(url);
            redactor.redact(text).into_owned()
        };
        assert_eq!(learnt("postgres://u:a%40b%2Fcdefg@h/d", "a@b/cdefg a%40b%2Fcdefg"), "[redacted] [redacted]");
        assert_eq!(learnt("postgres://u@h/d?sslmode=require&password=a%40bcdefgh", "a@bcdefgh"), REDACTED);
        assert_eq!(learnt("nats://0123456789abcdef@h", "0123456789abcdef"), REDACTED);
        assert_eq!(learnt("nats://0123456789abcde@h", "0123456789abcde"), "0123456789abcde");
        assert_eq!(learnt("postgres://toolgate:toolgate@h/d", "toolgate"), "toolgate");
        assert_eq!(learnt("postgres://toolgate_owner@h/d", "toolgate_owner"), "toolgate_owner");
        assert_eq!(learnt("no url", "no url"), "no url");
    }

    #[test]
    fn documents_are_redacted_in_values_and_names() {
        let redactor = knowing(&["canary-secret-1"]);
        let mut document = json!({
            "a": ["x canary-secret-1", {"b canary-secret-1": "canary-secret-1", "n": 1}], "t": true, "z": null, "plain": "text",
        });
        redactor.redact_value(&mut document);
        let expected =
            json!({"a": ["x [redacted]", {"b [redacted]": "[redacted]", "n": 1}], "t": true, "z": null, "plain": "text"});
        assert_eq!(document, expected);
    }

    #[test]
    fn clones_share_what_they_know() {
        let redactor = Redactor::default();
        let clone = redactor.clone();
        assert_eq!(clone.redact("canary-secret-1"), "canary-secret-1");
        redactor.learn("canary-secret-1");
        assert_eq!(clone.redact("canary-secret-1"), REDACTED);
        assert!(!format!("{clone:?} {:?}", SecretForms::of("canary-secret-1")).contains("canary"));
    }

    #[test]
    fn large_text_is_no_trouble() {
        let redactor = knowing(&["canary-secret-1", SECRET]);
        let text = "eyJ Bearer :// canary-secret- ".repeat(100_000);
        assert_eq!(redactor.redact(&text), text);
    }
}
