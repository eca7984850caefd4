//! Who may do what on the broker: one user per role, each with a list of what it may publish and subscribe to, and nothing else.
//!
//! The server's configuration and the operators' table are made from this list.

use toolgate_events::{Partition, tools};

/// The most partitions a log can have.
pub const MAX_PARTITIONS: u16 = 64;

/// A user of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// Whoever runs toolgate: everything is allowed, and only this user makes, changes or deletes streams.
    Operator,
    CommandApi,
    QueryApi,
    Worker,
    Projector,
}

/// One line of the permission table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The subject as the server has it, but for `{partition}` and `{lane}`, which stand for each of them.
    pub subject: &'static str,
    /// What the role does with it.
    pub purpose: &'static str,
}

/// What a role may do. Everything else is refused.
#[derive(Clone, Copy, Debug)]
pub struct Permissions {
    pub publish: &'static [Grant],
    /// Refused although `publish` would allow it.
    pub never_publish: &'static [Grant],
    pub subscribe: &'static [Grant],
}

impl User {
    /// Every user that has permissions of its own.
    pub const ROLES: [Self; 4] = [Self::CommandApi, Self::QueryApi, Self::Worker, Self::Projector];

    /// The name to log in with, unless the operator chose another.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "toolgate",
            Self::CommandApi => "toolgate_command_api",
            Self::QueryApi => "toolgate_query_api",
            Self::Worker => "toolgate_worker",
            Self::Projector => "toolgate_projector",
        }
    }

    /// Where the answers to its requests arrive: out of every other role's sight.
    pub fn inbox(self) -> &'static str {
        match self {
            Self::Operator => "_INBOX",
            Self::CommandApi => "_INBOX_command_api",
            Self::QueryApi => "_INBOX_query_api",
            Self::Worker => "_INBOX_worker",
            Self::Projector => "_INBOX_projector",
        }
    }

    /// What it may do; `None` for everything.
    pub fn permissions(self) -> Option<&'static Permissions> {
        match self {
            Self::Operator => None,
            Self::CommandApi => Some(&COMMAND_API),
            Self::QueryApi => Some(&QUERY_API),
            Self::Worker => Some(&WORKER),
            Self::Projector => Some(&PROJECTOR),
        }
    }
}

impl Grant {
    /// The subjects it stands for on a log with that many partitions.
    pub fn subjects(&self, partitions: u16) -> Vec<String> {
        if self.subject.contains("{partition}") {
            let name = |index| self.subject.replace("{partition}", &Partition(index).to_string());
            (0..partitions).map(name).collect()
        } else if self.subject.contains("{lane}") {
            tools::lanes().iter().map(|lane| self.subject.replace("{lane}", lane.as_str())).collect()
        } else {
            vec![self.subject.to_owned()]
        }
    }
}

const fn grant(subject: &'static str, purpose: &'static str) -> Grant {
    Grant { subject, purpose }
}

const PARTITION_INFO: Grant = grant("$JS.API.STREAM.INFO.EVENTS_{partition}", "opens the log and asks how much is in it");
const PARTITION_GET: Grant = grant("$JS.API.STREAM.MSG.GET.EVENTS_{partition}", "reads single events");
const APPEND: Grant = grant("ev.*.*.*.*", "appends events");
const ACCESS_INFO: Grant = grant("$JS.API.STREAM.INFO.ACCESS", "looks whether revocations have changed");
const ACCESS_GET: Grant = grant("$JS.API.STREAM.MSG.GET.ACCESS", "reads revocations");
const MCP_INFO: Grant = grant("$JS.API.STREAM.INFO.MCP", "looks whether definitions of MCP tools have changed");
const MCP_GET: Grant = grant("$JS.API.STREAM.MSG.GET.MCP", "reads definitions of MCP tools");
const STREAMING_INFO: Grant =
    grant("$JS.API.STREAM.INFO.STREAMING", "looks whether operators have chosen how events are streamed");
const STREAMING_GET: Grant = grant("$JS.API.STREAM.MSG.GET.STREAMING", "reads what they have chosen");
const KEYS_INFO: Grant = grant("$JS.API.STREAM.INFO.KEYS", "opens the key store");
const KEYS_GET: Grant = grant("$JS.API.STREAM.MSG.GET.KEYS", "reads wrapped keys");
const KEYS_PUT: Grant = grant("keys.data.*.*", "makes the first key of a tenant or a data subject");
const LANE_INFO: Grant = grant("$JS.API.CONSUMER.INFO.*.lane-{lane}", "asks where a lane stands");
const PROJECTED: Grant = grant("projected.*", "hears how far tenants are projected");
const INVALIDATE: Grant = grant("invalidated", "says that kept results count no longer");
const BUCKET_INFO: Grant = grant("$JS.API.STREAM.INFO.OBJ_artifacts", "opens the artifacts");
const BUCKET_GET: Grant = grant("$JS.API.DIRECT.GET.OBJ_artifacts.$O.artifacts.M.*", "reads what an artifact is");

