//! Histories that no worker would write, from a seed.

use std::hash::{BuildHasher, RandomState};

use serde_json::{Value, json};
use toolgate_events::{CallId, CallSubject, Lane, Partition, TenantId, sealing};
use uuid::Uuid;

use crate::app::PARTITIONS;

/// SplitMix64: a seed tells the whole history.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The seed of the environment, else another one each time. It is shown when a test fails.
    pub fn seed() -> u64 {
        let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("TEST_SEED={seed}");
        seed
    }

    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }

    /// Text that no index can shorten.
    fn noise(&mut self, blocks: u64) -> String {
        (0..blocks).map(|_| format!("{:016x}", self.next())).collect()
    }
}

/// A message for the log.
#[derive(Debug)]
pub struct Message {
    pub subject: String,
    pub payload: Vec<u8>,
    pub seal: Seal,
}

/// Whether the content of a message is sealed when it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// It has none, or it is as a stranger wrote it.
    No,
    Well,
    /// It is, and cannot be opened any more.
    Damaged,
}

#[derive(Debug)]
struct Call {
    tenant: TenantId,
    id: CallId,
    tool: &'static str,
    arguments: Value,
    /// Whom its content is about.
    data_subject: Option<String>,
    /// How many events it has.
    events: u64,
}

/// Writes a history, event after event.
#[derive(Debug)]
pub struct Story {
    random: Random,
    tenants: Vec<TenantId>,
    calls: Vec<Call>,
    /// Tasks that may be changed, with their tenant.
    tasks: Vec<(TenantId, Uuid)>,
    clock: i64,
}

const TOOLS: [&str; 8] = [
    "task.create",
    "task.create",
    "task.update",
    "document.render",
    "knowledge.upsert",
    "vector.upsert",
    "template.upsert",
    "http.request",
];

