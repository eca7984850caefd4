use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use toolgate_events::canonical;

use super::{Policy, PolicyError};

/// Between two looks at the file. A change counts once two looks in a row found the same, so that a file is not taken for a policy
/// while somebody is still writing it: a change takes effect within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The policy in force, wherever it comes from. Clones share it.
#[derive(Clone, Debug)]
pub struct Policies(watch::Receiver<Arc<Policy>>);

/// Why there is no policy to begin with.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Policy { path: PathBuf, source: PolicyError },
}

impl Policies {
    /// One policy for good.
    pub fn fixed(policy: Policy) -> Self {
        Self(watch::channel(Arc::new(policy)).1)
    }

    /// The policy in a file, read again whenever that changes. A file that cannot be used later keeps the policy before it in
    /// force, is logged once, and shows in the metrics; here it is an error.
    ///
    /// # Errors
    /// [`PolicyFileError`] when the file cannot be read or holds no policy.
    pub fn watch(path: PathBuf, registry: &mut Registry) -> Result<Self, PolicyFileError> {
        let text = std::fs::read_to_string(&path).map_err(|source| PolicyFileError::Read { path: path.clone(), source })?;
        let policy = Policy::parse(&text).map_err(|source| PolicyFileError::Policy { path: path.clone(), source })?;
        let (sender, receiver) = watch::channel(Arc::new(policy));
        tokio::spawn(keep_up_to_date(path, Watcher::new(&text), sender, Metrics::register(registry)));
        Ok(Self(receiver))
    }

    /// The policy in force now.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.0.borrow())
    }

    /// A policy that whoever holds the sender replaces.
    #[cfg(test)]
    pub(super) fn changing(policy: Arc<Policy>) -> (watch::Sender<Arc<Policy>>, Self) {
        let (sender, receiver) = watch::channel(policy);
        (sender, Self(receiver))
    }

    /// Waits until the policy is another one than when this handle last waited.
    #[cfg(test)]
    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Whoever could change it is gone.
            std::future::pending().await
        }
    }
}

/// Ends with the last handle.
async fn keep_up_to_date(path: PathBuf, mut watcher: Watcher, sender: watch::Sender<Arc<Policy>>, metrics: Metrics) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = sender.closed() => return,
        }
        let Some(judged) = watcher.look(tokio::fs::read_to_string(&path).await) else { continue };
        metrics.reloaded(judged.is_ok());
        match judged {
            Ok(policy) => {
                tracing::info!(path = %path.display(), version = policy.version(), "the policy file changed and is in force");
                sender.send_replace(Arc::new(policy));
            }
            Err(unusable) => log_refusal(&path, &unusable, sender.borrow().version()),
        }
    }
}

fn log_refusal(path: &Path, unusable: &Unusable, version: &str) {
    tracing::error!(path = %path.display(), reason = %unusable, version, "the policy file cannot be used; the policy before it stays");
}

/// Judges what is found in the file, each change once.
struct Watcher {
    /// At the last look.
    found: Found,
    /// What the last judgement was about.
    judged: Found,
}

/// What tells one state of the file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// The hash of its text.
    Text(String),
    Unreadable(io::ErrorKind),
}

/// Why the file is no policy now.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot read it: {0}")]
    Unreadable(#[from] io::Error),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Watcher {
    /// Begins with a text that is in force already.
    fn new(text: &str) -> Self {
        let found = Found::text(text);
        Self { judged: found.clone(), found }
    }

    /// The new policy, or why there is none; `None` when there is nothing new, or it does not stand still yet.
    fn look(&mut self, text: io::Result<String>) -> Option<Result<Policy, Unusable>> {
        let found = match &text {
            Ok(text) => Found::text(text),
            Err(error) => Found::Unreadable(error.kind()),
        };
        let stands_still = found == self.found;
        self.found = found.clone();
        if !stands_still || found == self.judged {
            return None;
        }
        self.judged = found;
        Some(text.map_err(Unusable::from).and_then(|text| Ok(Policy::parse(&text)?)))
    }
}

impl Found {
    fn text(text: &str) -> Self {
        Self::Text(canonical::hex(&Sha256::digest(text)))
    }
}

