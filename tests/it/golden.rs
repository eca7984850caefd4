//! Golden files: what was once written must be understood for ever.
//!
//! `events/golden/<event_type>.v<version>.json` holds one envelope each. An old file is never changed.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;
use toolgate_events::{DecodeError, Envelope, Event, RefusalEvent, ToolCallEvent, upcast};

fn golden() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events/golden");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap())
        })
        .collect();
    files.sort_by(|a: &(String, Value), b| a.0.cmp(&b.0));
    files
}

/// Every type and version this release understands, asked of the upcaster itself.
fn known() -> BTreeSet<(String, u32)> {
    let types = [
        ToolCallEvent::REQUESTED,
        ToolCallEvent::STARTED,
        ToolCallEvent::RETRIED,
        ToolCallEvent::SUCCEEDED,
        ToolCallEvent::FAILED,
        ToolCallEvent::CANCELLED,
        RefusalEvent::DENIED,
        RefusalEvent::RATE_LIMITED,
    ];
    let is_known = |name: &str, version| match upcast(name, version, &Value::Null) {
        Ok(_) | Err(DecodeError::Data { .. }) => true,
        Err(DecodeError::UnknownType(name)) => panic!("{name} is not known at all"),
        Err(_) => false,
    };
    let versions =
        |name: &'static str| (0..50).filter(move |version| is_known(name, *version)).map(|version| (name.to_owned(), version));
    types.into_iter().flat_map(versions).collect()
}

#[test]
fn every_known_version_of_every_event_has_a_golden_file() {
    let files: BTreeSet<_> = golden().into_iter().map(|(name, _)| name).collect();
    let expected: BTreeSet<_> = known().into_iter().map(|(name, version)| format!("{name}.v{version}.json")).collect();
    assert_eq!(files, expected);
}

#[test]
fn every_golden_file_is_understood_and_a_current_one_is_written_the_same() {
    for (name, golden) in golden() {
        let envelope = Envelope::decode(&serde_json::to_vec(&golden).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(name, format!("{}.v{}.json", envelope.event_type, envelope.event_version));
        let mut expected = golden["data"].clone();
        for member in envelope.sealed_members() {
            let sealed = matches!(envelope.event(), Err(DecodeError::Sealed { .. }));
            assert!(sealed, "{name}: what is sealed must never be taken for what was said");
            *expected.pointer_mut(member.pointer()).unwrap() = member.placeholder();
        }
        let event = envelope.clone().without_content().event().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(event.name(), envelope.event_type);
        // The envelope itself comes back whatever the event's version.
        assert_eq!(serde_json::from_slice::<Value>(&envelope.encode().unwrap()).unwrap(), golden, "{name}");
        if event.version() == envelope.event_version {
            assert_eq!(event.data().unwrap(), expected, "{name}");
        }
    }
}

#[test]
fn an_old_request_is_brought_up_to_date_without_inventing_anything() {
    let (_, golden) = golden().into_iter().find(|(name, _)| name == "tool_call_requested.v1.json").unwrap();
    let envelope: Envelope = serde_json::from_value(golden.clone()).unwrap();
    let Ok(Event::ToolCall(ToolCallEvent::ToolCallRequested(request))) = envelope.event() else { panic!("another event") };
    assert_eq!(request.tool, golden["data"]["tool"]);
    assert_eq!(request.authorization.principal, golden["data"]["principal"]);
    assert_eq!(request.options.timeout_ms.map(u64::from), golden["data"]["timeout_ms"].as_u64());
    assert_eq!(request.authorization.rule, "unrecorded");
    assert_eq!(request.authorization.contract_hash, "unrecorded");
}

#[test]
fn an_old_result_was_the_calls_own() {
    let (_, golden) = golden().into_iter().find(|(name, _)| name == "tool_call_succeeded.v1.json").unwrap();
    let envelope: Envelope = serde_json::from_value(golden.clone()).unwrap();
    let Ok(Event::ToolCall(ToolCallEvent::ToolCallSucceeded(succeeded))) = envelope.event() else { panic!("another event") };
    assert_eq!(succeeded.result, golden["data"]["result"]);
    assert_eq!((succeeded.cached, succeeded.stale, succeeded.source_call_id, succeeded.age_seconds), (false, false, None, None));
}
