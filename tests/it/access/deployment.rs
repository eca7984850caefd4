//! `deploy/` and `compose.yaml`: what an operator starts from must be what the code needs.

use std::{fs, path::PathBuf, process::Output};

use secrecy::SecretString;
use toolgate::services::{DataDir, Nats, NatsOptions, Progress, permission_table, permission_variables};
use toolgate_store::{Log, LogError, LogOptions, Login, TlsFiles, User};

use crate::app::{RawNats, eventually, free_port, leashed};

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Every password that `deploy/nats.conf` takes from the environment.
fn passwords() -> Vec<(String, String)> {
    let variable = |user: User| user.name().to_uppercase().replacen("TOOLGATE", "NATS_PASSWORD", 1);
    let users = [User::Operator].into_iter().chain(User::ROLES);
    // Digits alone, as an operator may choose: in quotes they are text.
    users.zip(1001..).map(|(user, number): (_, u32)| (variable(user), format!("\"{number}\""))).collect()
}

#[test]
fn the_permissions_and_their_table_are_those_of_the_code() {
    let kept = fs::read_to_string(repository("deploy/nats-permissions.conf")).unwrap();
    assert!(kept == permission_variables(), "deploy/nats-permissions.conf: run `cargo run -- schema`");
    let page = fs::read_to_string(repository("docs/security/services.md")).unwrap();
    assert!(page.contains(&permission_table()), "docs/security/services.md should contain:\n{}", permission_table());
}

#[test]
fn the_deployed_database_is_locked_down_like_a_private_one() {
    let read = |path: &str| fs::read_to_string(repository(path)).unwrap();
    let own = read("toolgate/src/services/lock_down.sql");
    let block = &own[own.find("do $$").unwrap()..];
    assert!(read("deploy/postgres-init.sh").contains(block.trim_end()), "deploy/postgres-init.sh should contain:\n{block}");
}

#[tokio::test]
async fn the_deployed_server_gives_each_role_what_it_needs_and_no_more() {
    let data = DataDir::temporary().unwrap();
    let options = NatsOptions { durable: false, accounts: 0, partitions: 1, tls: None };
    let private = Nats::start(&data, options, &Progress::Silent).await.unwrap();
    let config = repository("deploy/nats.conf");
    let checked: Output = tokio::process::Command::new(private.program())
        .arg("-t")
        .arg("-c")
        .arg(&config)
        .envs(passwords())
        .output()
        .await
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    // The same on free ports, with its data where a test's may be.
    let port = free_port();
    let here = fs::read_to_string(&config).unwrap();
    let here = here.replace("0.0.0.0:4222", &format!("127.0.0.1:{port}")).replace("8222\"", &format!("{}\"", free_port()));
    let here = here.replace("\"/data\"", &format!("\"{}\"", data.path().join("deployed").display()));
    fs::write(data.path().join("nats.conf"), here).unwrap();
    fs::copy(repository("deploy/nats-permissions.conf"), data.path().join("nats-permissions.conf")).unwrap();
    let mut command = leashed(private.program());
    let _server = command.arg("-c").arg(data.path().join("nats.conf")).envs(passwords()).spawn().unwrap();
    let url = |user: User, password: u32| format!("nats://{}:{password}@127.0.0.1:{port}", user.name());
    let options = LogOptions::default();
    let operator = url(User::Operator, 1001);
    eventually("the operator sets the log up", async || Log::open(&operator, &options).await.ok()).await;
    for (user, password) in User::ROLES.into_iter().zip(1002..) {
        let url = url(user, password);
        let login = Login { url: &url, user, tls: TlsFiles::NONE };
        assert!(Log::connect(login, &options).await.unwrap().is_connected());
        let mut raw = RawNats::open(&SecretString::from(url.as_str())).await;
        let refused = raw.publish("$JS.API.STREAM.DELETE.EVENTS_00", b"").await;
        assert!(refused.is_err_and(|error| error.contains("Permissions Violation")), "{user:?}");
        let other = url.replace(&password.to_string(), "1001");
        let login = Login { url: &other, user, tls: TlsFiles::NONE };
        assert!(matches!(Log::connect(login, &options).await, Err(LogError::Login { .. })), "{user:?} with another's password");
    }
}

/// Every variable that the composition asks for is told to whoever writes the `.env` file, and the other way round.
#[test]
fn the_head_of_the_composition_names_every_password() {
    let text = fs::read_to_string(repository("compose.yaml")).unwrap();
    let (head, body) = text.split_once("\nx-toolgate:").unwrap();
    let words = |text: &str| {
        let name = |c: char| c.is_ascii_uppercase() || c == '_';
        let words = text.split(move |c| !name(c)).filter(|word| word.contains("_PASSWORD")).map(str::to_owned);
        words.collect::<std::collections::BTreeSet<_>>()
    };
    let asked: std::collections::BTreeSet<_> =
        body.split("${").skip(1).filter_map(|rest| rest.split([':', '}']).next()).flat_map(words).collect();
    assert_eq!(words(head), asked);
    for (variable, _) in passwords() {
        assert!(asked.contains(&variable), "{variable}");
    }
    assert!(!body.contains(":8222:"), "the monitoring port asks for no password");
}
