//! What becomes of a task: changes one after another, many at once, and what the rules refuse.

use futures::future::join_all;
use serde_json::{Value, json};
use toolgate_events::task::TaskStatus;

use crate::app::{Answer, Child, Client, Role, Stack, TableOwner, Tenant, TestApp, Token, wait_until};

/// A new task's id.
async fn create(client: &Client) -> Value {
    client.result_of("task.create", json!({"title": "T", "description": "D", "assignee": "ada"})).await["task_id"].clone()
}

async fn update(client: &Client, key: &str, arguments: Value) -> Answer {
    client.call_and_wait(key, &json!({"tool": "task.update", "arguments": arguments})).await
}

async fn get(client: &Client, task_id: &Value) -> Value {
    client.result_of("task.get", json!({"task_id": task_id})).await
}

#[tokio::test]
async fn a_change_is_shown_with_who_made_it() {
    let app = TestApp::start().await;
    let client = app.admin();
    let task_id = create(&client).await;
    let changed = client
        .result_of(
            "task.update",
            json!({"task_id": task_id, "status": "in_progress", "assignee": null, "due": "2030-02-01T09:00:00+07:00",
                "labels": ["a", "b"], "comment": "On it."}),
        )
        .await;
    assert_eq!(changed["previous_status"], "open");
    let task = get(&client, &task_id).await;
    for (member, value) in [
        ("title", json!("T")),
        ("description", json!("D")),
        ("assignee", Value::Null),
        ("due", json!("2030-02-01T02:00:00.000000Z")),
        ("labels", json!(["a", "b"])),
        ("status", json!("in_progress")),
        ("version", json!(2)),
    ] {
        assert_eq!((&task[member], &changed[member]), (&value, &value), "{member}");
    }
    assert!(task["updated_at"].as_str() > task["created_at"].as_str(), "{task}");
    let change = &task["changes"][0];
    assert_eq!(task["changes"].as_array().unwrap().len(), 1);
    assert_eq!((&change["principal"], &change["comment"], &change["version"]), (&json!("tester"), &json!("On it."), &json!(2)));
    assert_eq!((&change["previous_status"], &change["status"]), (&json!("open"), &json!("in_progress")));
    let listed = client.get("/v1/tasks").await.json()["items"][0].clone();
    for member in ["title", "assignee", "due", "labels", "status", "version", "updated_at"] {
        assert_eq!(listed[member], task[member], "{member}");
    }
}

#[tokio::test]
async fn what_says_nothing_is_refused_before_it_is_a_call() {
    let app = TestApp::start().await;
    let client = app.admin();
    let task_id = create(&client).await;
    let long = |length: usize| "x".repeat(length);
    let labels = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    for (members, accepted) in [
        (json!({}), false),
        (json!({"colour": "red"}), false),
        (json!({"comment": "c", "colour": "red"}), false),
        (json!({"title": null}), false),
        (json!({"title": ""}), false),
        (json!({"title": " \n\u{3000}"}), false),
        (json!({"title": " x "}), true),
        (json!({"title": long(500)}), true),
        (json!({"title": long(501)}), false),
        (json!({"description": long(10_000)}), true),
        (json!({"description": long(10_001)}), false),
        (json!({"assignee": ""}), false),
        (json!({"assignee": long(255)}), true),
        (json!({"assignee": long(256)}), false),
        (json!({"due": "2030-01-31"}), false),
        (json!({"due": "2030-01-31T12:00:00"}), false),
        (json!({"due": "2030-01-31T12:00:00-11:30"}), true),
        (json!({"labels": null}), false),
        (json!({"labels": ["a", "a"]}), false),
        (json!({"labels": [""]}), false),
        (json!({"labels": [long(100)]}), true),
        (json!({"labels": [long(101)]}), false),
        (json!({"labels": labels(50)}), true),
        (json!({"labels": labels(51)}), false),
        (json!({"status": null}), false),
        (json!({"status": "finished"}), false),
        (json!({"comment": " "}), false),
        (json!({"comment": long(2_000)}), true),
        (json!({"comment": long(2_001)}), false),
        (json!({"comment": "c", "expected_version": 0}), false),
        (json!({"comment": "c", "task_id": "none"}), false),
    ] {
        let mut arguments = json!({"task_id": task_id});
        arguments.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = update(&client, &members.to_string()[..members.to_string().len().min(200)], arguments).await;
        assert_eq!(answer.status, if accepted { 200 } else { 400 }, "{members}: {}", answer.text());
        if accepted {
            assert_eq!(answer.json()["status"], "succeeded", "{members}: {}", answer.text());
        }
    }
    // What no schema that is easily read can say.
    let call = update(&client, "nothing", json!({"task_id": task_id, "expected_version": 1})).await.json();
    assert_eq!(call["error"]["type"], "urn:toolgate:tool:invalid-arguments", "{call}");
    for title in [json!("\t"), json!(["T"])] {
        let body = json!({"tool": "task.create", "arguments": {"title": title}});
        client.call("blank", &body).await.problem(400, "invalid");
    }
    client
        .call("twice", &json!({"tool": "task.create", "arguments": {"title": "T", "labels": ["a", "a"]}}))
        .await
        .problem(400, "invalid");
}

