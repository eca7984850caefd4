//! Answers that a client has stopped taking.
//!
//! Over HTTP/1 the socket tells. Over HTTP/2 it does not: a peer that opens no window for an answer may still answer pings and take
//! other answers, so each answer is watched for itself.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What is handed over at once, in bytes: the next piece is asked for only when the window has room for what came before, and that
/// is what shows that the client takes something.
const PIECE: usize = 16 * 1024;
/// The answer waits for its source, and not for its client.
const NOT_WAITING: u64 = u64::MAX;

/// The answers that are being given over one connection.
#[derive(Debug)]
pub(super) struct Answers {
    began: Instant,
    /// How long an answer may wait for its client.
    patience: Duration,
    open: Mutex<Open>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct Open {
    answers: HashMap<u64, Arc<Answer>>,
    last: u64,
}

impl Answers {
    pub(super) fn new(patience: Duration) -> Self {
        Self { began: Instant::now(), patience, open: Mutex::default(), opened: Notify::new() }
    }

    /// Watches over a body. What waits for its client for too long ends with an error, and its source is dropped at once together
    /// with whatever it holds.
    pub(super) fn watch(self: &Arc<Self>, source: Body) -> Body {
        let answer = Arc::new(Answer {
            began: self.began,
            // A client that opens no window from the beginning keeps the body from ever being asked.
            waiting_since: AtomicU64::new(since(self.began)),
            source: Mutex::new(Some(source)),
            task: AtomicWaker::new(),
        });
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        open.answers.insert(number, Arc::clone(&answer));
        drop(open);
        self.opened.notify_one();
        Body::new(Watched { number, answer, answers: Arc::clone(self), left: Bytes::new() })
    }

    /// Cuts off what waits for too long, as long as it is polled.
    pub(super) async fn cut_off(&self) -> ! {
        loop {
            match self.cut_off_due() {
                None => self.opened.notified().await,
                Some(next) => sleep_until(next).await,
            }
        }
    }

    /// When to look again; never, without answers.
    fn cut_off_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let open: Vec<_> = self.open().answers.values().map(Arc::clone).collect();
        let due = open.into_iter().map(|answer| {
            let due = answer.waiting_since().map(|since| since + self.patience);
            if due.is_some_and(|due| due <= now) {
                answer.cut_off();
            }
            // What does not wait now is not due before it has waited.
            due.filter(|due| *due > now).unwrap_or(now + self.patience)
        });
        due.min()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Answer {
    began: Instant,
    /// Since when there is something for the client, in milliseconds after the beginning.
    waiting_since: AtomicU64,
    /// None once it was cut off.
    source: Mutex<Option<Body>>,
    task: AtomicWaker,
}

impl Answer {
    fn waiting_since(&self) -> Option<Instant> {
        let since = self.waiting_since.load(Ordering::Acquire);
        (since != NOT_WAITING).then(|| self.began + Duration::from_millis(since))
    }

    fn waits(&self) {
        let now = since(self.began);
        // It may have been waiting for longer.
        let _waiting = self.waiting_since.compare_exchange(NOT_WAITING, now, Ordering::AcqRel, Ordering::Acquire);
    }

    fn cut_off(&self) {
        let source = self.source().take();
        if source.is_some() {
            tracing::debug!("cut off an answer that its client does not take");
        }
        drop(source);
        self.task.wake();
    }

