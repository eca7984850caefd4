//! Each role's user may do what the permission table says, and nothing else.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use toolgate_events::{CallId, CallSubject, Envelope, Lane, Stamp, ToolCallEvent};
use toolgate_store::{Artifacts, Clock, Expect, Grant, Log, Login, TlsFiles, User};

use crate::app::{PARTITIONS, RawNats, Stack, Tenant, request};

/// What no role may publish to.
const NEVER: [&str; 35] = [
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.UPDATE.EVENTS_00",
    "$JS.API.STREAM.DELETE.EVENTS_00",
    "$JS.API.STREAM.PURGE.EVENTS_00",
    "$JS.API.STREAM.MSG.DELETE.EVENTS_00",
    "$JS.API.STREAM.DELETE.PARKED",
    "$JS.API.STREAM.DELETE.ACCESS",
    "$JS.API.STREAM.PURGE.ACCESS",
    "$JS.API.STREAM.MSG.DELETE.ACCESS",
    "$JS.API.STREAM.PURGE.LIMITS",
    "$JS.API.STREAM.UPDATE.OBJ_artifacts",
    "$JS.API.STREAM.PURGE.OBJ_artifacts",
    "$JS.API.STREAM.DELETE.OBJ_artifacts",
    "$JS.API.STREAM.MSG.DELETE.OBJ_artifacts",
    "$JS.API.STREAM.SNAPSHOT.EVENTS_00",
    "$JS.API.STREAM.RESTORE.EVENTS_00",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.PEER.REMOVE.EVENTS_00",
    "$JS.API.STREAM.LEADER.STEPDOWN.EVENTS_00",
    "$JS.API.CONSUMER.DELETE.EVENTS_00.lane-task",
    "$JS.API.CONSUMER.CREATE.EVENTS_00",
    "$JS.API.CONSUMER.CREATE.EVENTS_00.mine.ev.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS_00.mine",
    "$JS.API.CONSUMER.PAUSE.EVENTS_00.lane-task",
    "$JS.API.CONSUMER.CREATE.ACCESS",
    "$JS.API.CONSUMER.CREATE.ACCESS.mine",
    "$JS.API.CONSUMER.CREATE.ACCESS.mine.access.tenant.somebody",
    "$JS.API.INFO",
    "$JS.API.META.LEADER.STEPDOWN",
    "$SYS.REQ.SERVER.PING",
    "access.revoked",
    "ev.00.tenant",
    "_INBOX.somebody.else",
    "anything",
];

/// What no role may subscribe to.
const NEVER_HEARD: [&str; 12] = [
    ">",
    "*",
    "_INBOX.>",
    "$SYS.>",
    "ev.>",
    "ev.00.*.*.*",
    "$JS.>",
    "$JS.API.>",
    "$JS.ACK.>",
    "$O.artifacts.>",
    "access.>",
    "limits.>",
];

/// What a role may not publish to, beyond [`NEVER`]: mostly what another one may.
fn forbidden(user: User) -> &'static [&'static str] {
    match user {
        User::Operator => &[],
        User::CommandApi => &[
            "reply.somebody",
            "projected.tenant",
            "parked.00.1",
            "$O.artifacts.M.name",
            "$O.artifacts.C.chunk",
            "$JS.ACK.EVENTS_00.lane-task.1.1.1.1.0",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS_00.lane-task",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.lane-task.ev.00.*.task.*",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.mine",
            "$JS.API.STREAM.INFO.OBJ_artifacts",
            "$JS.API.STREAM.MSG.GET.PARKED",
        ],
        User::QueryApi => &[
            "ev.00.tenant.task.call",
            "reply.somebody",
            "projected.tenant",
            "limits.tenant",
            "parked.00.1",
            "$O.artifacts.M.name",
            "$O.artifacts.C.chunk",
            "$JS.ACK.EVENTS_00.lane-task.1.1.1.1.0",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS_00.lane-task",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.lane-task.ev.00.*.task.*",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.mine",
            "$JS.API.STREAM.MSG.GET.LIMITS",
        ],
        User::Worker => &[
            "limits.tenant",
            "projected.tenant",
            "$JS.API.STREAM.INFO.ACCESS",
            "$JS.API.STREAM.MSG.GET.ACCESS",
            "$JS.API.DIRECT.GET.ACCESS",
            "$JS.API.DIRECT.GET.ACCESS.access.revoked",
            "$JS.API.STREAM.MSG.GET.LIMITS",
            "$JS.API.STREAM.MSG.GET.PARKED",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.mine",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.lane-task",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.lane-task.ev.00.*.search.*",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS_00.reader-1",
        ],
        User::Projector => &[
            "ev.00.tenant.task.call",
            "reply.somebody",
            "limits.tenant",
            "parked.00.1",
            "$O.artifacts.M.name",
            "$JS.ACK.EVENTS_00.lane-task.1.1.1.1.0",
            "$JS.API.STREAM.INFO.ACCESS",
            "$JS.API.STREAM.MSG.GET.ACCESS",
            "$JS.API.STREAM.MSG.GET.LIMITS",
            "$JS.API.STREAM.MSG.GET.PARKED",
            "$JS.API.STREAM.MSG.GET.OBJ_artifacts",
            "$JS.API.DIRECT.GET.OBJ_artifacts.$O.artifacts.M.name",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS_00.lane-task",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.lane-task",
            "$JS.API.CONSUMER.CREATE.EVENTS_00.lane-task.ev.00.*.task.*",
        ],
    }
}

