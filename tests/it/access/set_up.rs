//! The operator sets the log up; roles with a login of their own use what is there.

use std::process::Stdio;

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::process::Command;
use toolgate_store::{Log, LogError, LogOptions, Login, TlsFiles, User};

use crate::app::{Child, Client, PARTITIONS, Role, Stack, Tenant, Token, send, task, wait_until};

fn options() -> LogOptions {
    Stack::log_options()
}

fn login(stack: &Stack, user: User) -> Login<'_> {
    let url: &SecretString = &stack.connections.nats_roles[&user];
    Login { url: url.expose_secret(), user, tls: TlsFiles::NONE }
}

/// The binary as an operator starts it, with these variables alone.
pub(super) fn toolgate(subcommand: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command.arg(subcommand).env_clear().envs(variables.iter().copied());
    command.env("TOOLGATE_MASTER_KEY_FILE", Stack::master_key_file());
    command.env("TOOLGATE_DATA_DIR", "/nonexistent").env("TOOLGATE_PARTITIONS", PARTITIONS.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_role_does_not_set_the_log_up_and_says_who_does() {
    let stack = Stack::new().await;
    for user in User::ROLES {
        let refused = Log::connect(login(&stack, user), &options()).await;
        assert!(matches!(refused, Err(LogError::NotSetUp)), "{user:?}: {refused:?}");
    }
    let url = stack.connections.nats_roles[&User::Projector].expose_secret();
    let database = stack.connections.projector.expose_secret();
    let variables = [("NATS_URL_PROJECTOR", url), ("DATABASE_URL_PROJECTOR", database)];
    let ended = toolgate("projector", &variables).output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the log is not set up; run `toolgate migrate`"), "{said}");
}

#[tokio::test]
async fn a_role_that_is_told_to_set_the_log_up_is_refused_by_the_server() {
    let stack = Stack::new().await;
    let refused = Log::set_up(login(&stack, User::Worker), &options()).await;
    assert!(matches!(refused, Err(LogError::NotAllowed { .. })), "{refused:?}");
    assert!(matches!(Log::connect(login(&stack, User::Worker), &options()).await, Err(LogError::NotSetUp)));
}

#[tokio::test]
async fn migrate_sets_the_log_up_and_may_run_again() {
    let stack = Stack::new().await;
    let connections = &stack.connections;
    let variables = [("NATS_URL", connections.nats.expose_secret()), ("DATABASE_URL", connections.owner.expose_secret())];
    for _ in 0..2 {
        let ended = toolgate("migrate", &variables).output().await.unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        for user in User::ROLES {
            Log::connect(login(&stack, user), &options()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_in_one_sentence_without_the_password() {
    let stack = Stack::new().await;
    let right = stack.connections.nats_roles[&User::Worker].expose_secret();
    let (head, address) = right.split_once('@').unwrap();
    let wrong = format!("{}:wrong-secret@{address}", head.rsplit_once(':').unwrap().0);
    let refused = Log::connect(Login { url: &wrong, user: User::Worker, tls: TlsFiles::NONE }, &options()).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("the NATS server {address} does not know this user or its password"));
    assert!(!format!("{refused:?}").contains("wrong-secret"), "{refused:?}");
}

#[tokio::test]
async fn a_role_with_the_operators_login_alone_sets_the_log_up_itself() {
    let stack = Stack::new().await;
    let mut as_operator = stack.clone();
    as_operator.connections.nats_roles.clear();
    let settings = toolgate::settings::Settings::load(toolgate::settings::Profile::Server, vec![("partitions", "4".to_owned())]);
    let settings = toolgate::settings::Settings { master_key_file: Some(Stack::master_key_file()), ..settings.unwrap() };
    as_operator.connections.open_log(User::Projector, &settings).await.unwrap();
    Log::connect(login(&stack, User::Projector), &options()).await.unwrap();
}

/// Each role in a process of its own that knows its own logins and no others.
#[tokio::test]
async fn the_whole_road_needs_nothing_that_is_not_granted() {
    let (stack, services) = Stack::private(false).await;
    let (command_api, query_api, _worker, _projector) = tokio::join!(
        Child::start(&stack, Role::CommandApi, &[]),
        Child::start(&stack, Role::QueryApi, &[]),
        Child::start(&stack, Role::Worker, &[]),
        Child::start(&stack, Role::Projector, &[]),
    );
    let tenant = Tenant::new();
    let posts = Client::new(command_api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let reads = posts.at(query_api.url());
    let created = posts.call_and_wait("task", &task()).await.json();
    assert_eq!(created["status"], "succeeded", "{created}");
    reads.get_projected(&created).await;
    let document = json!({"tool": "document.render", "arguments": {"title": "T", "markdown": "# Hi", "format": "html"}});
    let rendered = posts.call_and_wait("document", &document).await.json();
    reads.get_projected(&rendered).await;
    let artifact = reads.get(&format!("/v1/artifacts/{}", rendered["result"]["artifact_id"].as_str().unwrap())).await;
    assert_eq!(artifact.status, 200);
    let call = posts.call("cancelled", &task()).await.json();
    posts.post(&format!("/v1/tool-calls/{}/cancel", call["call_id"].as_str().unwrap())).await;
    reads.get_projected(&call).await;
    let frames = reads.events("?after=0", None).await.events(3).await;
    assert_eq!(frames.len(), 3);
    for path in ["/readyz", "/metrics"] {
        assert_eq!(send(reads.anonymous(Method::GET, path)).await.status, 200, "{path}");
    }
    let log = services.temporary_dir().unwrap().path().join("nats/log");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("Violation"), "{log}");
    wait_until("nothing is left to do", async || {
        stack.count("select count(*) from tool_call where finished_at is null").await == 0
    })
    .await;
}
