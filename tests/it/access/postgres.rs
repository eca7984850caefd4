//! Which login to the database each role gets.

use secrecy::ExposeSecret;
use sqlx::{Connection, Executor};
use toolgate::{
    roles::Role,
    services::Connections,
    settings::{Profile, Settings},
};

use crate::app::{Stack, TableOwner};

/// Settings that name every login.
fn settings() -> Settings {
    let mut settings = Settings::load(Profile::Server, vec![]).unwrap();
    settings.database_url = Some("postgres://owner@h/d".into());
    settings.database_url_reader = Some("postgres://reader@h/d".into());
    settings.database_url_projector = Some("postgres://projector@h/d".into());
    settings.nats_url = Some("nats://operator@h".into());
    settings.nats_url_command_api = Some("nats://command-api@h".into());
    settings.nats_url_query_api = Some("nats://query-api@h".into());
    settings.nats_url_worker = Some("nats://worker@h".into());
    settings.nats_url_projector = Some("nats://projector@h".into());
    settings
}

#[test]
fn a_role_gets_its_own_logins_and_no_others() {
    for (role, database, nats) in [
        (Role::CommandApi, "", "nats://command-api@h"),
        (Role::QueryApi, "postgres://reader@h/d", "nats://query-api@h"),
        (Role::Worker, "postgres://reader@h/d", "nats://worker@h"),
        (Role::Projector, "postgres://projector@h/d", "nats://projector@h"),
    ] {
        let given = Connections::for_role(&settings(), role.user(), role.login()).unwrap();
        for url in [&given.owner, &given.reader, &given.projector] {
            assert_eq!(url.expose_secret(), database, "{role:?}");
        }
        let roles: Vec<_> = given.nats_roles.iter().map(|(user, url)| (*user, url.expose_secret())).collect();
        assert_eq!(roles, [(role.user(), nats)], "{role:?}");
        assert_eq!(given.nats.expose_secret(), nats, "{role:?}");
    }
}

#[test]
fn without_logins_of_its_own_a_role_acts_under_the_operators() {
    let mut settings = settings();
    settings.nats_url_worker = None;
    settings.database_url_reader = None;
    let given = Connections::for_role(&settings, Role::Worker.user(), Role::Worker.login()).unwrap();
    assert_eq!(given.nats.expose_secret(), "nats://operator@h");
    assert!(given.nats_roles.is_empty());
    assert_eq!(given.reader.expose_secret(), "postgres://owner@h/d?options=-c%20role%3Dtoolgate_reader");
}

#[tokio::test]
async fn each_login_is_refused_what_another_may() {
    let stack = Stack::new().await;
    let insert = "insert into projection_checkpoint (projection, partition, stream_sequence) values ('x', 0, 0)";
    for (login, forbidden) in [
        (TableOwner::Reader, vec![insert, "create table public.mine ()", "create role mine", "set role toolgate_projector"]),
        (TableOwner::Projector, vec!["create table public.mine ()", "create role mine", "set role toolgate_owner"]),
        (TableOwner::Owner, vec!["create role mine", "alter role toolgate_owner superuser", "set role postgres"]),
    ] {
        let mut connection = stack.connect(login).await;
        for statement in forbidden {
            let refused = connection.execute(statement).await;
            assert!(refused.is_err(), "{login:?} may {statement}");
        }
        connection.close().await.unwrap();
    }
}