const COMMAND_API: Permissions = Permissions {
    publish: &[
        APPEND,
        PARTITION_INFO,
        PARTITION_GET,
        ACCESS_INFO,
        ACCESS_GET,
        MCP_INFO,
        MCP_GET,
        KEYS_INFO,
        KEYS_GET,
        KEYS_PUT,
        grant("limits.>", "counts calls with its replicas"),
        grant("$JS.API.STREAM.INFO.LIMITS", "opens the counters"),
        grant("$JS.API.STREAM.MSG.GET.LIMITS", "reads the counters"),
        INVALIDATE,
    ],
    never_publish: &[],
    subscribe: &[
        grant("_INBOX_command_api.>", "gets the answers to its requests"),
        grant("reply.*", "hears outcomes that callers wait for"),
        PROJECTED,
    ],
};

const QUERY_API: Permissions = Permissions {
    publish: &[
        PARTITION_INFO,
        PARTITION_GET,
        LANE_INFO,
        ACCESS_INFO,
        ACCESS_GET,
        MCP_INFO,
        MCP_GET,
        STREAMING_INFO,
        STREAMING_GET,
        KEYS_INFO,
        KEYS_GET,
        BUCKET_INFO,
        BUCKET_GET,
        grant("$JS.API.CONSUMER.CREATE.OBJ_artifacts", "reads an artifact's bytes"),
        grant("$JS.API.CONSUMER.CREATE.OBJ_artifacts.*.$O.artifacts.C.*", "goes on reading them after a disconnection"),
        grant("$JS.API.CONSUMER.DELETE.OBJ_artifacts.*", "ends that reading"),
        grant("$JS.FC.OBJ_artifacts.>", "paces that reading"),
        grant("$JS.API.STREAM.INFO.OBJ_archive", "opens the archive of audit trails"),
        grant("$JS.API.DIRECT.GET.OBJ_archive.$O.archive.M.*", "reads what an archived segment is"),
        grant("$JS.API.CONSUMER.CREATE.OBJ_archive", "reads a segment's bytes"),
        grant("$JS.API.CONSUMER.CREATE.OBJ_archive.*.$O.archive.C.*", "goes on reading them after a disconnection"),
        grant("$JS.API.CONSUMER.DELETE.OBJ_archive.*", "ends that reading"),
        grant("$JS.FC.OBJ_archive.>", "paces that reading"),
    ],
    never_publish: &[],
    subscribe: &[grant("_INBOX_query_api.>", "gets the answers to its requests"), PROJECTED],
};

const WORKER: Permissions = Permissions {
    publish: &[
        APPEND,
        PARTITION_INFO,
        PARTITION_GET,
        KEYS_INFO,
        KEYS_GET,
        KEYS_PUT,
        grant("$JS.API.CONSUMER.CREATE.*.lane-{lane}.ev.*.*.{lane}.*", "sets up a lane's consumers"),
        LANE_INFO,
        grant("$JS.API.CONSUMER.MSG.NEXT.*.lane-{lane}", "takes calls from a lane"),
        grant("$JS.ACK.*.lane-{lane}.>", "acknowledges calls"),
        grant("$JS.API.CONSUMER.CREATE.*.webhook-task.ev.*.*.task.*", "sets up the consumers of the tasks' webhook"),
        grant("$JS.API.CONSUMER.MSG.NEXT.*.webhook-task", "takes the outcomes that the webhook delivers"),
        grant("$JS.ACK.*.webhook-task.>", "acknowledges what the webhook delivered"),
        grant("reply.*", "announces outcomes to the waiting API"),
        grant("parked.*.*", "sets aside what it cannot read"),
        BUCKET_INFO,
        BUCKET_GET,
        grant("$JS.API.CONSUMER.CREATE.OBJ_artifacts", "compares an artifact with one it made before"),
        grant("$JS.API.CONSUMER.CREATE.OBJ_artifacts.*.$O.artifacts.C.*", "goes on reading it after a disconnection"),
        grant("$JS.API.CONSUMER.DELETE.OBJ_artifacts.*", "ends that reading"),
        grant("$JS.FC.OBJ_artifacts.>", "paces that reading"),
        grant("$O.artifacts.*.*", "keeps artifacts"),
        INVALIDATE,
        MCP_INFO,
        MCP_GET,
        grant("mcp.seen.*.*", "puts down what MCP servers say of their tools"),
    ],
    never_publish: &[],
    subscribe: &[
        grant("_INBOX_worker.>", "gets the answers to its requests, and calls"),
        grant("invalidated", "hears which kept results count no longer"),
    ],
};

