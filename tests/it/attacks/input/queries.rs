//! Query parameters and paths.

use super::{Vector, assert_accepted, assert_refused};

pub fn vectors() -> Vec<Vector> {
    let get = |name, path: &str| Vector::get(name, path);
    let refused = vec![
        get("a NUL in a filter", "/v1/tool-calls?session_id=%00").at("session_id"),
        get("a NUL in another filter", "/v1/audit?actor=a%00b").at("actor"),
        get("a NUL in a number", "/v1/tasks?limit=1%00").at("limit"),
        get("a query that is not UTF-8", "/v1/tool-calls?session_id=%FF").at(""),
        get("half a character", "/v1/tool-calls?session_id=%C3").at(""),
        get("an overlong character", "/v1/tool-calls?session_id=%C0%AF").at(""),
        get("a surrogate in a query", "/v1/audit?actor=%ED%A0%80").at(""),
        get("an escape without digits", "/v1/tool-calls?session_id=%").at(""),
        get("an escape with one digit", "/v1/tool-calls?session_id=%4").at(""),
        get("an escape of other letters", "/v1/tool-calls?session_id=%zz").at(""),
        get("a parameter twice", "/v1/tasks?limit=1&limit=1").at("limit"),
        get("a parameter twice, once escaped", "/v1/tasks?limit=1&%6cimit=2").at("limit"),
        get("a filter twice", "/v1/tool-calls?tool=a&tool=b").at("tool"),
        get("a parameter nobody knows", "/v1/tasks?tenant_id=00000000-0000-0000-0000-000000000001").at("tenant_id"),
        get("a token in the query", "/v1/tasks?access_token=x").at("access_token"),
        get("a parameter in capitals", "/v1/tasks?Limit=1").at("Limit"),
        get("a parameter of a list", "/v1/tasks?limit[]=1").at("limit[]"),
        get("a parameter where there is none", "/v1/tools?limit=1").at("limit"),
        get("a limit of 0", "/v1/tasks?limit=0").at("limit"),
        get("a limit of 501", "/v1/tasks?limit=501").at("limit"),
        get("a negative limit", "/v1/tool-calls?limit=-1").at("limit"),
        get("a limit of 2^32", "/v1/documents?limit=4294967296").at("limit"),
        get("a limit with a fraction", "/v1/audit?limit=1.5").at("limit"),
        get("an empty limit", "/v1/tasks?limit=").at("limit"),
        get("a limit without a value", "/v1/tasks?limit").at("limit"),
        get("an empty filter", "/v1/tool-calls?session_id=").at("session_id"),
        get("an empty cursor", "/v1/tool-calls?cursor=").at("cursor"),
        get("a cursor that was made up", "/v1/tool-calls?cursor=AAAA").at("cursor"),
        get("a position of 2^64", "/v1/audit?after=18446744073709551616").at("after"),
        get("a negative position", "/v1/audit?after=-1").at("after"),
        get("a position that is none", "/v1/events?after=last").at("after"),
        get("a call that is no id", "/v1/events?call_id=1").at("call_id"),
        get("a status nobody has", "/v1/tool-calls?status=done").at("status"),
        get("a status in capitals", "/v1/tool-calls?status=Succeeded").at("status"),
        get("a time without a zone", "/v1/audit?from=2026-01-01T00:00:00").at("from"),
        get("a time of another calendar", "/v1/audit?to=13.12.2026").at("to"),
        get("a past that is none", "/v1/usage?as_of=yesterday").at("as_of"),
        get("a position and a time", "/v1/usage?as_of=1T00:00:00Z").at("as_of"),
        get("a position with a sign", "/v1/usage?as_of=%2B1").at("as_of"),
        get("a day that no month has", "/v1/usage?from=2026-02-30").at("from"),
        get("a day of no calendar", "/v1/usage?to=%2B99999-01-01").at("to"),
        get("a position to wait for that is none", "/v1/tasks?min_position=-1").at("min_position"),
        get("SQL for a limit", "/v1/tasks?limit=1;drop%20table%20task").at("limit"),
    ];
    let missing = [
        ("an id that is none", "/v1/tool-calls/1"),
        ("an id without hyphens", "/v1/tool-calls/6f9619ff8b865d01b42d00cf4fc964ff"),
        ("an id in braces", "/v1/tool-calls/%7B6f9619ff-8b86-5d01-b42d-00cf4fc964ff%7D"),
        ("an id with a NUL", "/v1/tool-calls/6f9619ff-8b86-5d01-b42d-00cf4fc964ff%00"),
        ("an id that is not UTF-8", "/v1/tool-calls/%FF"),
        ("an id with a slash", "/v1/tool-calls/6f9619ff-8b86-5d01-b42d-00cf4fc964ff%2Fevents"),
        ("an id with a parameter", "/v1/tool-calls/6f9619ff-8b86-5d01-b42d-00cf4fc964ff;v=1"),
        ("no id", "/v1/tool-calls/"),
        ("a slash too many", "/v1//tool-calls"),
        ("a slash at the end", "/v1/tasks/"),
        ("a path in capitals", "/V1/tasks"),
        ("an escaped slash", "/v1%2Ftasks"),
        ("an escaped letter", "/v1/%74asks"),
        ("a session that is not UTF-8", "/v1/sessions/%FF"),
        ("a session with a NUL", "/v1/sessions/a%00"),
        ("a tool that is not UTF-8", "/v1/tools/%FF"),
        ("a tool with a NUL", "/v1/tools/task.create%00"),
    ];
    refused.into_iter().chain(missing.map(|(name, path)| get(name, path).refused_with(404, "not-found"))).collect()
}

#[tokio::test]
async fn every_parameter_and_path_that_is_none_is_refused() {
    assert_refused(vectors()).await;
}

#[tokio::test]
async fn parameters_that_are_some_are_accepted() {
    assert_accepted(vec![
        Vector::get("no parameter", "/v1/tasks?"),
        Vector::get("the smallest limit", "/v1/tasks?limit=1"),
        Vector::get("the largest limit", "/v1/tasks?limit=500"),
        Vector::get("an escaped name", "/v1/tasks?%6cimit=1"),
        Vector::get("a filter of any script", "/v1/tool-calls?session_id=%C3%A9%F0%9F%98%80"),
        Vector::get("a filter with a plus", "/v1/tool-calls?session_id=a+b%2Bc"),
        Vector::get("the largest position", "/v1/audit?after=18446744073709551615"),
        Vector::get("a time with an offset", "/v1/audit?from=2026-01-01T00:00:00%2B07:00"),
    ])
    .await;
}
