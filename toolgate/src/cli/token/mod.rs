//! `toolgate token`.

mod revoke;

use std::io::Write;

use chrono::{Duration, Utc};
use clap::{Args, Subcommand};
use serde_json::Value;
use uuid::Uuid;

use super::{Common, Error};
use crate::{
    dev_issuer::{Claims, DEMO_TENANT, DevIssuer},
    settings::Profile,
};

/// The longest lifetime, in seconds: a year.
const LONGEST: i64 = 366 * 24 * 3600;

/// Print a development token, signed with the key that `up` made, or revoke a token
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  TOKEN=$(toolgate token --tenant demo --role agent)"
)]
pub(super) struct Token {
    #[command(subcommand)]
    action: Option<Action>,
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant, required = true)]
    tenant: Option<Uuid>,
    /// Roles, separated by commas
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', required = true)]
    role: Vec<String>,
    /// Who the token is for
    #[arg(long, default_value = "developer")]
    sub: String,
    /// The session the calls belong to
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Seconds until the token expires
    #[arg(long, value_name = "SECS", default_value_t = 3600, value_parser = clap::value_parser!(i64).range(1..=LONGEST))]
    ttl: i64,
    /// Sets any claim to a JSON value; null removes it
    #[arg(long, value_name = "NAME=JSON", value_parser = claim)]
    claim: Vec<(String, Value)>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Action {
    Revoke(revoke::Revoke),
}

impl Token {
    pub async fn run(mut self) -> Result<(), Error> {
        match (self.action.take(), self.tenant) {
            (Some(Action::Revoke(revoke)), _) => revoke.run().await,
            (None, Some(tenant)) => self.mint(tenant),
            // The parser lets nobody come here.
            (None, None) => Err(Error::Token("--tenant is missing".to_owned())),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the command line is where a token gets its time and its id")]
    fn mint(self, tenant: Uuid) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        let token = DevIssuer::load(&settings.data_dir)?.mint(&Claims {
            issuer: settings.issuer,
            audience: settings.audience,
            subject: self.sub,
            tenant,
            roles: self.role,
            session: self.session,
            issued_at: Utc::now(),
            lifetime: Duration::seconds(self.ttl),
            id: Uuid::new_v4(),
            overrides: self.claim,
        })?;
        writeln!(std::io::stdout(), "{token}").map_err(Error::Output)
    }
}

pub(super) fn tenant(text: &str) -> Result<Uuid, String> {
    match text {
        "demo" => Ok(DEMO_TENANT),
        text => text.parse().map_err(|_| "expected a uuid or the word demo".to_owned()),
    }
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, json) = text.split_once('=').ok_or("expected NAME=JSON, such as roles=[\"agent\"]")?;
    let value = serde_json::from_str(json).map_err(|error| format!("{json} is not JSON ({error}); text needs quotes"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_is_a_tenant_and_anything_else_must_be_a_uuid() {
        assert_eq!(tenant("demo"), Ok(DEMO_TENANT));
        assert_eq!(tenant(&DEMO_TENANT.to_string()), Ok(DEMO_TENANT));
        assert!(tenant("acme").is_err());
    }

    #[test]
    fn claims_are_json() {
        assert_eq!(claim("exp=5"), Ok(("exp".to_owned(), Value::from(5))));
        assert_eq!(claim("aud=null"), Ok(("aud".to_owned(), Value::Null)));
        assert!(claim("aud=toolgate").unwrap_err().contains("quotes"));
        assert!(claim("aud").is_err());
    }
}
