//! Bodies that are no JSON, or not only.

use super::{Vector, assert_accepted, assert_refused, metadata, task_with};

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

/// Arrays under `metadata.m`, which is itself three levels deep.
const DEEPEST: usize = 64 - 3;

pub fn vectors() -> Vec<Vector> {
    let task = r#"{"tool":"task.create","arguments":{"title":"T"}}"#;
    vec![
        Vector::post("an empty body", "").at(""),
        Vector::post("white space only", " \r\n\t").at(""),
        Vector::post("null", "null").at(""),
        Vector::post("a number", "1").at(""),
        Vector::post("a string", "\"task.create\"").at(""),
        Vector::post("a boolean", "true").at(""),
        Vector::post("an array", "[]").at(""),
        Vector::post("the members as an array", r#"["task.create",{"title":"T"},null,{}]"#).at(""),
        Vector::post("a call in an array", format!("[{task}]")).at(""),
        Vector::post("half a body", &task[..task.len() - 1]).at(""),
        Vector::post("a body without its beginning", &task[1..]).at(""),
        Vector::post("something after the end", format!("{task}x")).at(""),
        Vector::post("a second document", format!("{task}{task}")).at(""),
        Vector::post("a second document on a line of its own", format!("{task}\n{{}}")).at(""),
        Vector::post("a NUL after the end", format!("{task}\0")).at(""),
        Vector::post("a block comment", format!("/* */{task}")).at(""),
        Vector::post("a line comment", format!("{task}// end")).at(""),
        Vector::post("a comma before the end", task_with(r#""session_id":"s","#)).at(""),
        Vector::post("a comma in an array", task_with(r#""session_id":[1,]"#)),
        Vector::post("two commas", r#"{"tool":"task.create",,"arguments":{}}"#),
        Vector::post("single quotes", "{'tool':'task.create','arguments':{'title':'T'}}").at(""),
        Vector::post("a key without quotes", r#"{tool:"task.create","arguments":{}}"#).at(""),
        Vector::post("a key that is a number", r#"{1:"task.create"}"#).at(""),
        Vector::post("an equals sign", r#"{"tool"="task.create"}"#),
        Vector::post("a form", "tool=task.create&title=T").at(""),
        Vector::post("XML", "<tool>task.create</tool>").at(""),
        Vector::post("undefined", task_with(r#""session_id":undefined"#)),
        Vector::post("a capital True", metadata("True")),
        Vector::post("a repeated key", r#"{"tool":"task.create","tool":"task.create","arguments":{}}"#).at("/tool"),
        Vector::post("a key repeated in the arguments", r#"{"tool":"task.create","arguments":{"title":"T","title":"U"}}"#)
            .at("/arguments/title"),
        Vector::post("a key repeated by an escape", r#"{"tool":"task.create","arguments":{"title":"T","\u0074itle":"U"}}"#)
            .at("/arguments/title"),
        Vector::post("a key repeated far down", metadata(r#"[{"a":{"b":1,"b":1}}]"#)).at("/arguments/metadata/m/0/a/b"),
        Vector::post("an empty key repeated", metadata(r#"{"":1,"":1}"#)).at("/arguments/metadata/m/"),
        Vector::post("a prototype", task_with(r#""__proto__":{"admin":true}"#)).at("/__proto__"),
        Vector::post("an unknown member", task_with(r#""extra":1"#)).at("/extra"),
        Vector::post("an unknown member with a slash", task_with(r#""a/b":1"#)).at("/a~1b"),
        Vector::post("an unknown member with a tilde", task_with(r#""a~b":1"#)).at("/a~0b"),
        Vector::post("a member in capitals", task_with(r#""Session_Id":"s""#)).at("/Session_Id"),
        Vector::post("a tenant in the body", task_with(r#""tenant_id":"00000000-0000-0000-0000-000000000001""#)).at("/tenant_id"),
        Vector::post("one level too deep", metadata(&nested(DEEPEST + 1))),
        Vector::post("much too deep", metadata(&nested(50_000))),
        Vector::post("depth without an end", "[".repeat(200_000)),
        Vector::post("objects too deep", metadata(&(r#"{"a":"#.repeat(DEEPEST + 1) + "1" + &"}".repeat(DEEPEST + 1)))),
        Vector::post("a hundred thousand keys", metadata(&many(100_000))).refused_with(413, "too-large"),
        Vector::post("the bytes of gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec()).at(""),
        Vector::post("a key that is longer than a pointer may be", task_with(&format!(r#""{}":1"#, "k".repeat(10_000)))).at(""),
    ]
}

fn many(keys: usize) -> String {
    let members: Vec<_> = (0..keys).map(|number| format!("\"{number}\":1")).collect();
    format!("{{{}}}", members.join(","))
}

#[tokio::test]
async fn every_body_that_is_not_one_json_object_is_refused() {
    assert_refused(vectors()).await;
}

#[tokio::test]
async fn bodies_that_only_look_odd_are_accepted() {
    assert_accepted(vec![
        Vector::post("white space around", " \r\n\t{\"tool\":\"task.create\",\"arguments\":{\"title\":\"T\"}}\n"),
        Vector::post("null for what may be left out", task_with(r#""session_id":null,"options":{"locale":null}"#)),
        Vector::post("escaped names", r#"{"\u0074ool":"task.create","arguments":{"t\u0069tle":"T"}}"#),
        Vector::post("a level less than the deepest", metadata(&nested(DEEPEST - 1))),
        Vector::post("the deepest", metadata(&nested(DEEPEST))),
        Vector::post("twenty thousand keys", metadata(&many(20_000))),
        Vector::post("an empty key", metadata(r#"{"":1}"#)),
    ])
    .await;
}
