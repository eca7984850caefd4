use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Stands between a process and NATS, and keeps what NATS says to itself when told to. It ends with the test's runtime.
#[derive(Debug)]
pub struct Proxy {
    pub url: SecretString,
    withholds: watch::Sender<bool>,
}

impl Proxy {
    /// Before the server at `url`.
    pub async fn before(url: &SecretString) -> Self {
        let mut url = Url::parse(url.expose_secret()).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let withholds = watch::Sender::new(false);
        let told = withholds.subscribe();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(join(client, server, told.clone()));
            }
        });
        Self { url: url.to_string().into(), withholds }
    }

    /// Everything that is sent still arrives; nothing comes back.
    pub fn withhold_answers(&self) {
        self.withholds.send_replace(true);
    }

    /// Also hands over what was withheld.
    pub fn release_answers(&self) {
        self.withholds.send_replace(false);
    }
}

async fn join(client: TcpStream, server: TcpStream, mut withholds: watch::Receiver<bool>) {
    let ((mut questions, mut to_client), (mut answers, mut to_server)) = (client.into_split(), server.into_split());
    let asking = copy(&mut questions, &mut to_server);
    let answering = async {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = answers.read(&mut chunk).await {
            if withholds.wait_for(|withholds| !withholds).await.is_err() || to_client.write_all(&chunk[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = asking => {}
        () = answering => {}
    }
}
