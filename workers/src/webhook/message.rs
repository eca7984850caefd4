use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toolgate_events::{
    CallSubject, Envelope, Partition, TenantId, ToolCallEvent, serde_text,
    task::{Task, TaskStatus},
    tools::{TaskCreateInput, TaskCreateOutput, TaskUpdateOutput},
};
use toolgate_store::{Delivery, LoadError, Log, fold};
use uuid::Uuid;

/// What a receiver is told of one outcome. Every attempt has the same id and body.
pub struct Message {
    /// The outcome's event.
    pub event_id: Uuid,
    pub tenant_id: TenantId,
    /// When the outcome was recorded.
    pub recorded: DateTime<Utc>,
    /// The tool whose outcome it is.
    pub tool: &'static str,
    pub body: Bytes,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    /// When the outcome was recorded.
    #[serde(with = "serde_text::timestamp")]
    timestamp: DateTime<Utc>,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    tenant_id: TenantId,
    call_id: Uuid,
    task_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_status: Option<TaskStatus>,
    #[serde(flatten)]
    task: &'a Task,
}

impl Message {
    /// The message of a delivery; `None` when it is no outcome of a task, or none that a worker recorded.
    ///
    /// # Errors
    /// [`LoadError`] when the call's arguments cannot be read at the moment.
    pub async fn of(log: &Log, delivery: &Delivery) -> Result<Option<Self>, LoadError> {
        let Some((subject, envelope)) = read(delivery, log.partitions()) else { return Ok(None) };
        let envelope = log.keys().open(envelope).await?;
        let Some(ToolCallEvent::ToolCallSucceeded(succeeded)) = envelope.event().ok().and_then(|event| event.into_tool_call())
        else {
            return Ok(None);
        };
        let told = match succeeded.tool.as_str() {
            "task.create" => {
                // The outcome names the task, and the request says what it is.
                let request = fold(&log.load(&subject).await?).ok().and_then(|call| call.request);
                let parts = request.and_then(|request| {
                    let input = TaskCreateInput::deserialize(Value::Object(request.arguments)).ok()?;
                    Some((TaskCreateOutput::deserialize(&succeeded.result).ok()?.task_id, Task::created(input)))
                });
                parts.map(|(task_id, task)| ("task.create", "task.created", task_id, None, task))
            }
            "task.update" => TaskUpdateOutput::deserialize(&succeeded.result)
                .ok()
                .map(|output| ("task.update", "task.updated", output.task_id, Some(output.previous_status), output.task)),
            _ => None,
        };
        // Of what has been erased nobody is told.
        Ok(told.filter(|_| !succeeded.erased).and_then(|(tool, r#type, task_id, previous_status, task)| {
            let (tenant_id, call_id) = (subject.tenant_id, subject.call_id.0);
            let data = Data { tenant_id, call_id, task_id, previous_status, task: &task };
            let recorded = envelope.occurred_at;
            let body = serde_json::to_vec(&Body { r#type, timestamp: recorded, data }).ok()?;
            Some(Self { event_id: envelope.event_id, tenant_id, recorded, tool, body: body.into() })
        }))
    }
}

/// What the lane's workers set aside, nobody is told.
fn read(delivery: &Delivery, partitions: u16) -> Option<(CallSubject, Envelope)> {
    let subject = CallSubject::parse(delivery.subject()).ok()?;
    let envelope = Envelope::decode(delivery.payload()).ok()?;
    let is_own = envelope.tenant_id == subject.tenant_id
        && envelope.aggregate_id == subject.call_id
        && Partition::of(subject.tenant_id, partitions) == delivery.partition;
    is_own.then_some((subject, envelope))
}
