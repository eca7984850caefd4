//! `GET /v1/events` with `Last-Event-ID`

use futures::{StreamExt, stream};

use crate::app::{Client, Frame, TestApp, post_mixed};

const CALLS: usize = 300;

#[tokio::test]
async fn reconnecting_anywhere_loses_nothing_and_repeats_nothing() {
    let app = TestApp::start().await;
    let client = app.admin();
    let posting = post_mixed(&client, CALLS, 8, |_| ());
    // Three readers that hang up after different numbers of frames, while everything is happening.
    let reading =
        stream::iter([1_usize, 7, 64]).map(|patience| read_all(&client, patience)).buffer_unordered(3).collect::<Vec<_>>();
    let (posted, read) = tokio::join!(posting, reading);
    assert_eq!(posted.len(), CALLS);
    for frames in read {
        let positions: Vec<_> = frames.iter().map(Frame::position).collect();
        assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>());
        let outcomes = frames.iter().filter(|frame| is_outcome(frame)).count();
        assert_eq!(outcomes, CALLS);
    }
}

fn is_outcome(frame: &Frame) -> bool {
    ["tool_call_succeeded", "tool_call_failed"].contains(&frame.name())
}

/// Reads until every call has an outcome, hanging up again and again.
async fn read_all(client: &Client, patience: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut outcomes = 0;
    let mut connections = 0;
    while outcomes < CALLS {
        let last = frames.last().map(|frame| frame.position().to_string());
        let mut stream = client.events("?after=0", last.as_deref()).await;
        connections += 1;
        // One event a connection would be a connection an event.
        let patience = if connections < 30 { patience } else { patience + connections * 7 };
        for _ in 0..patience {
            let frame = stream.event().await.expect("the stream ended early");
            outcomes += usize::from(is_outcome(&frame));
            frames.push(frame);
            if outcomes == CALLS {
                break;
            }
        }
    }
    frames
}
