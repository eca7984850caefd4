//! `toolgate token revoke`.

use std::{io::Read, path::PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use clap::Args;
use serde::Deserialize;
use toolgate_security::Revocations;

use crate::cli::{Common, Error};

/// No `jti` that the gateway accepts is longer, in characters.
const MAX_ID_LENGTH: usize = 128;

/// Revoke one token by its `jti`; every replica refuses it within 5 seconds
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate token revoke --jti 6f1c52c4-9d1e-4a51-8f0e-3e4d0d8f7a11\n  \
                        toolgate token revoke --token-file - < token.txt")]
pub(super) struct Revoke {
    /// The token's `jti`
    #[arg(long, value_name = "ID", value_parser = token_id, required_unless_present = "token_file", conflicts_with = "token_file")]
    jti: Option<String>,
    /// A file with the token itself, whose `jti` is taken; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token's `exp` as RFC 3339 has times: the revocation is forgotten soon after, and never without it
    #[arg(long, value_name = "TIME")]
    expires_at: Option<DateTime<Utc>>,
    #[command(flatten)]
    common: Common,
}

impl Revoke {
    pub async fn run(self) -> Result<(), Error> {
        let jti = match (self.jti, self.token_file) {
            (Some(jti), _) => jti,
            (None, file) => id_of(&read(file.filter(|file| file.as_os_str() != "-"))?).map_err(Error::Token)?,
        };
        let revocations = self.common.revocations().await?;
        revocations.revoke_token(Revocations::digest(&jti), self.expires_at).await?;
        eprintln!("the token {jti:?} is revoked");
        Ok(())
    }
}

/// The file's text, or that of the standard input.
fn read(file: Option<PathBuf>) -> Result<String, Error> {
    let mut text = String::new();
    let read = match file {
        Some(path) => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
        None => std::io::stdin().read_to_string(&mut text),
    };
    read.map(|_| text).map_err(|error| Error::Token(error.to_string()))
}

/// The `jti` of a token, whoever signed it. Its `exp` is not believed: a forged one would end the revocation early.
fn id_of(token: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Claims {
        jti: Option<String>,
    }
    let payload = token.trim().split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims = payload.and_then(|json| serde_json::from_slice::<Claims>(&json).ok()).ok_or("this is no signed token")?;
    let jti = claims.jti.ok_or("it has no jti; revoke all of its tenant's tokens with `toolgate tenant revoke-tokens`")?;
    token_id(&jti)
}

fn token_id(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_ID_LENGTH).contains(&text.chars().count()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a jti is 1 to 128 printable characters".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_id() {
        let token = |claims: &str| format!("x.{}.x\n", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(id_of(&token(r#"{"jti": "a", "exp": 1}"#)), Ok("a".to_owned()));
        assert!(id_of(&token("{}")).unwrap_err().contains("revoke-tokens"));
        for wrong in ["", "x", "x.?.x", &token("[]"), &token(r#"{"jti": 1}"#), &token(r#"{"jti": ""}"#)] {
            assert!(id_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_has_bounds() {
        assert!(token_id(&"é".repeat(128)).is_ok());
        for wrong in ["", "a\nb", &"é".repeat(129)] {
            assert!(token_id(wrong).is_err(), "{wrong}");
        }
    }
}
