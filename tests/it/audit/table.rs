//! What somebody changes in the table itself, with the rights to do everything, shows in the export.

use sqlx::Executor;

use super::judge::{Heads, found_here};
use crate::app::{TableOwner, TestApp, post_mixed, wait_until};

/// The row that is changed.
const AT: u64 = 5;

#[tokio::test]
async fn every_change_of_the_table_is_named() {
    let app = TestApp::start().await;
    let client = app.admin();
    assert_eq!(post_mixed(&client, 8, 4, |_| ()).await.len(), 8);
    let outcomes = "select count(*) from audit_event where event_type in ('tool_call_succeeded', 'tool_call_failed')";
    wait_until("every call has an outcome", async || app.stack.count(outcomes).await == 8).await;
    let signed = Heads::default().of(client.tenant.id());
    let export = async || client.get("/v1/audit/export").await.body;
    let count = export().await.split(|byte| *byte == b'\n').count() as u64 - 1;
    let (row, before) = (format!("where position = {AT}"), format!("where position = {}", AT - 1));
    let update = |change: &str| (format!("update audit_event set {change} {row}"), AT);
    let mut changes: Vec<_> = [
        "stream_sequence = stream_sequence + 1000000",
        "event_id = gen_random_uuid()",
        "event_type = event_type || ' '",
        "event_version = event_version + 1",
        "event_version = -event_version",
        "aggregate_type = upper(aggregate_type)",
        "aggregate_id = gen_random_uuid()",
        "aggregate_sequence = aggregate_sequence + 1",
        "aggregate_sequence = -aggregate_sequence",
        "actor = actor || chr(1)",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "correlation_id = gen_random_uuid()",
        "causation_id = gen_random_uuid()",
        "data = '{}'",
        "data = (data::text || ' ')::json",
        "data = replace(data::text, ',', chr(10) || ',')::json",
        "data = data::jsonb::text::json",
        "prev_hash = hash",
        "prev_hash = ''",
        "hash = upper(hash)",
        "hash = prev_hash",
        "position = position + 1000",
    ]
    .map(update)
    .into();
    changes.extend([
        (format!("delete from audit_event {row}"), AT),
        ("delete from audit_event where position = 1".to_owned(), 1),
        (format!("delete from audit_event where position between {} and {AT}", AT - 1), AT - 1),
        // Two rows change places.
        (
            format!(
                "update audit_event set position = 1000 {row}; update audit_event set position = {AT} {before}; \
                 update audit_event set position = {} where position = 1000",
                AT - 1
            ),
            AT - 1,
        ),
        // A row that never happened, with a hash that fits nothing, and at the end.
        (
            format!(
                "update audit_event set position = position + 1001 where position >= {AT};
                 update audit_event set position = position - 1000 where position > 1000;
                 insert into audit_event select (jsonb_populate_record(a, jsonb_build_object('position', {AT}))).* from audit_event a {before}"
            ),
            AT,
        ),
        (
            format!(
                "insert into audit_event select (jsonb_populate_record(a, jsonb_build_object('position', {}))).* from audit_event a {row}",
                count + 1
            ),
            count + 1,
        ),
    ]);
    let mut superuser = app.stack.connect(TableOwner::Superuser).await;
    superuser.execute("create table kept as select * from audit_event; set session_replication_role = replica").await.unwrap();
    for (change, position) in changes {
        superuser.execute(change.as_str()).await.unwrap();
        let found = found_here(&signed, &export().await);
        assert!(found.ends_with(&format!(", row {position}")), "{change}: found {found}, not row {position}");
        superuser.execute("delete from audit_event; insert into audit_event select * from kept").await.unwrap();
        assert_eq!(found_here(&signed, &export().await), "nothing", "after {change}");
    }
    superuser.execute("drop table kept").await.unwrap();
}