/// What a role may not subscribe to, beyond [`NEVER_HEARD`].
fn not_heard(user: User) -> &'static [&'static str] {
    match user {
        User::Operator => &[],
        User::CommandApi => &["parked.>", "parked.*.*", "$JS.FC.>"],
        User::QueryApi => &["reply.*", "parked.>"],
        User::Worker => &["reply.*", "projected.*"],
        User::Projector => &["reply.*", "projected.*"],
    }
}

/// A subject that a grant allows.
fn example(grant: &Grant) -> String {
    let subject = grant.subjects(PARTITIONS).swap_remove(0);
    subject.split('.').map(|token| if token == "*" || token == ">" { "x" } else { token }).collect::<Vec<_>>().join(".")
}

#[tokio::test]
async fn everything_but_the_listed_subjects_is_refused_to_every_role() {
    let stack = Stack::new().await;
    stack.log().await;
    for user in User::ROLES {
        let mut raw = RawNats::open(&stack.connections.nats_roles[&user]).await;
        for subject in NEVER.iter().chain(forbidden(user)) {
            let answer = raw.publish(subject, b"{}").await;
            assert!(is_violation(&answer, "Publish"), "{user:?} may publish to {subject}: {answer:?}");
        }
        for subject in NEVER_HEARD.iter().chain(not_heard(user)) {
            let answer = raw.subscribe(subject).await;
            assert!(is_violation(&answer, "Subscription"), "{user:?} may subscribe to {subject}: {answer:?}");
        }
        for other in User::ROLES.into_iter().filter(|other| *other != user) {
            let inbox = other.inbox();
            let heard = raw.subscribe(&format!("{inbox}.>")).await;
            assert!(is_violation(&heard, "Subscription"), "{user:?} may hear {inbox}: {heard:?}");
            let answered = raw.publish(&format!("{inbox}.x"), b"").await;
            assert!(is_violation(&answered, "Publish"), "{user:?} may answer {other:?}: {answered:?}");
        }
    }
    assert_eq!(stack.events_in_log().await, 0);
}

#[tokio::test]
async fn every_listed_subject_is_allowed() {
    let stack = Stack::new().await;
    stack.log().await;
    for user in User::ROLES {
        let permissions = user.permissions().unwrap();
        let mut raw = RawNats::open(&stack.connections.nats_roles[&user]).await;
        for grant in permissions.publish {
            let subject = example(grant);
            assert_eq!(raw.publish(&subject, b"").await, Ok(()), "{user:?}: {subject}");
        }
        for grant in permissions.never_publish {
            let answer = raw.publish(&example(grant), b"").await;
            assert!(is_violation(&answer, "Publish"), "{user:?}: {grant:?}");
        }
        for grant in permissions.subscribe {
            assert_eq!(raw.subscribe(grant.subject).await, Ok(()), "{user:?}: {grant:?}");
        }
    }
}

#[tokio::test]
async fn an_append_by_a_role_that_only_reads_never_arrives() {
    let stack = Stack::new().await;
    stack.log().await;
    for (user, may) in [(User::CommandApi, true), (User::Worker, true), (User::QueryApi, false), (User::Projector, false)] {
        let url = secrecy::ExposeSecret::expose_secret(&stack.connections.nats_roles[&user]);
        let options = Stack::log_options();
        let log = Log::connect(Login { url, user, tls: TlsFiles::NONE }, &options).await.unwrap();
        let clock = Clock::system();
        let (tenant, call) = (Tenant::new().id(), CallId(clock.new_id()));
        let subject = CallSubject::new(PARTITIONS, tenant, Lane::new("task").unwrap(), call);
        let event = ToolCallEvent::ToolCallRequested(request("f"));
        let stamp = Stamp {
            event_id: clock.new_id(),
            occurred_at: clock.now(),
            actor: "tester".to_owned(),
            causation_id: None,
            trace_context: None,
        };
        let envelope = Envelope::seal(&event, tenant, call, 1, stamp).unwrap();
        let outcome = log.append(&subject, &envelope, Expect::NOTHING, None, Duration::ZERO).await;
        assert_eq!(outcome.is_ok(), may, "{user:?}: {outcome:?}");
        assert_eq!(stack.log().await.load(&subject).await.unwrap().len(), usize::from(may), "{user:?}");
    }
}

#[tokio::test]
async fn a_worker_keeps_an_artifact_again_without_the_right_to_purge() {
    let stack = Stack::new().await;
    stack.log().await;
    let open = async |user| {
        let url = secrecy::ExposeSecret::expose_secret(&stack.connections.nats_roles[&user]);
        let options = Stack::log_options();
        let log = Log::connect(Login { url, user, tls: TlsFiles::NONE }, &options).await.unwrap();
        Artifacts::open(&log).await.unwrap()
    };
    let (keeps, reads) = (open(User::Worker).await, open(User::QueryApi).await);
    let (tenant, artifact) = (Tenant::new().id(), Clock::system().new_id());
    // Several chunks, then the same again as by a call that runs twice, then others.
    for bytes in [vec![7; 300_000], vec![7; 300_000], vec![7; 299_999], vec![8; 299_999]] {
        keeps.put(tenant, artifact, &bytes).await.unwrap();
        let mut found = Vec::new();
        reads.get(tenant, artifact).await.unwrap().read_to_end(&mut found).await.unwrap();
        assert!(found == bytes, "{} of {} bytes", found.len(), bytes.len());
    }
}

fn is_violation(answer: &Result<(), String>, kind: &str) -> bool {
    answer.as_ref().is_err_and(|error| error.contains(&format!("Permissions Violation for {kind}")))
}
