use std::{error::Error as _, fmt, fs::File, io, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, Event, ServerAddr,
    rustls::{self, AlertDescription, CertificateError},
};
use percent_encoding::percent_decode_str;

use crate::{LogError, User};

/// How to reach the broker, and as whom.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// `nats://` or, to insist on TLS, `tls://`; with user and password, or a token.
    pub url: &'a str,
    /// Whose inbox to use.
    pub user: User,
    pub tls: &'a TlsFiles,
}

/// Files (PEM) for a TLS connection. Naming any of them insists on TLS, whatever the URL says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom to trust; the system's authorities when absent.
    pub ca: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    pub const NONE: &'static Self = &Self { ca: None, certificate: None };

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca.iter().chain(self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]))
    }
}

/// Connects, and reconnects for ever.
pub(crate) async fn connect(login: Login<'_>) -> Result<Client, LogError> {
    let given: ServerAddr = login.url.parse().map_err(|error| LogError::Url(format!("{error}")))?;
    let address = without_login(&given)?;
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let mut options = async_nats::ConnectOptions::new()
        .name(login.user.name())
        .custom_inbox_prefix(login.user.inbox())
        .event_callback(|event| async move { report(&event) })
        .reconnect_delay_callback(|attempts| Duration::from_millis(100 * attempts.min(10) as u64));
    match (given.username(), given.password()) {
        (Some(user), Some(password)) => options = options.user_and_password(decoded(user), decoded(password)),
        (Some(token), None) => options = options.token(decoded(token)),
        (None, _) => {}
    }
    for path in login.tls.all() {
        // The client would not say which file it cannot read.
        File::open(path).map_err(|source| LogError::TlsFile { path: path.clone(), source })?;
    }
    if let Some(ca) = &login.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &login.tls.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if given.tls_required() || login.tls != TlsFiles::NONE {
        // For every server of a cluster, not only for the one in the URL.
        options = options.require_tls(true);
    }
    let server = format!("{}:{}", given.host(), given.port());
    options.connect(address).await.map_err(|error| refused(server, error))
}

/// The address alone: the client logs it.
fn without_login(given: &ServerAddr) -> Result<ServerAddr, LogError> {
    let mut url = given.clone().into_inner();
    // It fails only for a URL that cannot have a login.
    let _removed = (url.set_username(""), url.set_password(None));
    ServerAddr::from_url(url).map_err(|error| LogError::Url(error.to_string()))
}

fn report(event: &Event) {
    match event {
        Event::Connected => tracing::debug!("connected to NATS"),
        Event::ServerError(_) | Event::SlowConsumer(_) => tracing::warn!(event = %event, "NATS refused something"),
        event => tracing::info!(event = %event, "the connection to NATS has changed"),
    }
}

fn refused(server: String, error: ConnectError) -> LogError {
    if error.kind() == ConnectErrorKind::AuthorizationViolation {
        return LogError::Login { server };
    }
    match tls_error(&error) {
        Some(reason) => LogError::Tls { server, reason: explain(reason) },
        None => LogError::Connect(error),
    }
}

/// What TLS says is wrong, however deep below the client's own errors.
fn tls_error(error: &ConnectError) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => match inner.downcast_ref::<rustls::Error>() {
                Some(error) => return Some(error),
                None => Some(inner),
            },
            None => error.source(),
        };
    }
    None
}

fn explain(error: &rustls::Error) -> String {
    use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer};
    let reason = match error {
        rustls::Error::InvalidMessage(_) => "it does not speak TLS",
        rustls::Error::InvalidCertificate(UnknownIssuer) => "its certificate is from no authority that is trusted here",
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is for another host name"
        }
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "its certificate has expired",
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => "it asks for a client certificate",
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => "it does not accept our client certificate",
        other => return other.to_string(),
    };
    reason.to_owned()
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("tls", self.tls).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_is_logged_has_no_password() {
        for (given, address) in [
            ("nats://user:secret@127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("tls://token@[::1]:4222", "tls://[::1]:4222"),
            ("nats.example.com", "nats://nats.example.com"),
        ] {
            let given: ServerAddr = given.parse().unwrap();
            assert_eq!(without_login(&given).unwrap().as_url_str(), address);
        }
    }

    #[test]
    fn a_login_does_not_show_its_password() {
        let login = Login { url: "nats://user:secret@host", user: User::Worker, tls: TlsFiles::NONE };
        assert!(!format!("{login:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_without_being_repeated() {
        for url in ["nats://u:secret@host:notaport", "http://u:secret@host", "nats://u:secret@"] {
            let refused = connect(Login { url, user: User::Operator, tls: TlsFiles::NONE }).await.unwrap_err();
            assert!(matches!(refused, LogError::Url(_)), "{refused:?}");
            assert!(!format!("{refused} {refused:?}").contains("secret"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_named() {
        let tls = TlsFiles { ca: Some("/nowhere/ca.pem".into()), certificate: None };
        let refused = connect(Login { url: "nats://127.0.0.1:1", user: User::Operator, tls: &tls }).await.unwrap_err();
        assert!(refused.to_string().contains("/nowhere/ca.pem"), "{refused}");
    }
}
