//! Requests to the outside over TLS, by a worker that trusts the test's own authority.

use std::{fs, net::Ipv4Addr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::app::{Child, Client, Role, Stack, Tenant, Token};

/// A server with a certificate for `name`, signed by `authority`. It answers everything alike.
async fn serve(authority: &CertifiedIssuer<'_, KeyPair>, name: &str, answer: String) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _head = stream.read(&mut [0; 4096]).await;
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    });
    port
}

#[tokio::test]
async fn over_tls_the_host_must_be_who_it_says_and_nothing_leads_back_to_plain_text() {
    let stack = Stack::new().await;
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let tenant = Tenant::new();
    let trusted = stack.data_dir.join(format!("authority-{}.pem", tenant.0));
    fs::write(&trusted, authority.pem()).unwrap();

    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsafe".to_owned();
    let good = serve(&authority, "localhost", ok.clone()).await;
    let other = serve(&authority, "elsewhere.example", ok).await;
    let plain = format!("HTTP/1.1 302 Found\r\nLocation: http://localhost:{good}/\r\nContent-Length: 0\r\n\r\n");
    let downgrading = serve(&authority, "localhost", plain).await;

    let allowed = format!("localhost:{good},localhost:{other},localhost:{downgrading}");
    let variables = [
        ("TOOLGATE_EGRESS_ALLOW", allowed.as_str()),
        ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8,::1/128"),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
        // A proxy would resolve the name again, and go where it likes.
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
    ];
    let (commands, _worker) =
        tokio::join!(Child::start(&stack, Role::CommandApi, &[]), Child::start(&stack, Role::Worker, &variables));
    let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let outcome = async |port: u16| -> Value {
        let arguments = json!({"method": "GET", "url": format!("https://localhost:{port}/")});
        client.call_and_wait(&port.to_string(), &json!({"tool": "http.request", "arguments": arguments})).await.json()
    };
    let answered = outcome(good).await;
    assert_eq!(answered["result"]["body"], "safe", "{answered}");
    let impostor = outcome(other).await;
    assert_eq!(impostor["error"]["type"], "urn:toolgate:tool:upstream", "{impostor}");
    let led_astray = outcome(downgrading).await;
    assert_eq!(led_astray["error"]["type"], "urn:toolgate:tool:egress-blocked", "{led_astray}");
    assert!(led_astray["error"]["detail"].as_str().unwrap().contains("(rule: downgrade)"), "{led_astray}");
    fs::remove_file(&trusted).unwrap();
}
