//! The services that the whole run shares. They end with the process, however it ends: see `toolgate::services`.

use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use secrecy::SecretString;
use toolgate::{
    master_keys, migrations,
    services::{EphemeralOptions, PostgresRole, Progress, Services},
};
use toolgate_store::User;

/// How many tests of one run can have a log of their own.
const ACCOUNTS: usize = 800;

/// Started by the first test that needs them.
pub struct Shared {
    services: &'static Services,
    pub data_dir: PathBuf,
    next: AtomicUsize,
}

impl Shared {
    pub fn get() -> &'static Self {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        SHARED.get_or_init(start)
    }

    /// A number that no other test of this run has.
    pub fn claim(&self) -> usize {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < ACCOUNTS, "more tests than NATS accounts: raise ACCOUNTS");
        number
    }

    pub fn nats(&self, account: usize, user: User) -> SecretString {
        self.services.nats().unwrap().url_for(account, user)
    }

    pub fn postgres(&self, role: PostgresRole, database: &str) -> SecretString {
        self.services.postgres().unwrap().url(role, database)
    }
}

/// On a thread with a runtime of its own: a test's runtime ends with the test.
fn start() -> Shared {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let options = EphemeralOptions { durable: false, accounts: ACCOUNTS };
            let services = Services::ephemeral(options, &Progress::Silent).await.unwrap();
            // From here on this database is the template of all others, and nobody connects to it.
            migrations::migrate(&services.connections().owner).await.unwrap();
            sender.send(&*Box::leak(Box::new(services))).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let services: &'static Services = receiver.recv().unwrap();
    let data_dir = services.temporary_dir().unwrap().path().to_path_buf();
    master_keys::create_if_missing(&data_dir).unwrap();
    Shared { services, data_dir, next: AtomicUsize::new(0) }
}
