//! Against the real servers.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, sleep},
};

use super::*;

#[tokio::test]
async fn services_start_survive_a_kill_and_leave_nothing_behind() {
    let options = EphemeralOptions { durable: false, accounts: 3 };
    let mut services = Services::ephemeral(options, &Progress::Silent).await.unwrap();
    let path = services.temporary_dir().unwrap().path().to_path_buf();
    let owner = services.connections().owner.clone();
    execute(&owner, "create table kept (id int); insert into kept values (7)").await;

    let ports = ports(&services);
    let postgres = services.postgres_mut().unwrap();
    postgres.kill().await;
    assert!(PgConnection::connect(owner.expose_secret()).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(count(&owner, "select id::bigint from kept").await, 7);
    let nats = services.nats_mut().unwrap();
    nats.kill().await;
    let thief = std::net::TcpListener::bind(("127.0.0.1", nats.port())).unwrap();
    assert!(matches!(nats.restart().await, Err(Error::PortInUse { .. })));
    drop(thief);
    nats.restart().await.unwrap();
    assert_eq!(ports, self::ports(&services));

    let accounts: BTreeSet<_> = (0..3)
        .map(|account| services.nats().unwrap().url_for(account, toolgate_store::User::Operator).expose_secret().to_owned())
        .collect();
    assert_eq!(accounts.len(), 3);
    for url in &accounts {
        assert_eq!(log_in(url).await, "PONG", "{url}");
    }
    let stranger = accounts.first().unwrap().replace("t0:", "t0:not");
    assert!(log_in(&stranger).await.contains("Authorization Violation"));

    drop(services);
    await_removal(&path).await;
}

#[tokio::test]
async fn runtime_logins_have_no_way_around_row_level_security() {
    let data = DataDir::temporary().unwrap();
    let options = || PostgresOptions { durable: false, tls: None };
    let postgres = Postgres::start(&data, options(), &Progress::Silent).await.unwrap();
    let superuser = postgres.superuser_url();
    let privileged = "select count(*) from pg_roles where rolname like 'toolgate%' \
                      and (rolsuper or rolbypassrls or rolcreaterole or rolreplication)";
    assert_eq!(count(&superuser, privileged).await, 0);
    let creators = "select count(*) from pg_roles where rolname like 'toolgate%' and rolcreatedb";
    assert_eq!(count(&superuser, creators).await, 1);
    for url in [postgres.owner_url(), postgres.reader_url(), postgres.projector_url()] {
        assert_eq!(count(&url, "select 1::bigint").await, 1);
    }
    assert_eq!(count(&superuser, "select 1::bigint where current_setting('server_encoding') = 'UTF8'").await, 1);
}

#[tokio::test]
async fn the_logins_have_little_beside_the_tables() {
    let data = DataDir::temporary().unwrap();
    let options = PostgresOptions { durable: false, tls: None };
    let mut postgres = Postgres::start(&data, options.clone(), &Progress::Silent).await.unwrap();
    let reader = postgres.reader_url();
    for forbidden in ["select lo_create(0)", "select lo_from_bytea(0, 'x')", "select lo_put(1, 0, 'x')"] {
        assert!(attempt(&reader, forbidden).await.is_err(), "{forbidden}");
    }
    let elsewhere = reader.expose_secret().replace("/toolgate?", "/postgres?");
    assert!(PgConnection::connect(&elsewhere).await.is_err());
    // What a login does to itself lasts until the next start.
    execute(&reader, "alter role toolgate_reader set statement_timeout = 1").await;
    postgres.stop().await;
    drop(postgres);
    let postgres = Postgres::start(&data, options, &Progress::Silent).await.unwrap();
    let unchanged = "select count(*) from pg_roles where rolname = current_user and rolconfig is null";
    assert_eq!(count(&postgres.reader_url(), unchanged).await, 1);
}

#[tokio::test]
async fn data_outlive_the_handles_and_a_leftover_start_is_repaired() {
    let data = DataDir::temporary().unwrap();
    let options = || PostgresOptions { durable: false, tls: None };
    let mut first = Postgres::start(&data, options(), &Progress::Silent).await.unwrap();
    let url = first.owner_url();
    execute(&url, "create table kept (); ").await;
    first.stop().await;
    assert!(first.pid().is_none());
    drop(first);
    let second = Postgres::start(&data, options(), &Progress::Silent).await.unwrap();
    // The same port and password: a worker in another process finds its way back.
    assert_eq!(second.owner_url().expose_secret(), url.expose_secret());
    assert_eq!(count(&url, "select count(*) from kept").await, 0);
}

#[tokio::test]
async fn data_without_their_secret_are_refused_in_one_sentence() {
    let data = DataDir::temporary().unwrap();
    let options = || PostgresOptions { durable: false, tls: None };
    Postgres::start(&data, options(), &Progress::Silent).await.unwrap().stop().await;
    fs::remove_file(data.path().join("secret")).unwrap();
    let refused = Postgres::start(&data, options(), &Progress::Silent).await;
    assert!(matches!(refused, Err(Error::SecretLost { .. })), "{refused:?}");
}

fn ports(services: &Services) -> (u16, u16) {
    (services.postgres().unwrap().port(), services.nats().unwrap().port())
}

async fn attempt(url: &SecretString, statements: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.map(drop)
}

async fn execute(url: &SecretString, statements: &str) {
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn count(url: &SecretString, query: &str) -> i64 {
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

/// Speaks just enough of the protocol to log in; returns the server's answer to a ping.
async fn log_in(url: &str) -> String {
    let (login, address) = url.trim_start_matches("nats://").split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let connect = format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nPING\r\n");
    stream.write_all(connect.as_bytes()).await.unwrap();
    line.clear();
    stream.read_line(&mut line).await.unwrap();
    line.trim().to_owned()
}

async fn await_removal(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while path.exists() {
        assert!(Instant::now() < deadline, "{} is still there", path.display());
        sleep(Duration::from_millis(20)).await;
    }
}
