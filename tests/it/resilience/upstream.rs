use std::{
    collections::HashMap,
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// An upstream that answers every path in a way of its own.
#[derive(Debug)]
pub struct Upstream {
    port: u16,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    /// Method and path of what came in.
    seen: Mutex<Vec<String>>,
    /// How many of those who were left hanging have gone.
    gone: Mutex<usize>,
    failures: Mutex<HashMap<String, usize>>,
    gate: watch::Sender<bool>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        Self { port, serving: serve(listener, &shared), shared }
    }

    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority())
    }

    /// How often a method and path were asked for.
    pub fn seen(&self, request: &str) -> usize {
        self.shared.seen.lock().unwrap().iter().filter(|seen| *seen == request).count()
    }

    pub fn gone(&self) -> usize {
        *self.shared.gone.lock().unwrap()
    }

    /// Lets those through who wait at `/gate`.
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Nobody listens any more.
    pub fn die(&self) {
        self.serving.abort();
    }

    pub async fn come_back(&mut self) {
        let listener = crate::app::eventually("the port is free", async || TcpListener::bind(self.authority()).await.ok()).await;
        self.serving = serve(listener, &self.shared);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> AbortHandle {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        // They end with the listener.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream, Arc::clone(&shared)));
        }
    });
    task.abort_handle()
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    shared.seen.lock().unwrap().push(format!("{method} {path}"));
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    match path.split(['?', '/']).nth(1).unwrap() {
        "hang" => {
            drop(stream.read(&mut [0; 16]).await);
            *shared.gone.lock().unwrap() += 1;
        }
        "reset" => {}
        "drip" => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await);
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            while stream.write_all(b"x").await.is_ok() {
                seconds.tick().await;
            }
        }
        "bomb" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            for _ in 0..256 {
                encoder.write_all(&vec![b'a'; 1 << 18]).unwrap();
            }
            let bomb = encoder.finish().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
            drop(stream.write_all(head.as_bytes()).await);
            drop(stream.write_all(&bomb).await);
        }
        "flood" => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await);
            let chunk = vec![b'a'; 1 << 16];
            while stream.write_all(&chunk).await.is_ok() {}
        }
        "no-json" => drop(
            stream.write_all(ok("{\"cut").replace("Connection", "Content-Type: application/json\r\nConnection").as_bytes()).await,
        ),
        "no-http" => drop(stream.write_all(b"220 mail.example ESMTP\r\n").await),
        // Breaks off as often as the path's number says, and then answers.
        "flaky" => {
            let fails = {
                let mut failures = shared.failures.lock().unwrap();
                let count = failures.entry(path.clone()).or_default();
                *count += 1;
                *count <= path.rsplit('/').next().unwrap().parse::<usize>().unwrap()
            };
            if !fails {
                drop(stream.write_all(ok("at last").as_bytes()).await);
            }
        }
        "loop" => {
            let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(redirect.as_bytes()).await);
        }
        "gate" => {
            drop(shared.gate.subscribe().wait_for(|open| *open).await);
            drop(stream.write_all(ok("through").as_bytes()).await);
        }
        _ => {
            let count = shared.seen.lock().unwrap().len();
            drop(stream.write_all(ok(&count.to_string()).as_bytes()).await);
        }
    }
    drop(stream.shutdown().await);
}