const PROJECTOR: Permissions = Permissions {
    publish: &[
        PARTITION_INFO,
        PARTITION_GET,
        KEYS_INFO,
        KEYS_GET,
        grant("$JS.API.CONSUMER.CREATE.EVENTS_{partition}.*", "reads a partition in order"),
        grant("$JS.API.CONSUMER.MSG.NEXT.EVENTS_{partition}.*", "fetches the next events"),
        grant("$JS.API.CONSUMER.DELETE.EVENTS_{partition}.*", "begins that reading again"),
        grant("projected.*", "announces how far tenants are projected"),
        grant("$JS.API.STREAM.INFO.OBJ_checkpoints", "opens the audit checkpoints"),
        grant("$JS.API.DIRECT.GET.OBJ_checkpoints.$O.checkpoints.M.*", "looks which audit checkpoints are kept"),
        grant("$O.checkpoints.*.*", "keeps audit checkpoints"),
        grant("$JS.API.STREAM.INFO.OBJ_archive", "opens the archive of audit trails"),
        grant("$JS.API.DIRECT.GET.OBJ_archive.$O.archive.M.*", "looks which segment has the row that was signed last"),
        grant("$JS.API.CONSUMER.CREATE.OBJ_archive", "compares that row with what was signed"),
        grant("$JS.API.CONSUMER.CREATE.OBJ_archive.*.$O.archive.C.*", "goes on reading it after a disconnection"),
        grant("$JS.API.CONSUMER.DELETE.OBJ_archive.*", "ends that reading"),
        grant("$JS.FC.OBJ_archive.>", "paces that reading"),
    ],
    never_publish: &[
        grant("$JS.API.CONSUMER.CREATE.*.lane-{lane}", "a lane's consumers are the workers'"),
        grant("$JS.API.CONSUMER.MSG.NEXT.*.lane-{lane}", "a lane's calls are the workers'"),
        grant("$JS.API.CONSUMER.DELETE.*.lane-{lane}", "a lane's consumers are the workers'"),
        grant("$JS.API.CONSUMER.CREATE.*.webhook-task", "the webhook's consumers are the workers'"),
        grant("$JS.API.CONSUMER.MSG.NEXT.*.webhook-task", "the webhook's outcomes are the workers'"),
        grant("$JS.API.CONSUMER.DELETE.*.webhook-task", "the webhook's consumers are the workers'"),
    ],
    subscribe: &[grant("_INBOX_projector.>", "gets the answers to its requests, and events")],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_stands_for_every_partition_or_lane() {
        assert_eq!(PARTITION_GET.subjects(2), ["$JS.API.STREAM.MSG.GET.EVENTS_00", "$JS.API.STREAM.MSG.GET.EVENTS_01"]);
        assert_eq!(APPEND.subjects(2), ["ev.*.*.*.*"]);
        let lanes = grant("a.{lane}.{lane}", "").subjects(2);
        assert_eq!(lanes.len(), tools::lanes().len());
        assert!(lanes.contains(&"a.search.search".to_owned()), "{lanes:?}");
    }

    #[test]
    fn only_those_that_append_may_publish_to_the_log() {
        let writes = |user: User| {
            let permissions = user.permissions().unwrap();
            permissions.publish.iter().any(|grant| grant.subject.starts_with("ev."))
        };
        assert_eq!(User::ROLES.map(writes), [true, false, true, false]);
    }

    #[test]
    fn nobody_but_the_operator_touches_streams_or_messages() {
        let allowed = ["INFO", "MSG.GET"];
        for user in User::ROLES {
            for grant in user.permissions().unwrap().publish {
                assert!(!grant.subject.starts_with(['>', '*']) && grant.subject != "$JS.>", "{grant:?}");
                if let Some(verb) = grant.subject.strip_prefix("$JS.API.STREAM.") {
                    assert!(allowed.iter().any(|allowed| verb.starts_with(allowed)), "{user:?}: {grant:?}");
                }
            }
        }
        assert!(User::Operator.permissions().is_none());
    }

    #[test]
    fn no_role_accepts_what_only_an_operator_may() {
        for user in User::ROLES {
            let accepts = |grant: &Grant| grant.subject.starts_with("mcp.") && !grant.subject.starts_with("mcp.seen.");
            assert!(!user.permissions().unwrap().publish.iter().any(accepts), "{user:?}");
        }
    }

    #[test]
    fn every_role_listens_on_its_own_inbox_alone() {
        for user in User::ROLES {
            let inboxes: Vec<_> =
                user.permissions().unwrap().subscribe.iter().filter(|grant| grant.subject.contains("INBOX")).collect();
            assert_eq!(inboxes.len(), 1);
            assert_eq!(inboxes[0].subject, format!("{}.>", user.inbox()));
        }
    }
}
