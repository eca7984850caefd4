use bytes::Bytes;
use futures::stream;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const IMPATIENT: Duration = Duration::from_millis(100);

/// Tells when it is gone.
struct Source(mpsc::UnboundedSender<()>);

impl Drop for Source {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

/// Serves `/`, which has no end, and `/short`; tells of each endless answer that is given up.
async fn endless(header_timeout: Duration) -> (TcpStream, mpsc::UnboundedReceiver<()>) {
    let (dropped, is_dropped) = mpsc::unbounded_channel();
    let endless = axum::routing::get(move || async move {
        let source = Source(dropped);
        let chunks = stream::repeat_with(move || {
            let _alive = &source;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 64 * 1024]))
        });
        Body::from_stream(chunks)
    });
    let routes = Router::new().route("/", endless).route("/short", axum::routing::get(|| async { "short" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let limits = ServerLimits { max_connections: 1, header_timeout, write_timeout: IMPATIENT };
    tokio::spawn(serve(listener, routes, limits, CancellationToken::new()));
    (client, is_dropped)
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://x{path}")).body(()).unwrap()
}

#[tokio::test]
async fn a_client_that_stops_reading_is_dropped() {
    let (mut client, mut is_dropped) = endless(MINUTE).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The answer's source goes with the connection.
    assert_eq!(timeout(MINUTE, is_dropped.recv()).await, Ok(Some(())));
}

#[tokio::test]
async fn an_answer_without_a_window_is_given_up_and_its_connection_then_idle() {
    let (client, mut is_dropped) = endless(IMPATIENT).await;
    let (mut requests, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(client).await.unwrap();
    // It goes on reading, and answers pings.
    let connection = tokio::spawn(connection);
    let (answer, _) = requests.send_request(get("/"), true).unwrap();
    let _answer = answer.await.unwrap();
    assert_eq!(timeout(MINUTE, is_dropped.recv()).await, Ok(Some(())));
    let _ended = timeout(MINUTE, connection).await.expect("the connection stays");
}

#[tokio::test]
async fn a_small_answer_without_a_window_keeps_no_connection() {
    let (client, _) = endless(IMPATIENT).await;
    let (mut requests, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(client).await.unwrap();
    let connection = tokio::spawn(connection);
    let (answer, _) = requests.send_request(get("/short"), true).unwrap();
    let _answer = answer.await.unwrap();
    let _ended = timeout(MINUTE, connection).await.expect("the connection stays");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_and_the_others_go_on() {
    let (client, mut is_dropped) = endless(MINUTE).await;
    let mut builder = h2::client::Builder::new();
    let (mut requests, connection) =
        builder.initial_connection_window_size(1024 * 1024).handshake::<_, Bytes>(client).await.unwrap();
    tokio::spawn(connection);
    let (answer, _) = requests.send_request(get("/"), true).unwrap();
    let mut stuck = answer.await.unwrap().into_body();
    assert_eq!(timeout(MINUTE, is_dropped.recv()).await, Ok(Some(())));
    let (answer, _) = requests.send_request(get("/short"), true).unwrap();
    let mut short = answer.await.unwrap().into_body();
    assert_eq!(short.data().await.unwrap().unwrap(), "short");
    assert!(short.data().await.is_none());
    // Whoever reads on after all does not take a part for the whole.
    let ended = async {
        loop {
            let data = match stuck.data().await {
                Some(Ok(data)) => data,
                other => break other,
            };
            stuck.flow_control().release_capacity(data.len()).unwrap();
        }
    };
    let ended = timeout(MINUTE, ended).await.unwrap();
    assert!(ended.is_some_and(|end| end.is_err()), "it looks complete");
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_keeps_its_answer() {
    let (client, mut is_dropped) = endless(MINUTE).await;
    let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let (answer, _) = requests.send_request(get("/"), true).unwrap();
    let mut answer = answer.await.unwrap().into_body();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(IMPATIENT / 5);
    while began.elapsed() < 5 * IMPATIENT {
        ticks.tick().await;
        let data = answer.data().await.unwrap().unwrap();
        answer.flow_control().release_capacity(data.len()).unwrap();
    }
    assert!(is_dropped.try_recv().is_err());
}
