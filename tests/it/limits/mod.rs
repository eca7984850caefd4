//! Nobody gets more than their share: of commands, of open calls, of places, of connections, of streams, of time.

mod connections;
mod drain;
mod fairness;
mod open_calls;
mod places;
mod rate;
mod replicas;
mod streams;

use std::time::Instant;

use futures::{StreamExt, stream};

use crate::app::{Answer, Client, task};

/// Posts `count` calls under keys of their own, `concurrency` at a time, to the clients in turn.
async fn post_many(clients: &[&Client], count: usize, concurrency: usize) -> Vec<Answer> {
    let posts = (0..count).map(|number| {
        let client = clients[number % clients.len()];
        async move { client.call(&format!("k{number}"), &task()).await }
    });
    stream::iter(posts).buffer_unordered(concurrency).collect().await
}

fn count(answers: &[Answer], status: u16) -> u64 {
    answers.iter().filter(|answer| answer.status == status).count() as u64
}

/// What a window may let through beyond its limit when the test lasted until now: what has fallen out of it meanwhile.
fn slid(limit: u64, began: Instant) -> u64 {
    (limit * began.elapsed().as_millis() as u64).div_ceil(60_000)
}
