//! `GET /v1/artifacts/{artifact_id}` with `Range`

use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::app::{Answer, Client, TestApp, send};

struct Artifact {
    client: Client,
    path: String,
    whole: Answer,
}

impl Artifact {
    /// One that the object store keeps in several chunks.
    async fn make(app: &TestApp) -> Self {
        let client = app.admin();
        let arguments = json!({"title": "T", "markdown": "some words, ".repeat(20_000), "format": "html"});
        let result = client.result_of("document.render", arguments).await;
        let path = format!("/v1/artifacts/{}", result["artifact_id"].as_str().unwrap());
        let whole = client.get(&path).await;
        assert_eq!((whole.status, whole.header("accept-ranges")), (200, "bytes"));
        Self { client, path, whole }
    }

    async fn ask(&self, method: Method, headers: &[(&str, &str)]) -> Answer {
        let request = self.client.request(method, &self.path);
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    async fn range(&self, range: &str) -> Answer {
        self.ask(Method::GET, &[("range", range)]).await
    }
}

#[tokio::test]
async fn a_range_is_sent_alone_and_says_where_it_belongs() {
    let app = TestApp::start().await;
    let artifact = Artifact::make(&app).await;
    let size = artifact.whole.body.len();
    assert!(size > 200_000, "{size}");
    for (range, first, last) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=1000-1999".to_owned(), 1000, 1999),
        ("bytes=131071-131072".to_owned(), 131_071, 131_072),
        (format!("bytes=0-{}", size - 2), 0, size - 2),
        (format!("bytes=0-{}", size - 1), 0, size - 1),
        (format!("bytes=0-{size}"), 0, size - 1),
        (format!("bytes={}-", size - 1), size - 1, size - 1),
        ("bytes=0-".to_owned(), 0, size - 1),
        ("bytes=-1".to_owned(), size - 1, size - 1),
        (format!("bytes=-{}", size - 1), 1, size - 1),
        (format!("bytes=-{size}"), 0, size - 1),
        (format!("bytes=-{}", size + 1), 0, size - 1),
    ] {
        let part = artifact.range(&range).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/{size}"), "{range}");
        assert_eq!(part.header("content-length"), (last - first + 1).to_string(), "{range}");
        assert!(part.body == artifact.whole.body[first..=last], "{range}: other bytes");
        for name in ["etag", "content-type", "repr-digest", "content-disposition", "content-security-policy", "accept-ranges"] {
            assert_eq!(part.header(name), artifact.whole.header(name), "{range}: {name}");
        }
        assert!(!part.headers.contains_key("content-digest"), "{range}: it would have to be of the part");
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_refused_with_the_size() {
    let app = TestApp::start().await;
    let artifact = Artifact::make(&app).await;
    let size = artifact.whole.body.len();
    for range in [format!("bytes={size}-"), format!("bytes={}-", size + 1), format!("bytes={size}-{size}"), "bytes=-0".to_owned()]
    {
        let refused = artifact.range(&range).await;
        refused.problem(416, "range-not-satisfiable");
        assert_eq!(refused.header("content-range"), format!("bytes */{size}"), "{range}");
        assert!(!refused.headers.contains_key("content-disposition"), "{range}");
    }
    // Whoever may not see the artifact does not learn its size.
    let stranger = app.admin().request(Method::GET, &artifact.path).header("range", format!("bytes={size}-"));
    let stranger = send(stranger).await;
    stranger.problem(404, "not-found");
    assert!(!stranger.headers.contains_key("content-range"));
}

#[tokio::test]
async fn whatever_is_no_single_range_gets_the_whole() {
    let app = TestApp::start().await;
    let artifact = Artifact::make(&app).await;
    for range in ["bytes=0-1,5-6", "bytes=5-3", "bytes=x", "lines=0-1", "bytes"] {
        let whole = artifact.range(range).await;
        assert_eq!(whole.status, 200, "{range}");
        assert!(whole.body == artifact.whole.body && !whole.headers.contains_key("content-range"), "{range}");
    }
}

#[tokio::test]
async fn a_range_of_what_has_changed_gets_the_whole() {
    let app = TestApp::start().await;
    let artifact = Artifact::make(&app).await;
    let etag = artifact.whole.header("etag");
    let part = artifact.ask(Method::GET, &[("range", "bytes=0-1"), ("if-range", etag)]).await;
    assert_eq!(part.status, 206);
    for tag in ["\"other\"", &format!("W/{etag}"), "Wed, 21 Oct 2015 07:28:00 GMT"] {
        let whole = artifact.ask(Method::GET, &[("range", "bytes=0-1"), ("if-range", tag)]).await;
        assert_eq!((whole.status, whole.body.len()), (200, artifact.whole.body.len()), "{tag}");
    }
    // What is there already is not sent in part either (RFC 9110, section 13.2.2).
    let unchanged = artifact.ask(Method::GET, &[("range", "bytes=0-1"), ("if-none-match", etag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

#[tokio::test]
async fn a_head_tells_of_the_whole_and_sends_nothing() {
    let app = TestApp::start().await;
    let artifact = Artifact::make(&app).await;
    for headers in [&[][..], &[("range", "bytes=0-1")], &[("range", "bytes=999999999-")]] {
        let head = artifact.ask(Method::HEAD, headers).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-length", "content-type", "etag", "accept-ranges", "repr-digest"] {
            assert_eq!(head.header(name), artifact.whole.header(name), "{name}");
        }
    }
    assert_eq!(artifact.ask(Method::HEAD, &[("if-none-match", artifact.whole.header("etag"))]).await.status, 304);
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on_where_it_was() {
    let app = TestApp::start().await;
    let artifact = Artifact::make(&app).await;
    let (mut bytes, etag) = (Vec::new(), artifact.whole.header("etag"));
    while bytes.len() < artifact.whole.body.len() {
        let range = format!("bytes={}-{}", bytes.len(), bytes.len() + 50_000);
        bytes.extend(artifact.ask(Method::GET, &[("range", &range), ("if-range", etag)]).await.body);
    }
    assert_eq!(etag.trim_matches('"'), toolgate_events::canonical::hex(&Sha256::digest(&bytes)));
}
