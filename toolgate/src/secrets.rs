//! The secrets that this process is configured with, and what keeps them out of its words.

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use secrecy::{ExposeSecret, SecretString};
use toolgate_security::Redactor;

use crate::{services::Connections, settings::Settings};

/// The standard error without secrets. A log line is one write.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Stderr {
    /// What it hides: it belongs to the process, as the standard error does.
    pub fn redactor() -> &'static Redactor {
        static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::default);
        &REDACTOR
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        io::stderr().write_all(Self::redactor().redact(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What outcomes must not hold.
pub fn redactor(settings: &Settings, connections: &Connections) -> Redactor {
    let redactor = Redactor::default();
    learn_settings(&redactor, settings);
    learn_connections(&redactor, connections);
    redactor
}

/// Learns every secret among the settings.
pub fn learn_settings(redactor: &Redactor, settings: &Settings) {
    if let Some(secret) = &settings.cursor_secret {
        redactor.learn(secret.expose_secret());
    }
    for secret in [&settings.task_webhook_secret, &settings.audit_checkpoint_secret].into_iter().flatten() {
        redactor.learn(secret.expose_secret().trim_start_matches("whsec_"));
    }
    let secrets = [&settings.basehub_token, &settings.basehub_webhook_secret];
    // BaseHub shows a name and a colon in front of a webhook's secret, which is what signs.
    let last_part =
        |secret: &SecretString| secret.expose_secret().rsplit(':').next().into_iter().for_each(|part| redactor.learn(part));
    secrets.into_iter().flatten().for_each(last_part);
    let urls = [
        &settings.database_url,
        &settings.database_url_reader,
        &settings.database_url_projector,
        &settings.nats_url,
        &settings.nats_url_command_api,
        &settings.nats_url_query_api,
        &settings.nats_url_worker,
        &settings.nats_url_projector,
    ];
    urls.into_iter().flatten().for_each(|url| redactor.learn_url(url.expose_secret()));
    for server in settings.mcp.values() {
        server.headers.values().chain(server.env.values()).for_each(|secret| learn_header(redactor, secret.expose_secret()));
        if let Some(url) = &server.url {
            redactor.learn_url(url);
        }
    }
    [&settings.jwks_url, &settings.basehub_url, &settings.audit_checkpoint_url]
        .into_iter()
        .flatten()
        .for_each(|url| redactor.learn_url(url));
}

/// A value, and what is the secret in it where that is preceded by a scheme (RFC 9110, section 11.4).
fn learn_header(redactor: &Redactor, value: &str) {
    redactor.learn(value);
    if let Some((_, credentials)) = value.split_once(' ') {
        redactor.learn(credentials.trim());
    }
}

/// Learns the passwords of the services, also of those that toolgate has started itself.
pub fn learn_connections(redactor: &Redactor, connections: &Connections) {
    let Connections { nats, nats_roles, nats_tls: _, owner, reader, projector } = connections;
    [nats, owner, reader, projector]
        .into_iter()
        .chain(nats_roles.values())
        .for_each(|url| redactor.learn_url(url.expose_secret()));
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use toolgate_store::{TlsFiles, User};

    use super::*;
    use crate::settings::Profile;

    #[test]
    fn every_configured_secret_is_hidden() {
        let mut settings = Settings::load(Profile::Server, vec![]).unwrap();
        let url = |name: &str| Some(format!("x://u:canary-of-{name}@h/").into());
        settings.cursor_secret = Some("canary-of-cursor".to_owned().into());
        settings.task_webhook_secret = Some("canary-of-webhook".to_owned().into());
        settings.audit_checkpoint_secret = Some("whsec_canary-of-checkpoints".to_owned().into());
        settings.audit_checkpoint_url = Some("https://u:canary-of-receiver@h/".to_owned());
        settings.database_url = url("owner");
        settings.database_url_reader = url("reader");
        settings.database_url_projector = url("projector");
        settings.nats_url = url("nats");
        settings.nats_url_command_api = url("commands");
        settings.nats_url_query_api = url("queries");
        settings.nats_url_worker = url("worker");
        settings.nats_url_projector = url("projecting");
        settings.basehub_token = Some("canary-of-basehub".to_owned().into());
        settings.basehub_webhook_secret = Some("bshb_workflow_1:canary-of-invalidation".to_owned().into());
        settings.basehub_url = Some("https://u:canary-of-content@h/".to_owned());
        settings.jwks_url = Some("https://u:canary-of-keys@h/".to_owned());
        let servers = r#"{"a": {"url": "https://h/?token=x", "headers": {"Authorization": "Bearer canary-of-header"}},
                           "b": {"command": "x", "env": {"KEY": "canary-of-variable"}}}"#;
        settings.mcp = serde_json::from_str(servers).unwrap();
        let connection = |name: &str| format!("x://u:canary-of-connection-{name}@h/").into();
        let connections = Connections {
            nats: connection("a"),
            nats_roles: HashMap::from([(User::Worker, connection("e"))]),
            nats_tls: TlsFiles::default(),
            owner: connection("b"),
            reader: connection("c"),
            projector: connection("d"),
        };
        let redactor = redactor(&settings, &connections);
        let names = [
            "cursor",
            "owner",
            "reader",
            "projector",
            "nats",
            "commands",
            "queries",
            "worker",
            "projecting",
            "keys",
            "basehub",
            "webhook",
            "checkpoints",
            "receiver",
            "invalidation",
            "content",
            "header",
            "variable",
        ];
        let connections = ["a", "b", "c", "d", "e"].map(|name| format!("connection-{name}"));
        for name in names.into_iter().map(str::to_owned).chain(connections) {
            assert_eq!(redactor.redact(&format!("<canary-of-{name}>")), "<[redacted]>");
        }
        assert_eq!(redactor.redact("<canary-of-nobody>"), "<canary-of-nobody>");
    }
}
