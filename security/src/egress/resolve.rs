use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{EgressError, Networks, Rule};

/// Turns a name into its addresses.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Every address of `host`.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// The one place where a name becomes addresses: what it gives back is what the connection goes to, so that a name cannot have
/// another address when it is connected to than when it was judged.
pub(super) struct Judged {
    pub resolver: Arc<dyn Resolver>,
    pub networks: Networks,
}

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.resolver.resolve(name.as_str().to_owned());
        let networks = self.networks.clone();
        Box::pin(async move {
            let addresses = resolving.await.map_err(|_| EgressError::Unresolvable)?;
            if addresses.is_empty() {
                return Err(EgressError::Unresolvable.into());
            }
            // One forbidden address is enough: which of them a connection succeeds with is not ours to say.
            if !addresses.iter().all(|address| networks.permits(*address)) {
                return Err(EgressError::from(Rule::Network).into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
