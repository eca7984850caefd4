//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Error;

/// Cancels `shutdown` at the first signal. A second one ends the process at once; private services still stop, because
/// they watch this process.
pub(super) fn on_signal(shutdown: CancellationToken) -> Result<(), Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    tokio::spawn(async move {
        for stop in [|| {}, || std::process::exit(1)] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            shutdown.cancel();
            stop();
        }
    });
    Ok(())
}
