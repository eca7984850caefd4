//! The ways to compare say the same: in the worker, and in the database where that offers pgvector.

use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use super::{ids, search, upsert};
use crate::app::{TableOwner, TestApp};

const DIMENSIONS: usize = 19;
const ITEMS: usize = 120;

/// Whole numbers from a name: the same every time, and their products are exact.
fn vector(name: &str) -> Vec<i32> {
    let bytes = (0..2).flat_map(|part| *Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{name}/{part}").as_bytes()).as_bytes());
    bytes.take(DIMENSIONS).map(|byte| i32::from(byte % 21) - 10).collect()
}

/// Every third has the vector of another, so that there are ties.
fn items() -> Vec<(String, Vec<i32>, i64)> {
    (0..ITEMS)
        .map(|n| (format!("i{n}"), vector(&(n - usize::from(n % 3 == 2)).to_string()), i64::try_from(n % 4).unwrap()))
        .collect()
}

fn score(metric: &str, a: &[i32], b: &[i32]) -> f64 {
    let dot = |a: &[i32], b: &[i32]| f64::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<i32>());
    match metric {
        "dot" => dot(a, b),
        _ => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
    }
}

/// The ranking by comparing one by one, with all places.
fn reference(metric: &str, question: &[i32], group: Option<i64>) -> Vec<(String, f64)> {
    let fitting = items().into_iter().filter(|item| group.is_none_or(|group| item.2 == group));
    let mut ranking: Vec<_> = fitting.map(|(id, vector, _)| (id, score(metric, question, &vector))).collect();
    ranking.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranking
}

#[tokio::test]
async fn every_way_to_compare_gives_the_ranking_of_comparing_one_by_one() {
    let app = TestApp::start().await;
    let client = app.admin();
    // Another tenant's items are compared with by nobody else.
    app.admin()
        .result_of("vector.upsert", upsert("c", json!([{"id": "x", "vector": vector("question 1")}]))["arguments"].clone())
        .await;
    let all: Vec<_> = items()
        .into_iter()
        .map(|(id, vector, group)| json!({"id": id, "vector": vector, "metadata": {"group": group}}))
        .collect();
    client.result_of("vector.upsert", upsert("c", json!(all))["arguments"].clone()).await;
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    let is_offered: bool = sqlx::query_scalar("select exists (select from pg_available_extensions where name = 'vector')")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    let (without, with) = (
        "drop schema if exists pgvector cascade",
        "create schema pgvector; create extension vector schema pgvector; grant usage on schema pgvector to toolgate_reader",
    );
    for engine in [without, with].into_iter().take(1 + usize::from(is_offered)) {
        superuser.execute(engine).await.unwrap();
        for round in 0..12 {
            let question = vector(&format!("question {round}"));
            let metric = if round % 2 == 0 { "cosine" } else { "dot" };
            let group = (round % 3 == 0).then_some(i64::from(round % 4));
            let mut arguments = json!({"collection": "c", "vector": question, "metric": metric, "top_k": 100});
            if let Some(group) = group {
                arguments["filter"] = json!({"group": group});
            }
            let found = search(&client, arguments).await;
            let expected = reference(metric, &question, group);
            assert_eq!(found["result"]["scanned"], expected.len(), "{engine}: {found}");
            let hits = found["result"]["hits"].as_array().unwrap();
            assert_eq!(hits.len(), expected.len().min(100), "{engine}");
            for (hit, (_, expected)) in hits.iter().zip(&expected) {
                assert!((hit["score"].as_f64().unwrap() - expected).abs() < 1e-5, "{engine}: {hit} instead of {expected}");
            }
            if metric == "dot" {
                // The products are exact, so the order is as well, also of equals.
                let order: Vec<_> = expected.iter().take(100).map(|(id, _)| id.as_str()).collect();
                assert_eq!(ids(&found), order, "{engine}");
            }
        }
        let fused =
            search(&client, json!({"collection": "c", "vector": vector("0"), "text": "nobody has this", "top_k": 1})).await;
        assert_eq!(fused["result"]["hits"][0]["score"], json!(1.0 / 61.0), "{engine}: {fused}");
    }
}
