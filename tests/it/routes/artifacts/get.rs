//! `GET /v1/artifacts/{artifact_id}`

use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use toolgate_events::canonical;
use uuid::Uuid;

use crate::app::{TestApp, send};

#[tokio::test]
async fn a_document_downloads_as_it_was_rendered_and_cannot_run_as_our_origin() {
    let app = TestApp::start().await;
    let client = app.admin();
    let arguments = json!({"title": "Größe/../x", "markdown": "Hello **{{ name }}** <script>x</script>", "data": {"name": "Ada"}, "format": "html"});
    let result = client.result_of("document.render", arguments).await;
    let path = format!("/v1/artifacts/{}", result["artifact_id"].as_str().unwrap());
    let artifact = client.get(&path).await;
    assert_eq!(artifact.status, 200);
    let sha256 = canonical::hex(&Sha256::digest(&artifact.body));
    assert_eq!(result["sha256"], sha256);
    assert_eq!(result["size"], artifact.body.len());
    assert!(
        artifact.text().contains("Hello <strong>Ada</strong>") && !artifact.text().contains("<script"),
        "{}",
        artifact.text()
    );
    assert_eq!(artifact.header("etag"), format!("\"{sha256}\""));
    assert_eq!(artifact.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(artifact.header("x-content-type-options"), "nosniff");
    assert!(artifact.header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    assert!(artifact.header("cache-control").contains("private"));
    assert!(!artifact.header("content-disposition").contains(['/', '\\', 'ö']), "{}", artifact.header("content-disposition"));

    let unchanged = send(client.request(Method::GET, &path).header("if-none-match", artifact.header("etag"))).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    for name in ["etag", "cache-control"] {
        assert_eq!(unchanged.header(name), artifact.header(name), "{name}");
    }
    let changed = send(client.request(Method::GET, &path).header("if-none-match", "\"other\"")).await;
    assert_eq!(changed.status, 200);
    client.get(&format!("/v1/artifacts/{}", Uuid::from_u128(1))).await.problem(404, "not-found");
}