impl Story {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let tenants = (0..3 + random.below(4)).map(|_| TenantId(random.uuid())).collect();
        Self { random, tenants, calls: Vec::new(), tasks: Vec::new(), clock: 1_700_000_000_000_000 }
    }

    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// The next messages.
    pub fn tell(&mut self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Message {
        match self.random.below(100) {
            0..35 => self.request(),
            35..92 if !self.calls.is_empty() => self.follow(),
            92..95 => self.refusal(),
            95 => self.garbage(),
            96 => self.stray(),
            97 => self.erasure(),
            _ => self.request(),
        }
    }

    fn request(&mut self) -> Message {
        let index = self.random.below(self.tenants.len() as u64);
        let tenant = self.tenants[usize::try_from(index).unwrap()];
        let tool = self.random.one_of(&TOOLS);
        let arguments = self.arguments(tenant, tool);
        let data_subject = (self.random.below(3) == 0).then(|| format!("{:032x}", self.random.below(4)));
        self.calls.push(Call { tenant, id: CallId(self.random.uuid()), tool, arguments, data_subject, events: 0 });
        // Sometimes what follows comes before what is asked.
        if self.random.below(20) == 0 { self.event_of(self.calls.len() - 1, false) } else { self.requested(self.calls.len() - 1) }
    }

    fn follow(&mut self) -> Message {
        let index = usize::try_from(self.random.below(self.calls.len() as u64)).unwrap();
        // Of the newest rather than of the oldest, so that calls are open for a while and then done.
        let index = index.max(usize::try_from(self.random.below(self.calls.len() as u64)).unwrap());
        if self.random.below(30) == 0 { self.requested(index) } else { self.event_of(index, true) }
    }

    fn requested(&mut self, index: usize) -> Message {
        let (tool, arguments) = (self.calls[index].tool, self.calls[index].arguments.clone());
        let session = match self.random.below(12) {
            // More than the index over sessions holds: the row cannot be written.
            0 => Some(self.random.noise(600)),
            1..6 => Some(format!("session-{}", self.random.below(5))),
            _ => None,
        };
        let lane = tool.split('.').next().unwrap();
        if self.random.below(2) == 0 {
            let data = json!({
                "tool": tool, "lane": lane, "arguments": arguments, "session_id": session, "timeout_ms": 5000,
                "request_fingerprint": "a", "principal": "ada", "roles": ["agent"], "policy_version": "b"
            });
            return self.envelope(index, "tool_call_requested", 1, data);
        }
        let mut data = json!({
            "tool": tool, "lane": lane, "arguments": arguments, "session_id": session,
            "options": {"locale": "id-ID", "freshness_seconds": 60}, "request_fingerprint": "a",
            "authorization": {
                "policy_version": "b", "rule": "r", "principal": "größe", "roles": [], "permissions": ["tool:list"],
                "tool_version": 1, "contract_hash": "c"
            }
        });
        let version = self.about(index, &mut data);
        self.envelope(index, "tool_call_requested", version, data)
    }

    fn event_of(&mut self, index: usize, ends: bool) -> Message {
        let tool = self.calls[index].tool;
        let attempt = 1 + self.random.below(3);
        let base = json!({"tool": tool, "attempt": attempt, "worker": "worker-1"});
        let with = |more: Value| {
            let mut data = base.clone();
            data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            data
        };
        match self.random.below(if ends { 22 } else { 2 }) {
            0 => self.envelope(index, "tool_call_started", 1, base),
            1 => self.envelope(index, "tool_call_retried", 1, with(json!({"reason": "it may pass"}))),
            2 => {
                let error = json!({"type": "urn:toolgate:tool:timeout", "title": "t", "detail": "d"});
                let version = 1 + u32::try_from(self.random.below(2)).unwrap();
                self.envelope(index, "tool_call_failed", version, with(json!({"duration_ms": 3, "error": error})))
            }
            3 => {
                let data = json!({"tool": tool, "principal": "ada", "requested_event_id": Uuid::nil()});
                self.envelope(index, "tool_call_cancelled", 1, data)
            }
            4 => self.envelope(index, "tool_call_applauded", 1, json!({"loudly": 1.50, "by": ["all"]})),
            5 => self.envelope(index, "tool_call_started", 9, base),
            6 => self.envelope(index, "tool_call_succeeded", 2, json!({"tool": 7})),
            7 => self.envelope(index, "tool_call_retried", 1, with(json!({"reason": "a\u{0}b"}))),
            number => {
                let result = self.result(index);
                let outcome = json!({"duration_ms": 12, "result": result});
                if number % 2 == 0 {
                    return self.envelope(index, "tool_call_succeeded", 1, with(outcome));
                }
                let mut data = with(outcome);
                data["cached"] = json!(self.random.below(2) == 0);
                data["stale"] = json!(self.random.below(2) == 0);
                let version = self.about(index, &mut data);
                self.envelope(index, "tool_call_succeeded", version, data)
            }
        }
    }

    /// Says whom it is about, in the version that is sealed; or leaves it in the one before.
    fn about(&mut self, index: usize, data: &mut Value) -> u32 {
        if self.random.below(3) == 0 {
            return 2;
        }
        if let Some(data_subject) = &self.calls[index].data_subject {
            data["data_subject"] = json!(data_subject);
        }
        3
    }

    fn arguments(&mut self, tenant: TenantId, tool: &str) -> Value {
        let number = self.random.below(6);
        match tool {
            "task.create" => {
                let labels = if number == 0 { Value::Null } else { json!(["audit", "größe", "a,\"b\\"]) };
                json!({"title": format!("Task {number}"), "labels": labels, "due": "2031-01-01T00:00:00+07:00", "assignee": "ada"})
            }
            "task.update" => {
                let own: Vec<_> = self.tasks.iter().filter(|(whose, _)| *whose == tenant).map(|(_, task)| *task).collect();
                let task = if own.is_empty() { self.random.uuid() } else { self.random.one_of(&own) };
                json!({"task_id": task, "status": "done", "comment": "moved"})
            }
            "document.render" => json!({"title": "Report", "markdown": "# x", "data": null, "format": "html"}),
            "knowledge.upsert" => {
                // A name that no index holds.
                let name = if number == 0 { self.random.noise(600) } else { format!("doc-{number}") };
                json!({
                    "document_id": name, "title": "Refunds", "content": format!("Refunds within {number} days"),
                    "locale": "en", "metadata": {"n": number, "x": 1.10}, "source": null
                })
            }
            "vector.upsert" => {
                // Collections of two dimensions meet vectors of three.
                let vector = if number < 4 { json!([0.1, number]) } else { json!([0.1, 0.25, number]) };
                let item =
                    json!({"id": format!("item-{number}"), "vector": vector, "metadata": {"n": number}, "text": "some words"});
                json!({"collection": format!("c{}", number % 2), "items": [item]})
            }
            "template.upsert" => {
                let markdown = format!("# Hello {}", number % 3);
                json!({"template_id": format!("t{}", number % 2), "markdown": markdown, "description": null})
            }
            _ => json!({"method": "GET", "url": "https://example.com/"}),
        }
    }

    fn result(&mut self, index: usize) -> Value {
        let (tenant, tool, arguments) = (self.calls[index].tenant, self.calls[index].tool, self.calls[index].arguments.clone());
        if self.random.below(15) == 0 {
            return json!({"nothing": "that fits"});
        }
        match tool {
            "task.create" => {
                let task = self.random.uuid();
                self.tasks.push((tenant, task));
                json!({"task_id": task})
            }
            "task.update" => json!({
                "task_id": arguments["task_id"], "previous_status": "open", "title": "Changed", "description": null,
                "assignee": null, "due": null, "labels": ["z", "a"], "status": "done", "version": 2 + self.random.below(2)
            }),
            "document.render" => json!({
                "artifact_id": self.random.uuid(), "content_type": "text/html", "size": self.random.below(1000), "sha256": "00"
            }),
            "knowledge.upsert" => json!({"document_id": arguments["document_id"], "content_sha256": "00"}),
            "vector.upsert" => json!({"collection": arguments["collection"], "dimensions": 2, "upserted": 1}),
            "template.upsert" => json!({"template_id": arguments["template_id"], "sha256": "00"}),
            _ => json!({"status": 200, "number": 1e300}),
        }
    }

    fn envelope(&mut self, index: usize, event_type: &str, version: u32, data: Value) -> Message {
        let call = &mut self.calls[index];
        call.events += 1;
        let (tenant, id, sequence) = (call.tenant, call.id, call.events);
        let lane = call.tool.split('.').next().unwrap();
        let subject = CallSubject::new(PARTITIONS, tenant, Lane::new(lane).unwrap(), id).to_string();
        // Now and then it says that it is another tenant's.
        let named = if self.random.below(60) == 0 { TenantId(self.random.uuid()) } else { tenant };
        let envelope = self.wrapped(named, "tool_call", id.0, sequence, event_type, version, data);
        let seal = match self.random.below(60) {
            0 => Seal::No,
            1 => Seal::Damaged,
            _ => Seal::Well,
        };
        let has_content = !sealing::members(event_type, version).is_empty();
        Message { subject, payload: serde_json::to_vec(&envelope).unwrap(), seal: if has_content { seal } else { Seal::No } }
    }

    /// Of somebody whom no call is about.
    fn erasure(&mut self) -> Message {
        let index = self.random.below(self.tenants.len() as u64);
        let tenant = self.tenants[usize::try_from(index).unwrap()];
        let id = self.random.uuid();
        let data =
            json!({"scope": "data_subject", "data_subject": format!("{:016x}{:016x}", self.random.next(), self.random.next())});
        let envelope = self.wrapped(tenant, "erasure", id, 1, "data_erased", 1, data);
        let subject = CallSubject::new(PARTITIONS, tenant, Lane::erasure(), CallId(id)).to_string();
        Message { subject, payload: serde_json::to_vec(&envelope).unwrap(), seal: Seal::No }
    }

    fn refusal(&mut self) -> Message {
        let index = self.random.below(self.tenants.len() as u64);
        let tenant = self.tenants[usize::try_from(index).unwrap()];
        let id = self.random.uuid();
        let golden = self.random.one_of(&[
            include_str!("../../../events/golden/tool_call_denied.v1.json"),
            include_str!("../../../events/golden/rate_limit_exceeded.v1.json"),
        ]);
        let golden: Value = serde_json::from_str(golden).unwrap();
        let event_type = golden["event_type"].as_str().unwrap();
        let envelope = self.wrapped(tenant, "refusal", id, 1, event_type, 1, golden["data"].clone());
        let subject = CallSubject::new(PARTITIONS, tenant, Lane::refusal(), CallId(id)).to_string();
        Message { subject, payload: serde_json::to_vec(&envelope).unwrap(), seal: Seal::No }
    }

    #[expect(clippy::too_many_arguments, reason = "an envelope has that many fields")]
    fn wrapped(&mut self, tenant: TenantId, kind: &str, id: Uuid, sequence: u64, name: &str, version: u32, data: Value) -> Value {
        self.clock += 1 + i64::try_from(self.random.below(5_000_000)).unwrap();
        let occurred_at = chrono::DateTime::from_timestamp_micros(self.clock).unwrap();
        let trace = (self.random.below(2) == 0).then(|| json!({"traceparent": format!("00-{}-01", self.random.noise(1))}));
        let mut envelope = json!({
            "event_id": self.random.uuid(), "event_type": name, "event_version": version, "tenant_id": tenant.0,
            "aggregate_type": kind, "aggregate_id": id, "aggregate_sequence": sequence.to_string(), "correlation_id": id,
            "causation_id": null, "actor": "ada", "occurred_at": occurred_at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            "data": data
        });
        if let Some(trace) = trace {
            envelope["trace_context"] = trace;
        }
        envelope
    }

    /// What is no envelope.
    fn garbage(&mut self) -> Message {
        let index = self.random.below(self.tenants.len() as u64);
        let tenant = self.tenants[usize::try_from(index).unwrap()];
        let subject = CallSubject::new(PARTITIONS, tenant, Lane::new("task").unwrap(), CallId(self.random.uuid())).to_string();
        Message { subject, payload: self.random.next().to_be_bytes().to_vec(), seal: Seal::No }
    }

    /// What belongs to no tenant of its partition.
    fn stray(&mut self) -> Message {
        let tenant = TenantId(self.random.uuid());
        let own = Partition::of(tenant, PARTITIONS).0;
        let elsewhere = Partition((own + 1) % PARTITIONS);
        Message {
            subject: format!("ev.{elsewhere}.{tenant}.task.{}", self.random.uuid()),
            payload: b"{}".to_vec(),
            seal: Seal::No,
        }
    }
}
