//! HTTP over TCP: who may connect, how long a client may take, and how it all ends.

mod answers;

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::answers::Answers;

/// How long requests under way may still take after the shutdown; the process must end before it is killed.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a connection that is being closed may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// After a failure to accept that is not the connection's own, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Header fields of one request at the most, and bytes of all of them.
const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// Requests at the same time over one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// What clients are held to.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections open at the same time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How long the head of a request may take, and how long a connection may stay idle.
    pub header_timeout: Duration,
    /// A client that takes nothing of an answer for so long is dropped, over HTTP/2 only that answer. Reading has no such limit:
    /// who listens to events sends nothing.
    pub write_timeout: Duration,
}

/// Serves until `shutdown`, then finishes the requests under way, for up to 20 seconds.
pub async fn serve(listener: TcpListener, routes: Router, limits: ServerLimits, shutdown: CancellationToken) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let connections = TaskTracker::new();
    let builder = builder();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let stream = accept(&listener).await;
            let (builder, routes, shutdown) = (builder.clone(), routes.clone(), shutdown.clone());
            connections.spawn(async move {
                connection(stream, &builder, routes, limits, shutdown).await;
                drop(place);
            });
        }
    };
    shutdown.run_until_cancelled(accepting).await;
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("requests are still under way {} seconds after the shutdown; leaving them", DRAIN.as_secs());
    }
    Ok(())
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // The watch over idle connections covers the head of a request as well, and costs no timer per request.
    builder.http1().header_read_timeout(None).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    builder
}

/// The next connection. One that is gone already is passed over; when there are too many open files, some will be closed soon.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_the_connection(error.kind()) => {}
            Err(error) => {
                tracing::error!(error = %error, "cannot accept connections; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    builder: &Builder<TokioExecutor>,
    routes: Router,
    limits: ServerLimits,
    shutdown: CancellationToken,
) {
    // An answer is written at once; waiting to fill a packet would only delay it.
    let _without = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let activity = Arc::new(Activity::new());
    let answers = Arc::new(Answers::new(limits.write_timeout));
    let (watched, watching) = (Arc::clone(&activity), Arc::clone(&answers));
    let service = tower::service_fn(move |request: Request<_>| {
        let (busy, routes, answers) = (Busy::new(&watched), routes.clone(), Arc::clone(&watching));
        async move {
            let is_one_of_many = request.version() == Version::HTTP_2;
            let response = routes.oneshot(request).await?;
            // Busy until the last byte of the answer has been handed over.
            Ok::<_, Infallible>(response.map(|body| {
                let body = Body::new(body.map_err(move |error| {
                    let _held = &busy;
                    error
                }));
                if is_one_of_many { answers.watch(body) } else { body }
            }))
        }
    });
    let serving = builder.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service));
    let (mut serving, mut watch) = (pin!(serving), pin!(answers.cut_off()));
    tokio::select! {
        never = watch.as_mut() => never,
        ended = serving.as_mut() => return note(ended),
        () = shutdown.cancelled() => {}
        () = activity.idle_for(limits.header_timeout) => {}
    }
    serving.as_mut().graceful_shutdown();
    activity.touch();
    tokio::select! {
        never = watch => never,
        ended = serving.as_mut() => note(ended),
        () = activity.idle_for(GOODBYE) => {}
    }
}

fn note<E: AsRef<dyn std::error::Error + Send + Sync>>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(error = error.as_ref(), "a connection broke");
    }
}

/// Whether a connection is being used.
#[derive(Debug)]
struct Activity {
    began: Instant,
    /// Requests whose answer has not been given in full.
    busy: AtomicUsize,
    /// When that last became none, in milliseconds after the beginning.
    idle_since: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { began: Instant::now(), busy: AtomicUsize::new(0), idle_since: AtomicU64::new(0) }
    }

    fn touch(&self) {
        self.idle_since.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns when no request has been under way for that long.
    async fn idle_for(&self, time: Duration) {
        loop {
            let is_busy = self.busy.load(Ordering::Relaxed) > 0;
            let since = self.began + Duration::from_millis(self.idle_since.load(Ordering::Relaxed));
            let due = if is_busy { Instant::now() } else { since } + time;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// A request under way.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod slow_clients;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_while_no_request_is_under_way() {
        let activity = Arc::new(Activity::new());
        let time = Duration::from_secs(10);
        let began = Instant::now();
        activity.idle_for(time).await;
        assert_eq!(began.elapsed(), time);
        let (first, second) = (Busy::new(&activity), Busy::new(&activity));
        drop(first);
        assert!(timeout(Duration::from_secs(3600), activity.idle_for(time)).await.is_err());
        drop(second);
        let freed = Instant::now();
        activity.idle_for(time).await;
        assert_eq!(freed.elapsed(), time);
        assert!(timeout(Duration::ZERO, activity.idle_for(time)).await.is_ok(), "and stays so");
        activity.touch();
        assert!(timeout(Duration::ZERO, activity.idle_for(time)).await.is_err());
    }

    #[test]
    fn a_connection_that_is_gone_is_not_the_listeners_trouble() {
        assert!(is_of_the_connection(io::ErrorKind::ConnectionAborted));
        assert!(!is_of_the_connection(io::Error::from_raw_os_error(24).kind()), "EMFILE");
    }
}
