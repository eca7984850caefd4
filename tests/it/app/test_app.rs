use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use toolgate::settings::Settings;

use super::{Client, Stack, Tenant, Token, instance::Instance, stack::PARTITIONS};

/// How long unfinished work may take when a test ends.
const DRAIN: Duration = Duration::from_secs(20);

/// A whole toolgate with a database and a log of its own.
///
/// Dropping it waits until every accepted call has an outcome and every event is projected, and panics when that does not happen:
/// work that silently stays behind is a bug. A test that leaves work behind on purpose says so.
#[derive(Debug)]
pub struct TestApp {
    pub stack: Stack,
    instance: Option<Instance>,
    leaves_work: bool,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(Stack::new().await, change).await
    }

    pub async fn on(stack: Stack, change: impl FnOnce(&mut Settings)) -> Self {
        let instance = Instance::start(&stack, change).await;
        Self { stack, instance: Some(instance), leaves_work: false }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub async fn start_again(&mut self) {
        self.instance = Some(Instance::start(&self.stack, |_| ()).await);
    }

    pub async fn stop(&mut self) {
        self.instance.take().unwrap().stop().await;
    }

    /// Another process' worth of roles on the same database and log.
    pub async fn another_instance(&self) -> Instance {
        Instance::start(&self.stack, |_| ()).await
    }

    /// The same, with settings of its own.
    pub async fn another_instance_with(&self, change: impl FnOnce(&mut Settings)) -> Instance {
        Instance::start(&self.stack, change).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.instance.as_ref().unwrap().address)
    }

    pub fn leaves_work(&mut self) {
        self.leaves_work = true;
    }

    /// A caller with every permission within a tenant of its own.
    pub fn admin(&self) -> Client {
        self.client(Tenant::new(), "admin")
    }

    pub fn client(&self, tenant: Tenant, role: &str) -> Client {
        self.client_with(tenant, &Token::of(tenant, role))
    }

    pub fn client_with(&self, tenant: Tenant, token: &Token) -> Client {
        Client::new(self.url(), tenant, token.sign(self.stack.issuer()))
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() || self.leaves_work {
            return;
        }
        let stack = self.stack.clone();
        // On another thread, because this one may belong to a runtime.
        let left = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(drain(&stack))
        });
        if let Some(left) = left.join().unwrap() {
            panic!("the application was dropped with unfinished work: {left}");
        }
    }
}

/// What is left after a while, if anything is.
async fn drain(stack: &Stack) -> Option<String> {
    let deadline = Instant::now() + DRAIN;
    let log = stack.log().await;
    let mut connection = PgConnection::connect(stack.superuser.expose_secret()).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        let open: i64 = sqlx::query_scalar("select count(*) from tool_call where finished_at is null")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let projected: Vec<(i32, i64)> = sqlx::query_as("select partition, stream_sequence from projection_checkpoint")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let logged = log.state().await.unwrap();
        let behind = logged.iter().any(|state| {
            let at = (i32::from(state.partition.0), i64::try_from(state.last_sequence).unwrap());
            state.last_sequence > 0 && !projected.contains(&at)
        });
        if open == 0 && !behind {
            return None;
        }
        if Instant::now() > deadline {
            return Some(format!("{open} open calls; projected {projected:?} of {logged:?} in {PARTITIONS} partitions"));
        }
    }
}
