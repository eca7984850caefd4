//! TLS to both services, against servers that speak it. Every refusal is one sentence, and none shows a password.

use std::path::PathBuf;

use secrecy::ExposeSecret;
use toolgate::{
    migrations,
    services::{DataDir, Nats, NatsOptions, Postgres, PostgresOptions, Progress, ServerTls},
};
use toolgate_store::{Log, LogOptions, Login, TlsFiles, User};

use super::set_up::toolgate;
use crate::app::{Authority, PARTITIONS, server_tls};

async fn nats(data: &DataDir, tls: Option<ServerTls>) -> Nats {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let options = NatsOptions { durable: false, accounts: 0, partitions: PARTITIONS, tls };
    Nats::start(data, options, &Progress::Silent).await.unwrap()
}

/// The operator's URL with another scheme and host.
fn url(nats: &Nats, scheme: &str, host: &str) -> String {
    nats.url().expose_secret().replace("nats://", &format!("{scheme}://")).replace("127.0.0.1", host)
}

async fn open(url: &str, tls: &TlsFiles) -> Result<Log, String> {
    let options = LogOptions { partitions: PARTITIONS, ..LogOptions::default() };
    let login = Login { url, user: User::Operator, tls };
    let password = url.split_once('@').unwrap().0.rsplit(':').next().unwrap();
    Log::set_up(login, &options).await.map_err(|error| {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(password), "{shown}");
        error.to_string()
    })
}

fn trusting(authority: &Authority) -> TlsFiles {
    TlsFiles { ca: Some(authority.ca()), certificate: None }
}

fn showing(authority: &Authority, certificate: (PathBuf, PathBuf)) -> TlsFiles {
    TlsFiles { ca: Some(authority.ca()), certificate: Some(certificate) }
}

#[tokio::test]
async fn nats_is_trusted_only_with_a_valid_certificate_of_a_known_authority() {
    let (data, authority, stranger) = (DataDir::temporary().unwrap(), Authority::new(), Authority::new());
    let server = nats(&data, Some(server_tls(authority.issue("localhost"), None))).await;
    let right = url(&server, "tls", "localhost");
    let server_name = right.split_once('@').unwrap().1;
    assert!(open(&right, &trusting(&authority)).await.unwrap().is_connected());
    // Naming the authority is asking for TLS.
    assert!(open(&url(&server, "nats", "localhost"), &trusting(&authority)).await.is_ok());

    let refusal = |reason: &str| format!("the NATS server {server_name} is not to be trusted: {reason}");
    let unknown = refusal("its certificate is from no authority that is trusted here");
    assert_eq!(open(&right, &trusting(&stranger)).await.unwrap_err(), unknown);
    assert_eq!(open(&right, TlsFiles::NONE).await.unwrap_err(), unknown);
    let wrong_host = open(&url(&server, "tls", "127.0.0.1"), &trusting(&authority)).await.unwrap_err();
    assert!(wrong_host.contains("is not to be trusted: its certificate is for another host name"), "{wrong_host}");
    drop(server);

    let data = DataDir::temporary().unwrap();
    let server = nats(&data, Some(server_tls(authority.issue_expired("localhost"), None))).await;
    let expired = open(&url(&server, "tls", "localhost"), &trusting(&authority)).await.unwrap_err();
    assert!(expired.contains("is not to be trusted: its certificate has expired"), "{expired}");
}

#[tokio::test]
async fn nats_without_tls_is_refused_when_tls_is_asked_for() {
    let (data, authority) = (DataDir::temporary().unwrap(), Authority::new());
    let server = nats(&data, None).await;
    assert!(open(&url(&server, "nats", "localhost"), TlsFiles::NONE).await.is_ok());
    let certificate = showing(&authority, authority.issue("toolgate"));
    for (scheme, tls) in
        [("tls", TlsFiles::NONE), ("tls", &trusting(&authority)), ("nats", &trusting(&authority)), ("nats", &certificate)]
    {
        let refused = open(&url(&server, scheme, "localhost"), tls).await.unwrap_err();
        assert!(refused.contains("is not to be trusted: it does not speak TLS"), "{scheme} {tls:?}: {refused}");
    }
}

#[tokio::test]
async fn nats_that_asks_for_a_client_certificate_gets_the_right_one() {
    let (data, authority, stranger) = (DataDir::temporary().unwrap(), Authority::new(), Authority::new());
    let server = nats(&data, Some(server_tls(authority.issue("localhost"), Some(&authority)))).await;
    let right = url(&server, "tls", "localhost");
    assert!(open(&right, &showing(&authority, authority.issue("toolgate"))).await.is_ok());
    let none = open(&right, &trusting(&authority)).await.unwrap_err();
    assert!(none.ends_with("it asks for a client certificate"), "{none}");
    let strange = open(&right, &showing(&authority, stranger.issue("toolgate"))).await.unwrap_err();
    assert!(strange.ends_with("it does not accept our client certificate"), "{strange}");
}

