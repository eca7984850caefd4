use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    app::{TestApp, task_titled},
    replay::replay,
};

/// Readers read, subscribers hear every position once, and calls are answered, while projections take each other's place.
#[tokio::test]
async fn nobody_notices_a_switch() {
    let app = TestApp::start().await;
    let tenant = app.admin();
    tenant.call_and_wait("first", &task_titled("first")).await;
    let mut stream = tenant.events("?after=0", None).await;

    let switching = Arc::new(AtomicBool::new(true));
    let readers = ["/v1/tasks", "/v1/tool-calls", "/v1/audit?limit=5", "/v1/documents"].map(|path| {
        let (client, switching) = (tenant.clone(), Arc::clone(&switching));
        tokio::spawn(async move {
            let mut reads = 0_u32;
            while switching.load(Ordering::Relaxed) {
                let answer = client.get(path).await;
                assert_eq!(answer.status, 200, "{path} after {reads} reads: {}", answer.text());
                reads += 1;
            }
            reads
        })
    });
    let (client, writing) = (tenant.clone(), Arc::clone(&switching));
    let writer = tokio::spawn(async move {
        let mut calls = 0_u32;
        while writing.load(Ordering::Relaxed) {
            let answer = client.call_and_wait(&calls.to_string(), &task_titled("more")).await;
            assert_eq!(answer.json()["status"], "succeeded", "{}", answer.text());
            calls += 1;
        }
        calls
    });
    for _ in 0..3 {
        let switched = replay(&app.stack, &["--switch"]).await.succeeded();
        assert!(switched.stderr.contains("switched"), "{switched:#?}");
    }
    switching.store(false, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    let calls = writer.await.unwrap() + 1;

    let last = tenant.call_and_wait("last", &task_titled("last")).await.json();
    tenant.get_projected(&last).await;
    let events = stream.events(usize::try_from(2 * (calls + 1)).unwrap()).await;
    let positions: Vec<_> = events.iter().map(|frame| frame.position()).collect();
    assert_eq!(positions, (1..=u64::from(2 * (calls + 1))).collect::<Vec<_>>());
    assert_eq!(app.stack.count("select count(*) from task").await, i64::from(calls + 1));
    replay(&app.stack, &["--check"]).await.succeeded();
}