struct Metrics {
    reloads: Family<ReloadLabels, Counter>,
    broken: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    outcome: &'static str,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self { reloads: Family::default(), broken: Gauge::default() };
        for outcome in ["applied", "refused"] {
            // From the beginning, so that a rate can be taken of the first.
            drop(metrics.reloads.get_or_create(&ReloadLabels { outcome }));
        }
        registry.register("policy_reloads", "Changes of the policy file, by what came of them", metrics.reloads.clone());
        registry.register("policy_file_broken", "1 while the policy file cannot be used", metrics.broken.clone());
        metrics
    }

    fn reloaded(&self, is_applied: bool) {
        let outcome = if is_applied { "applied" } else { "refused" };
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
        self.broken.set(i64::from(!is_applied));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "version = 1\n[roles]\n";
    const NEW: &str = "version = 1\n[roles]\na = [\"x:y\"]\n";

    fn look(watcher: &mut Watcher, text: &str) -> Option<Result<String, String>> {
        let judged = watcher.look(Ok(text.to_owned()))?;
        Some(judged.map(|policy| policy.version().to_owned()).map_err(|error| error.to_string()))
    }

    fn version(text: &str) -> String {
        Policy::parse(text).unwrap().version().to_owned()
    }

    #[test]
    fn a_change_counts_when_it_stands_still_and_once() {
        let mut watcher = Watcher::new(OLD);
        assert!(look(&mut watcher, OLD).is_none());
        assert!(look(&mut watcher, NEW).is_none(), "it may still be being written");
        assert_eq!(look(&mut watcher, NEW), Some(Ok(version(NEW))));
        assert!(look(&mut watcher, NEW).is_none());
        // A passing change is none.
        assert!(look(&mut watcher, OLD).is_none());
        assert!(look(&mut watcher, NEW).is_none());
        assert!(look(&mut watcher, NEW).is_none());
        assert!(look(&mut watcher, OLD).is_none());
        assert_eq!(look(&mut watcher, OLD), Some(Ok(version(OLD))));
    }

    #[test]
    fn a_broken_or_missing_file_is_reported_once_and_mended_by_what_was_there_before() {
        let missing = || io::Result::Err(io::ErrorKind::NotFound.into());
        let mut watcher = Watcher::new(OLD);
        assert!(look(&mut watcher, "version = 2\n[roles]\n").is_none());
        assert!(look(&mut watcher, "version = 2\n[roles]\n").unwrap().unwrap_err().contains("version 2"));
        assert!(look(&mut watcher, "version = 2\n[roles]\n").is_none());
        assert!(watcher.look(missing()).is_none());
        assert!(matches!(watcher.look(missing()), Some(Err(Unusable::Unreadable(_)))));
        assert!(watcher.look(missing()).is_none());
        let denied = || io::Result::Err(io::ErrorKind::PermissionDenied.into());
        assert!(watcher.look(denied()).is_none());
        assert!(matches!(watcher.look(denied()), Some(Err(Unusable::Unreadable(_)))), "another reason is another report");
        assert!(look(&mut watcher, OLD).is_none());
        assert_eq!(look(&mut watcher, OLD), Some(Ok(version(OLD))));
    }

    #[test]
    fn the_metrics_tell_applied_from_refused_and_whether_it_is_broken_now() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let has = |applied: u64, refused: u64, broken: i64| {
            let text = text();
            [
                format!("policy_reloads_total{{outcome=\"applied\"}} {applied}\n"),
                format!("policy_reloads_total{{outcome=\"refused\"}} {refused}\n"),
                format!("policy_file_broken {broken}\n"),
            ]
            .iter()
            .all(|line| text.contains(line))
        };
        assert!(has(0, 0, 0), "{}", text());
        metrics.reloaded(false);
        assert!(has(0, 1, 1), "{}", text());
        metrics.reloaded(true);
        assert!(has(1, 1, 0), "{}", text());
    }

    #[tokio::test]
    async fn the_file_is_followed_and_the_last_policy_that_could_be_used_stays() {
        let folder = std::env::temp_dir().join(format!("toolgate-policy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("policy.toml");
        let mut registry = Registry::default();
        assert!(matches!(Policies::watch(path.clone(), &mut registry), Err(PolicyFileError::Read { .. })));
        std::fs::write(&path, "version = 3").unwrap();
        let error = Policies::watch(path.clone(), &mut registry).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()) && error.contains("roles"), "{error}");
        std::fs::write(&path, OLD).unwrap();
        let mut policies = Policies::watch(path.clone(), &mut registry).unwrap();
        assert_eq!(policies.current().version(), version(OLD));
        std::fs::write(&path, NEW).unwrap();
        policies.changed().await;
        assert_eq!(policies.current().version(), version(NEW));
        std::fs::remove_dir_all(folder).unwrap();
        let fixed = Policies::fixed(Policy::built_in().unwrap());
        assert_eq!(fixed.current().version(), Policy::built_in().unwrap().version());
        assert!(futures::FutureExt::now_or_never(fixed.clone().changed()).is_none(), "a fixed policy never changes");
    }
}
