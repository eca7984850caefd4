use std::net::SocketAddr;

use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;
use toolgate::{
    dev_issuer::DevIssuer,
    roles::{self, Context, Everything},
    settings::{Profile, Settings},
};

use super::stack::{PARTITIONS, Stack};

/// Every role in this process, on a thread with a runtime of its own, so that a test may block while they work.
#[derive(Debug)]
pub struct Instance {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    ended: Option<oneshot::Receiver<Result<(), roles::Error>>>,
}

impl Instance {
    pub async fn start(stack: &Stack, change: impl FnOnce(&mut Settings)) -> Self {
        let data_dir = stack.data_dir.display().to_string();
        let mut settings = Settings::load(Profile::Up, vec![("data_dir", data_dir)]).unwrap();
        settings.partitions = PARTITIONS;
        settings.cursor_secret = Some("the same on every instance".to_owned().into());
        change(&mut settings);
        // So that a key exists before it is loaded again below.
        stack.issuer();
        stack.connections.set_up_log(&settings).await.unwrap();
        let context = Context { settings, connections: stack.connections.clone() };
        let shutdown = CancellationToken::new();
        let (addressed, address) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let stop = shutdown.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let outcome = runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                addressed.send(listener.local_addr().unwrap()).unwrap();
                let dev_issuer = DevIssuer::load(&context.settings.data_dir).unwrap();
                let everything = Everything { listener, dev_issuer, demo: false, ready };
                roles::run_all(&context, everything, stop).await
            });
            // Nobody listens when the test has ended already.
            drop(ending.send(outcome));
        });
        let address = address.await.unwrap();
        let mut instance = Self { address, shutdown, ended: Some(ended) };
        if is_ready.await.is_err() {
            panic!("the application did not start: {:?}", instance.ended.take().unwrap().await);
        }
        instance
    }

    /// Stops in order: what is in flight is finished.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        self.ended.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
