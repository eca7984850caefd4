use serde_json::Value;
use toolgate_events::{Envelope, Form};
use toolgate_store::Keyring;

use crate::{
    app::{Child, RawNats, Role, Stack, TestApp, post_mixed, wait_until},
    replay::{
        left_behind, projected,
        random::{Message, Random, Seal, Story},
        replay,
    },
};

pub async fn append(stack: &Stack, messages: Vec<Message>) {
    // The streams must be there before anything is said to them.
    let log = stack.log().await;
    let mut nats = RawNats::open(&stack.connections.nats).await;
    for message in messages {
        nats.publish(&message.subject, &recorded(log.keys(), &message).await).await.unwrap();
    }
}

/// The message as toolgate would write it: what is content in it is sealed. Some was damaged since.
async fn recorded(keys: &Keyring, message: &Message) -> Vec<u8> {
    let form = match message.seal {
        Seal::No => return message.payload.clone(),
        Seal::Well | Seal::Damaged => Form::Open,
    };
    let envelope = Envelope { form, ..Envelope::decode(&message.payload).unwrap() };
    let mut sealed = keys.seal(&envelope).await.unwrap();
    if message.seal == Seal::Damaged {
        for member in sealed.sealed_members() {
            let Some(Value::String(jwe)) = sealed.data.pointer_mut(&format!("{}/jwe", member.pointer())) else { continue };
            jwe.replace_range(jwe.len() - 8.., "AAAAAAAA");
        }
    }
    sealed.encode().unwrap()
}

async fn equal(stack: &Stack, arguments: &[&str]) {
    let ran = replay(stack, arguments).await.succeeded();
    let (equal, different) = ran.verdicts();
    assert!(different.is_empty() && equal.len() >= 11, "{ran:#?}");
    assert_eq!(left_behind(stack).await, 0);
}

/// Whatever the log holds, in whatever batches it was projected and however often a projector died: made anew it comes out the same.
#[tokio::test]
async fn what_is_made_anew_is_what_is_live_whatever_the_log_holds() {
    let mut random = Random::new(Random::seed());
    let stack = Stack::new().await;
    let mut story = Story::new(random.next());
    append(&stack, story.tell(150)).await;
    for point in ["projector.written", "projector.committed"] {
        let batch = (1 + random.below(40)).to_string();
        let variables = [("TOOLGATE_CRASH_AT", point), ("TOOLGATE_PROJECTOR_BATCH", batch.as_str())];
        let mut dying = Child::start(&stack, Role::Projector, &variables).await;
        assert!(!dying.ended().await.success(), "it was to die at {point}");
        append(&stack, story.tell(50)).await;
    }
    let batch = (1 + random.below(200)).to_string();
    let _projector = Child::start(&stack, Role::Projector, &[("TOOLGATE_PROJECTOR_BATCH", &batch)]).await;
    append(&stack, story.tell(250)).await;
    projected(&stack).await;
    for table in
        ["audit_event", "tool_call", "task", "knowledge_document", "vector_item", "template_version", "parked_event", "erasure"]
    {
        assert!(stack.count(&format!("select count(*) from {table}")).await > 0, "the history has no {table}");
    }
    let sealed = "select count(*) from tool_call where arguments->>'jwe' is not null and data_subject is not null";
    assert!(stack.count(sealed).await > 0, "no call was sealed for a data subject");
    for batch in ["1", "7", "5000"] {
        equal(&stack, &["--check", "--batch", batch]).await;
        equal(&stack, &["--check", "--from", "audit", "--batch", batch]).await;
    }
}

/// While calls are made, and while more comes into the log than one round of replaying takes.
#[tokio::test]
async fn what_is_made_anew_is_equal_while_calls_are_made() {
    let app = TestApp::start().await;
    let client = app.admin();
    let traffic = post_mixed(&client, 120, 4, |_| ());
    let comparing = async {
        wait_until("calls are being projected", async || app.stack.count("select count(*) from tool_call").await > 0).await;
        for source in ["log", "audit", "log"] {
            equal(&app.stack, &["--check", "--from", source, "--batch", "20"]).await;
        }
    };
    tokio::join!(traffic, comparing);
}