#[tokio::test]
async fn a_transition_that_makes_no_sense_fails_and_changes_nothing() {
    let app = TestApp::start().await;
    let client = app.admin();
    let task_id = create(&client).await;
    for (number, (status, allowed)) in [
        ("done", true),
        ("in_progress", false),
        ("cancelled", false),
        ("done", true),
        ("open", true),
        ("blocked", true),
        ("done", false),
        ("in_progress", true),
        ("cancelled", true),
        ("done", false),
        ("open", true),
    ]
    .into_iter()
    .enumerate()
    {
        let before = get(&client, &task_id).await;
        let arguments = json!({"task_id": task_id, "status": status, "title": format!("{number}")});
        let call = update(&client, &number.to_string(), arguments).await.json();
        if allowed {
            assert_eq!((&call["status"], &call["result"]["status"]), (&json!("succeeded"), &json!(status)), "{number}: {call}");
        } else {
            assert_eq!(call["error"]["type"], "urn:toolgate:tool:conflict", "{number}: {call}");
            client.get_projected(&call).await;
            assert_eq!(get(&client, &task_id).await, before, "{number}");
        }
    }
}

#[tokio::test]
async fn an_expected_version_guards_a_change() {
    let app = TestApp::start().await;
    let client = app.admin();
    let task_id = create(&client).await;
    for (expected, status) in [(2, "failed"), (1, "succeeded"), (1, "failed"), (2, "succeeded")] {
        let key = format!("{expected}{status}");
        let call = update(&client, &key, json!({"task_id": task_id, "comment": "c", "expected_version": expected})).await.json();
        assert_eq!(call["status"], status, "{call}");
    }
    assert_eq!(get(&client, &task_id).await["version"], 3);
}

#[tokio::test]
async fn nobody_changes_or_reads_another_tenants_task() {
    let app = TestApp::start().await;
    let (client, stranger) = (app.admin(), app.admin());
    let task_id = create(&client).await;
    client.result_of("task.update", json!({"task_id": task_id, "comment": "ours"})).await;
    let nobodys = json!("6f1c2f5e-9d53-5d0a-8b0e-0d6f4f3f2a11");
    let mut errors = Vec::new();
    for (number, task_id) in [&task_id, &nobodys].into_iter().enumerate() {
        let changed = update(&stranger, &number.to_string(), json!({"task_id": task_id, "status": "done"})).await.json();
        let read = json!({"tool": "task.get", "arguments": {"task_id": task_id}});
        let read = stranger.call_and_wait(&format!("read {number}"), &read).await.json();
        assert_eq!(changed["error"]["type"], "urn:toolgate:tool:not-found", "{changed}");
        errors.push((changed["error"].clone(), read["error"].clone()));
    }
    assert_eq!(errors[0], errors[1], "a stranger's task looks like none");
    assert_eq!(get(&client, &task_id).await["version"], 2);
}

