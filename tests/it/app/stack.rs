use std::{collections::HashMap, path::PathBuf, sync::OnceLock};

use chrono::DateTime;
use futures::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection};
use toolgate::{
    dev_issuer::DevIssuer,
    master_keys, migrations,
    services::{Connections, DATABASE, EphemeralOptions, PostgresRole, Progress, Services},
};
use toolgate_events::{CallSubject, Lane};
use toolgate_store::{Log, LogOptions, TlsFiles, User};

use super::{Tenant, services::Shared};

/// Few, so that a test is light; more than one, so that it is honest.
pub const PARTITIONS: u16 = 4;

/// A database and a log that belong to one test.
#[derive(Clone, Debug)]
pub struct Stack {
    pub connections: Connections,
    pub superuser: SecretString,
    pub data_dir: PathBuf,
}

/// A login of the database, as tests name it.
#[derive(Clone, Copy, Debug)]
pub enum TableOwner {
    Superuser,
    Owner,
    Reader,
    Projector,
}

impl Stack {
    /// On the services that all tests share.
    pub async fn new() -> Self {
        let shared = Shared::get();
        let number = shared.claim();
        let database = format!("test_{number}");
        let url = |role| shared.postgres(role, &database);
        let administration = shared.postgres(PostgresRole::Superuser, "postgres");
        let mut connection = PgConnection::connect(administration.expose_secret()).await.unwrap();
        let create = format!("create database {database} template {DATABASE} owner {}", PostgresRole::Owner.login());
        sqlx::raw_sql(&create).execute(&mut connection).await.unwrap();
        // A copy comes without what was revoked on the database itself: see migrations/0005_tenancy_hardening.sql.
        let revoke = format!("revoke create, temporary on database {database} from public");
        sqlx::raw_sql(&revoke).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let connections = Connections {
            nats: shared.nats(number, User::Operator),
            nats_roles: nats_roles(number),
            nats_tls: TlsFiles::default(),
            owner: url(PostgresRole::Owner),
            reader: url(PostgresRole::Reader),
            projector: url(PostgresRole::Projector),
        };
        Self { connections, superuser: url(PostgresRole::Superuser), data_dir: shared.data_dir.clone() }
    }

    /// On services that may be killed, because nobody else uses them.
    pub async fn private(durable: bool) -> (Self, Services) {
        let shared = Shared::get();
        let services = Services::ephemeral(EphemeralOptions { durable, accounts: 0 }, &Progress::Silent).await.unwrap();
        let connections = services.connections().clone();
        migrations::migrate(&connections.owner).await.unwrap();
        let superuser = services.postgres().unwrap().superuser_url();
        (Self { connections, superuser, data_dir: shared.data_dir.clone() }, services)
    }

    /// The same database beside a log that is empty.
    pub fn with_another_log(&self) -> Self {
        let shared = Shared::get();
        let number = shared.claim();
        let (nats, nats_roles) = (shared.nats(number, User::Operator), nats_roles(number));
        Self { connections: Connections { nats, nats_roles, ..self.connections.clone() }, ..self.clone() }
    }

    /// As the operator, who also sets it up.
    pub async fn log(&self) -> Log {
        Log::open(self.connections.nats.expose_secret(), &Self::log_options()).await.unwrap()
    }

    /// How every log of this run is opened.
    pub fn log_options() -> LogOptions {
        let master_keys = Some(master_keys::of_data_dir(&Shared::get().data_dir).unwrap());
        LogOptions { partitions: PARTITIONS, master_keys, ..LogOptions::default() }
    }

    /// The master keys of every log of this run.
    pub fn master_key_file() -> PathBuf {
        master_keys::file_of(&Shared::get().data_dir)
    }

    /// Events in the log, over all partitions.
    pub async fn events_in_log(&self) -> u64 {
        self.log().await.state().await.unwrap().iter().map(|state| state.messages).sum()
    }

    /// Events of one type in the log, over all partitions.
    pub async fn events_in_log_of(&self, event_type: &str) -> u64 {
        let log = self.log().await;
        let mut count = 0;
        for state in log.state().await.unwrap() {
            for sequence in 1..=state.last_sequence {
                let event = log.event_at(state.partition, sequence).await.unwrap();
                count += u64::from(event.is_some_and(|event| event.event_type == event_type));
            }
        }
        count
    }

    /// The same without refusals, which are on record but no calls.
    pub async fn call_events_in_log(&self) -> usize {
        let log = self.log().await;
        let mut count = 0;
        for partition in log.all_partitions() {
            let messages: Vec<_> = log.read_since(partition, None, DateTime::UNIX_EPOCH).await.unwrap().collect().await;
            let is_call = |subject: &str| CallSubject::parse(subject).unwrap().lane != Lane::refusal();
            count += messages.into_iter().filter(|message| is_call(&message.as_ref().unwrap().subject)).count();
        }
        count
    }

    pub async fn connect(&self, login: TableOwner) -> PgConnection {
        let url = match login {
            TableOwner::Superuser => &self.superuser,
            TableOwner::Owner => &self.connections.owner,
            TableOwner::Reader => &self.connections.reader,
            TableOwner::Projector => &self.connections.projector,
        };
        PgConnection::connect(url.expose_secret()).await.unwrap()
    }

    /// A number, asked of the database by somebody who sees all rows.
    pub async fn count(&self, query: &str) -> i64 {
        let mut connection = self.connect(TableOwner::Superuser).await;
        let count = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }

    /// Gives a tenant without history `count` events, each with so many bytes of data, as if they had been projected.
    pub async fn insert_large_events(&self, tenant: Tenant, count: i32, bytes: i32) {
        let insert = "insert into audit_event (tenant_id, position, stream_sequence, event_id, event_type, event_version,
                 aggregate_type, aggregate_id, aggregate_sequence, actor, occurred_at, correlation_id, data, prev_hash, hash)
             select $1, n, n, gen_random_uuid(), 'large', 1, 'tool_call', gen_random_uuid(), 1, 'somebody', now(),
                 gen_random_uuid(), json_build_object('text', repeat('x', $3)), '', ''
             from generate_series(1, $2) n";
        let mut connection = self.connect(TableOwner::Superuser).await;
        sqlx::query(insert).bind(tenant.0).bind(count).bind(bytes).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Checks that there is no event, no row, and no projector that has moved.
    pub async fn assert_untouched(&self) {
        assert_eq!(self.events_in_log().await, 0, "an event was appended");
        assert_eq!(self.count("select count(*) from audit_event").await, 0);
        assert_eq!(self.count("select coalesce(sum(stream_sequence), 0)::bigint from projection_checkpoint").await, 0);
    }

    /// Whose tokens every application of this run accepts.
    pub fn issuer(&self) -> &'static DevIssuer {
        static ISSUER: OnceLock<DevIssuer> = OnceLock::new();
        ISSUER.get_or_init(|| DevIssuer::load_or_create(&self.data_dir).unwrap())
    }
}

fn nats_roles(account: usize) -> HashMap<User, SecretString> {
    User::ROLES.into_iter().map(|user| (user, Shared::get().nats(account, user))).collect()
}