async fn postgres(data: &DataDir, tls: Option<ServerTls>) -> Postgres {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Postgres::start(data, PostgresOptions { durable: false, tls }, &Progress::Silent).await.unwrap()
}

fn database_url(postgres: &Postgres, host: &str, parameters: &str) -> String {
    postgres.owner_url().expose_secret().replace("127.0.0.1", host).replace("sslmode=disable", parameters)
}

async fn migrate(url: &str) -> Result<(), String> {
    let password = url.split_once('@').unwrap().0.rsplit(':').next().unwrap();
    migrations::migrate(&url.into()).await.map_err(|error| {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(password), "{shown}");
        error.to_string()
    })
}

#[tokio::test]
async fn postgres_is_trusted_only_with_a_valid_certificate_of_a_known_authority() {
    let (data, authority, stranger) = (DataDir::temporary().unwrap(), Authority::new(), Authority::new());
    let verify = |authority: &Authority| format!("sslmode=verify-full&sslrootcert={}", authority.ca().display());
    let mut server = postgres(&data, Some(server_tls(authority.issue("localhost"), None))).await;
    migrate(&database_url(&server, "localhost", &verify(&authority))).await.unwrap();
    for (host, parameters, reason) in [
        ("localhost", verify(&stranger), "UnknownIssuer"),
        ("127.0.0.1", verify(&authority), "certificate not valid for name"),
        ("localhost", "sslmode=disable".to_owned(), "no encryption"),
    ] {
        let refused = migrate(&database_url(&server, host, &parameters)).await.unwrap_err();
        assert!(refused.starts_with("cannot connect to the database as its owner: ") && refused.contains(reason), "{refused}");
    }
    server.stop().await;
    let mut server = postgres(&data, Some(server_tls(authority.issue_expired("localhost"), None))).await;
    let expired = migrate(&database_url(&server, "localhost", &verify(&authority))).await.unwrap_err();
    assert!(expired.contains("certificate expired"), "{expired}");
    server.stop().await;
    let server = postgres(&data, None).await;
    let plaintext = migrate(&database_url(&server, "localhost", &verify(&authority))).await.unwrap_err();
    assert!(plaintext.contains("server does not support TLS"), "{plaintext}");
}

#[tokio::test]
async fn postgres_that_asks_for_a_client_certificate_gets_the_right_one() {
    let (data, authority, stranger) = (DataDir::temporary().unwrap(), Authority::new(), Authority::new());
    let server = postgres(&data, Some(server_tls(authority.issue("localhost"), Some(&authority)))).await;
    let verify = format!("sslmode=verify-full&sslrootcert={}", authority.ca().display());
    let showing =
        |(certificate, key): (PathBuf, PathBuf)| format!("{verify}&sslcert={}&sslkey={}", certificate.display(), key.display());
    migrate(&database_url(&server, "localhost", &showing(authority.issue("toolgate")))).await.unwrap();
    let none = migrate(&database_url(&server, "localhost", &verify)).await.unwrap_err();
    assert!(none.contains("certificate"), "{none}");
    let strange = migrate(&database_url(&server, "localhost", &showing(stranger.issue("toolgate")))).await.unwrap_err();
    assert!(strange.starts_with("cannot connect to the database as its owner: "), "{strange}");
}

#[tokio::test]
async fn the_settings_reach_both_connections() {
    let (data, authority) = (DataDir::temporary().unwrap(), Authority::new());
    let certificate = || server_tls(authority.issue("localhost"), Some(&authority));
    let (nats, postgres) = tokio::join!(nats(&data, Some(certificate())), postgres(&data, Some(certificate())));
    let (ca, (shown, key)) = (authority.ca(), authority.issue("toolgate"));
    let [ca, shown, key] = [&ca, &shown, &key].map(|path| path.display().to_string());
    let parameters = format!("sslmode=verify-full&sslrootcert={ca}&sslcert={shown}&sslkey={key}");
    let (nats, database) = (url(&nats, "tls", "localhost"), database_url(&postgres, "localhost", &parameters));
    let mut variables = vec![("NATS_URL", nats.as_str()), ("DATABASE_URL", database.as_str())];
    variables.extend([
        ("TOOLGATE_NATS_CA_FILE", ca.as_str()),
        ("TOOLGATE_NATS_CERT_FILE", &shown),
        ("TOOLGATE_NATS_KEY_FILE", &key),
    ]);
    let ended = toolgate("migrate", &variables).output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let ended = toolgate("migrate", &variables[..2]).output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("is from no authority that is trusted here"), "{said}");
}