/// Fifty changes of one task at once: each that is recorded as done was applied to what the one before it left, each that was
/// refused changed nothing, and the history tells them in the order in which they were requested.
#[tokio::test]
async fn fifty_changes_at_once_are_decided_one_after_another() {
    let app = TestApp::start().await;
    let client = app.admin();
    let task_id = create(&client).await;
    let statuses = TaskStatus::ALL.map(TaskStatus::as_str);
    let changes = (0..50).map(|number| {
        let arguments = json!({"task_id": task_id, "status": statuses[number * 7 % 5], "comment": number.to_string()});
        let (client, key) = (client.clone(), number.to_string());
        async move { client.call(&key, &json!({"tool": "task.update", "arguments": arguments})).await.call_id() }
    });
    let calls = join_all(changes).await;
    wait_until("all of them have an outcome", async || {
        app.stack.count("select count(*) from tool_call where tool = 'task.update' and finished_at is not null").await == 50
    })
    .await;

    let mut connection = app.stack.connect(TableOwner::Superuser).await;
    let history: Vec<uuid::Uuid> =
        sqlx::query_scalar("select call_id from tool_call where tool = 'task.update' order by requested_position")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(history.len(), calls.len());
    let (mut status, mut version) = (TaskStatus::Open, 1);
    for call in history {
        let number = calls.iter().position(|other| *other == call).unwrap();
        let asked = TaskStatus::of(statuses[number * 7 % 5]).unwrap();
        let call = client.get(&format!("/v1/tool-calls/{call}")).await.json();
        match status.change_to(asked) {
            Ok(next) => {
                let result = &call["result"];
                version += 1;
                assert_eq!((&result["previous_status"], &result["status"]), (&json!(status.as_str()), &json!(next.as_str())));
                assert_eq!(result["version"], version, "{call}");
                status = next;
            }
            Err(refused) => {
                assert_eq!(call["status"], "failed", "{status:?} -> {asked:?}");
                assert_eq!(call["error"]["detail"], refused.to_string());
            }
        }
    }
    let task = get(&client, &task_id).await;
    assert_eq!((&task["status"], &task["version"]), (&json!(status.as_str()), &json!(version)));
    assert_eq!(app.stack.count("select count(*) from task_change").await, i64::from(version) - 1);
    assert_eq!(app.stack.count("select count(*) from parked_event").await, 0);
}

#[tokio::test]
async fn a_change_whose_worker_dies_is_still_decided_before_the_later_ones() {
    let stack = Stack::new().await;
    let (commands, queries, _projector) = tokio::join!(
        Child::start(&stack, Role::CommandApi, &[]),
        Child::start(&stack, Role::QueryApi, &[]),
        Child::start(&stack, Role::Projector, &[]),
    );
    let short = ("TOOLGATE_ACK_WAIT_MS", "1000");
    let tenant = Tenant::new();
    let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let reader = client.at(queries.url());
    let mut worker = Child::start(&stack, Role::Worker, &[short]).await;
    let created = client.call_and_wait("create", &json!({"tool": "task.create", "arguments": {"title": "T"}})).await.json();
    let task_id = created["result"]["task_id"].clone();
    worker.kill().await;

    let mut dying = Child::start(&stack, Role::Worker, &[short, ("TOOLGATE_CRASH_AT", "worker.effect")]).await;
    let update = |status: &str| json!({"tool": "task.update", "arguments": {"task_id": task_id, "status": status}});
    let earlier = client.call("earlier", &update("done")).await;
    assert!(!dying.ended().await.success(), "it was to die");
    // Nobody holds this one up, and alone it would be allowed.
    let later = client.call("later", &update("blocked")).await;
    let _healthy = Child::start(&stack, Role::Worker, &[short]).await;
    let earlier = reader.get_projected(&earlier.json()).await;
    assert_eq!((&earlier["status"], &earlier["result"]["version"]), (&json!("succeeded"), &json!(2)), "{earlier}");
    let later = reader.get_projected(&later.json()).await;
    assert_eq!(later["error"]["type"], "urn:toolgate:tool:conflict", "{later}");
    let task = reader.get("/v1/tasks").await.json()["items"][0].clone();
    assert_eq!((&task["status"], &task["version"]), (&json!("done"), &json!(2)));
}