    fn source(&self) -> MutexGuard<'_, Option<Body>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source has something: from now on the client is waited for.
impl Wake for Answer {
    fn wake(self: Arc<Self>) {
        self.waits();
        self.task.wake();
    }
}

/// The body of an answer that is watched over.
struct Watched {
    number: u64,
    answer: Arc<Answer>,
    answers: Arc<Answers>,
    /// Of the last frame.
    left: Bytes,
}

impl Watched {
    fn poll_source(&self, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.answer.task.register(context.waker());
        let waker = Waker::from(Arc::clone(&self.answer));
        let mut source = self.answer.source();
        match source.as_mut() {
            Some(source) => Pin::new(source).poll_frame(&mut Context::from_waker(&waker)),
            None => Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut))))),
        }
    }

    fn piece(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.left = data.split_off(data.len().min(PIECE));
        Frame::data(data)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        // Before the source is asked: it may have something more by the time it has answered.
        this.answer.waiting_since.store(NOT_WAITING, Ordering::Release);
        let frame = if this.left.is_empty() {
            match this.poll_source(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            }
        } else {
            Frame::data(std::mem::take(&mut this.left))
        };
        this.answer.waits();
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => this.piece(data),
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.answer.source().as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.left.len() as u64;
        let Some(mut hint) = self.answer.source().as_ref().map(HttpBody::size_hint) else { return SizeHint::default() };
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(hint.lower().saturating_add(left));
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // What the source waits for holds its waker, which holds the source.
        let source = self.answer.source().take();
        drop(source);
        self.answers.open().answers.remove(&self.number);
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(NOT_WAITING)
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, channel::mpsc, task::noop_waker};
    use http_body_util::BodyExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const TICK: Duration = Duration::from_millis(1);

    fn answers() -> Arc<Answers> {
        Arc::new(Answers::new(PATIENCE))
    }

    fn next(body: &mut Body) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let frame = Pin::new(body).poll_frame(&mut Context::from_waker(&noop_waker()));
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
    }

    fn is_cut_off(body: &mut Body) -> bool {
        matches!(next(body), Poll::Ready(Some(Err(_))))
    }

    async fn pass(answers: &Answers, time: Duration) {
        let _watched = tokio::time::timeout(time, answers.cut_off()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_never_asked_is_cut_off_in_time_and_not_before() {
        let answers = answers();
        let mut bodies = [answers.watch("a".into()), answers.watch("a".into())];
        pass(&answers, PATIENCE - TICK).await;
        assert!(matches!(next(&mut bodies[0]), Poll::Ready(Some(Ok(_)))));
        pass(&answers, TICK).await;
        assert!(is_cut_off(&mut bodies[1]));
        pass(&answers, PATIENCE - 2 * TICK).await;
        assert!(matches!(next(&mut bodies[0]), Poll::Ready(None)), "it has waited since its last frame only");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_may_take_its_time_and_the_client_may_not() {
        let answers = answers();
        let (sender, source) = mpsc::unbounded::<Result<Bytes, axum::Error>>();
        let mut body = answers.watch(Body::from_stream(source));
        assert!(next(&mut body).is_pending());
        pass(&answers, 10 * PATIENCE).await;
        sender.unbounded_send(Ok("a".into())).unwrap();
        // Woken, and not asked.
        pass(&answers, PATIENCE - TICK).await;
        assert!(!sender.is_closed());
        pass(&answers, TICK).await;
        assert!(sender.is_closed(), "the source is held on to");
        assert!(is_cut_off(&mut body));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_forgotten_though_it_waits_for_something() {
        let answers = answers();
        let (sender, source) = mpsc::unbounded::<Result<Bytes, axum::Error>>();
        let mut body = answers.watch(Body::from_stream(source));
        assert!(next(&mut body).is_pending());
        drop(body);
        assert!(sender.is_closed());
        assert!(answers.open().answers.is_empty());
        assert_eq!(answers.cut_off_due(), None);
    }

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_says_its_length() {
        let whole = Bytes::from([[1; PIECE], [2; PIECE]].concat());
        let mut body = answers().watch(whole.clone().into());
        assert_eq!(body.size_hint().exact(), Some(2 * PIECE as u64));
        for (piece, left) in [(&whole[..PIECE], PIECE), (&whole[PIECE..], 0)] {
            assert!(!body.is_end_stream());
            assert_eq!(body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap(), piece);
            assert_eq!(body.size_hint().exact(), Some(left as u64));
        }
        assert!(body.is_end_stream());
        assert!(body.frame().now_or_never().unwrap().is_none());
    }
}
