//! `toolgate up`: everything in one process, private services included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

use super::{Common, Error, shutdown, welcome};
use crate::{
    dev_issuer::DevIssuer,
    master_keys, migrations,
    roles::{self, Context, Everything},
    secrets::{self, Stderr},
    services::{Connections, DataDir, Progress, Services},
    settings::{Profile, Settings},
};

pub(super) const EXAMPLE: &str = "Example:\n  toolgate up --port 9000 --data-dir /tmp/toolgate";

/// Run everything on this machine, starting a private PostgreSQL and nats-server where none is configured
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Up {
    /// The port of the HTTP API on 127.0.0.1 [default: 8080]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Delete what an earlier run kept
    #[arg(long)]
    fresh: bool,
    /// Do not load the demonstration tenant
    #[arg(long)]
    no_demo: bool,
    #[command(flatten)]
    common: Common,
}

impl Up {
    pub async fn run(self) -> Result<(), Error> {
        let mut settings = self.common.settings(Profile::Up, vec![])?;
        if let Some(port) = self.port {
            settings.listen.set_port(port);
        }
        super::log(&settings, "warn");
        let shutdown = CancellationToken::new();
        shutdown::on_signal(shutdown.clone())?;
        // Taken before anything slow happens, and kept: a port in use is reported at once.
        let listener = listen(settings.listen).await?;
        let progress = Progress::stderr();
        let data = DataDir::open(&settings.data_dir)?;
        if self.fresh {
            data.wipe()?;
        }
        let mut services = tokio::select! {
            started = Services::start(&data, &settings, &progress) => started?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let connections = services.connections().clone();
        secrets::learn_connections(Stderr::redactor(), &connections);
        let serving = self.serve(&data, connections, settings, listener, &progress, shutdown.clone());
        let outcome = tokio::select! {
            outcome = serving => outcome,
            failure = services.failure() => Err(failure.into()),
        };
        shutdown.cancel();
        let step = progress.step("Stopping");
        services.stop().await;
        step.done();
        outcome
    }

    async fn serve(
        &self,
        data: &DataDir,
        connections: Connections,
        settings: Settings,
        listener: TcpListener,
        progress: &Progress,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let step = progress.step("Preparing the database");
        migrations::migrate(&connections.owner).await?;
        step.done();
        if settings.master_key_file.is_none() {
            master_keys::create_if_missing(data.path())?;
        }
        connections.set_up_log(&settings).await?;
        let dev_issuer = DevIssuer::load_or_create(data.path())?;
        let url = format!("http://{}", reachable(settings.listen));
        let _env = connections.write_env(data, &url)?;
        let welcome = welcome::text(&url, &settings, &dev_issuer)?;
        let context = Context { settings, connections };
        let (ready, is_ready) = oneshot::channel();
        let everything = Everything { listener, dev_issuer, demo: !self.no_demo, ready };
        let running = roles::run_all(&context, everything, shutdown);
        let announce = async {
            if is_ready.await.is_ok() {
                // A closed standard output is no reason to stop serving.
                let _unread = std::io::Write::write_all(&mut std::io::stdout(), welcome.as_bytes());
            }
        };
        let (outcome, ()) = tokio::join!(running, announce);
        Ok(outcome?)
    }
}

/// The address to call when listening on every interface: this machine's own.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == std::io::ErrorKind::AddrInUse {
            let port = address.port();
            Error::PortInUse { port }
        } else {
            Error::Listen { address, source }
        }
    })
}
