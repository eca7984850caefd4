use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toolgate_events::tools::{BasehubBlocks, BasehubError, BasehubPage, BasehubQueryInput, BasehubQueryOutput, BasehubSearch};
use toolgate_security::{EgressRequest, EgressResponse};

use super::{Call, ToolError, answer, graphql, without_nul};
use crate::{BaseHub, Environment};

const TOOL: &str = "basehub.query";
/// GraphQL over HTTP, section 5.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/graphql-response+json, application/json;q=0.9");
/// Errors shown at the most, and characters of each.
const MAX_ERRORS: usize = 20;
const MAX_ERROR_LENGTH: usize = 500;

/// A GraphQL request, and the list whose page it asks for, if it does.
struct Question {
    body: Value,
    page: Option<Page>,
}

/// A page of the list at `path`.
struct Page {
    path: String,
    first: u32,
    skip: u32,
}

/// A GraphQL response (section 7.1). `data` is absent when the request was not run at all.
#[derive(Deserialize)]
struct Response {
    data: Option<Map<String, Value>>,
    #[serde(default)]
    errors: Vec<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    path: Option<Vec<Value>>,
}

/// Asked again after a crash it reads again. Caching, and doing without an answer for a while, are the runtime's.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let question = question(call.arguments()?)?;
    let basehub = environment.basehub.as_ref().ok_or(ToolError::NotConfigured("no BaseHub repository is set up"))?;
    let response = read(environment.egress.send(TOOL, request(basehub, &question.body)?).await?)?;
    output(question.page, response)
}

fn output(page: Option<Page>, response: Response) -> Result<Value, ToolError> {
    let errors: Vec<_> = response.errors.into_iter().take(MAX_ERRORS).map(shown).collect();
    let Some(mut data) = response.data else {
        return Err(refused(&errors));
    };
    data.values_mut().for_each(without_nul);
    match page {
        None => answer(&BasehubQueryOutput { data, errors, page: None }),
        Some(page) => {
            // Where the list is missing, the errors say why.
            let (items, page) = match page.of(&Value::Object(data)) {
                Err(_) if !errors.is_empty() => return Err(refused(&errors)),
                page => page?,
            };
            answer(&BasehubQueryOutput { data: Map::from_iter([("items".to_owned(), items)]), errors, page: Some(page) })
        }
    }
}

/// What could not be answered in part may be answered whole the next time.
pub fn is_reusable(result: &Value) -> bool {
    result.get("errors").is_none()
}

fn question(input: BasehubQueryInput) -> Result<Question, ToolError> {
    match input {
        BasehubQueryInput { query: Some(query), variables, operation_name, blocks: None, search: None } => {
            graphql::check(&query).map_err(ToolError::InvalidArguments)?;
            let body = json!({"query": query, "variables": variables.unwrap_or_default(), "operationName": operation_name});
            Ok(Question { body, page: None })
        }
        BasehubQueryInput { query: None, blocks: Some(blocks), search: None, .. } => {
            let BasehubBlocks { list, fields, order_by, first, skip } = blocks;
            let order = order_by.map(|order| format!(", orderBy: {order}")).unwrap_or_default();
            let query = document("$first: Int, $skip: Int", &list, &format!("first: $first, skip: $skip{order}"), &fields);
            let body = json!({"query": query, "variables": {"first": first, "skip": skip}});
            Ok(Question { body, page: Some(Page { path: list, first, skip }) })
        }
        BasehubQueryInput { query: None, blocks: None, search: Some(search), .. } => {
            let BasehubSearch { term, field, list, fields, first, skip } = search;
            let arguments = format!("first: $first, skip: $skip, filter: {{{field}: {{contains: $term}}}}");
            let query = document("$first: Int, $skip: Int, $term: String", &list, &arguments, &fields);
            let body = json!({"query": query, "variables": {"first": first, "skip": skip, "term": term}});
            Ok(Question { body, page: Some(Page { path: list, first, skip }) })
        }
        _ => Err(ToolError::InvalidArguments("exactly one of query, blocks and search".to_owned())),
    }
}

/// The query for a page of a list: its items, and how many there are. All names are ones that the schema allows.
fn document(variables: &str, list: &str, arguments: &str, fields: &[String]) -> String {
    let selection: String = fields.iter().map(|field| nested(field, "") + " ").collect();
    let list = nested(list, &format!("({arguments}) {{ items {{ {selection}}} _meta {{ filteredCount }} }}"));
    format!("query ({variables}) {{ {list} }}")
}

/// `a { b { c<innermost> } }` of `a.b.c`.
fn nested(path: &str, innermost: &str) -> String {
    let depth = path.matches('.').count();
    path.replace('.', " { ") + innermost + &" }".repeat(depth)
}

fn request(basehub: &BaseHub, body: &Value) -> Result<EgressRequest, ToolError> {
    let token = format!("Bearer {}", basehub.token.expose_secret());
    let mut token = HeaderValue::from_str(&token).map_err(|_| ToolError::NotConfigured("the token for BaseHub is no token"))?;
    token.set_sensitive(true);
    let headers = HeaderMap::from_iter([
        (header::AUTHORIZATION, token),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::ACCEPT, ACCEPTED),
    ]);
    Ok(EgressRequest { method: Method::POST, url: basehub.url.clone(), headers, body: Bytes::from(serde_json::to_vec(body)?) })
}

/// The response as GraphQL has it. A query that was refused may come with 400 and errors that say why.
fn read(EgressResponse { status, body, truncated, .. }: EgressResponse) -> Result<Response, ToolError> {
    let failed = |detail: String| Err(ToolError::Upstream { detail, sent: true });
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(ToolError::NotConfigured("BaseHub does not accept the token that is set up"));
        }
        StatusCode::TOO_MANY_REQUESTS => return failed("BaseHub has had too many requests for now".to_owned()),
        status if status.is_server_error() => return failed(format!("BaseHub answered with status {}", status.as_u16())),
        _ if truncated => {
            let detail = "BaseHub's answer is larger than 256 KiB: ask for fewer items or fields";
            return Err(ToolError::InvalidArguments(detail.to_owned()));
        }
        _ => {}
    }
    match serde_json::from_slice::<Response>(&body) {
        Ok(response) if response.data.is_some() || !response.errors.is_empty() => Ok(response),
        _ if !status.is_success() => failed(format!("BaseHub answered with status {}", status.as_u16())),
        _ => failed("BaseHub's answer is not GraphQL".to_owned()),
    }
}

impl Page {
    /// The items at the path, and where they are.
    fn of(self, data: &Value) -> Result<(Value, BasehubPage), ToolError> {
        let Self { path, first, skip } = self;
        let list = data.pointer(&format!("/{}", path.replace('.', "/")));
        let parts = list.and_then(|list| Some((list["items"].as_array()?, list["_meta"]["filteredCount"].as_u64()?)));
        let Some((items, total)) = parts else {
            return Err(ToolError::NotFound("the repository has no list there"));
        };
        let so_far = u64::from(skip) + u64::try_from(items.len()).unwrap_or(u64::MAX);
        let page = BasehubPage { first, skip, total, has_next: !items.is_empty() && so_far < total };
        Ok((Value::Array(items.clone()), page))
    }
}

fn refused(errors: &[BasehubError]) -> ToolError {
    let messages: Vec<_> = errors.iter().take(3).map(|error| error.message.as_str()).collect();
    ToolError::InvalidArguments(format!("BaseHub does not answer this query: {}", messages.join("; ")))
}

fn shown(Failure { message, path }: Failure) -> BasehubError {
    let mut message: String = message.chars().filter(|character| *character != '\0').take(MAX_ERROR_LENGTH).collect();
    if message.is_empty() {
        "no reason given".clone_into(&mut message);
    }
    let mut path = path.unwrap_or_default();
    path.truncate(MAX_ERRORS);
    path.iter_mut().for_each(without_nul);
    BasehubError { message, path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: Value) -> Value {
        question(serde_json::from_value(arguments).unwrap()).unwrap_or_else(|error| panic!("{error}")).body
    }

    #[test]
    fn a_page_is_asked_for_by_a_query_that_only_reads() {
        let blocks = asked(json!({"blocks": {
            "list": "blog.posts", "fields": ["_title", "body.json.content"], "order_by": "date__DESC", "first": 5, "skip": 10,
        }}));
        let expected = "query ($first: Int, $skip: Int) { blog { posts(first: $first, skip: $skip, orderBy: date__DESC) \
                        { items { _title body { json { content } } } _meta { filteredCount } } } }";
        assert_eq!(blocks, json!({"query": expected, "variables": {"first": 5, "skip": 10}}));
        let search = asked(json!({"search": {"list": "posts", "term": "\"}) { x }"}}));
        let expected = "query ($first: Int, $skip: Int, $term: String) { posts(first: $first, skip: $skip, \
                        filter: {_sys_title: {contains: $term}}) { items { _id _title _slug } _meta { filteredCount } } }";
        assert_eq!(search["query"], expected);
        assert_eq!(search["variables"], json!({"first": 20, "skip": 0, "term": "\"}) { x }"}));
        for body in [blocks, search] {
            assert_eq!(graphql::check(body["query"].as_str().unwrap()), Ok(()));
        }
    }

    #[test]
    fn a_page_knows_whether_there_is_another() {
        let data = |items: usize, total: u64| json!({"a": {"b": {"items": vec![0; items], "_meta": {"filteredCount": total}}}});
        let has_next =
            |skip, items, total| Page { path: "a.b".to_owned(), first: 2, skip }.of(&data(items, total)).unwrap().1.has_next;
        assert_eq!([has_next(0, 2, 3), has_next(0, 2, 2), has_next(2, 1, 3), has_next(9, 0, 3)], [true, false, false, false]);
        for data in [json!({"a": null}), json!({"a": {"b": null}}), json!({"a": {"b": {"items": 1}}})] {
            assert!(Page { path: "a.b".to_owned(), first: 2, skip: 0 }.of(&data).is_err());
        }
    }

    #[test]
    fn a_page_that_is_missing_fails_with_the_reasons_that_are_given() {
        let ask = |response: Value| {
            let page = Page { path: "blog.posts".to_owned(), first: 2, skip: 0 };
            output(Some(page), serde_json::from_value(response).unwrap())
        };
        let reasons = vec![json!({"message": "no access"}), json!({"message": "m".repeat(2_000)})];
        let words = ask(json!({"data": {"blog": null}, "errors": reasons})).unwrap_err();
        assert!(
            matches!(&words, ToolError::InvalidArguments(words) if words.contains("no access; mmm") && words.len() < 600),
            "{words}"
        );
        assert!(matches!(ask(json!({"data": {"blog": null}})), Err(ToolError::NotFound(_))));
        let list = json!({"posts": {"items": [null], "_meta": {"filteredCount": 1}}});
        let partial = ask(json!({"data": {"blog": list}, "errors": reasons})).unwrap();
        assert_eq!((&partial["data"]["items"], &partial["errors"][0]["message"]), (&json!([null]), &json!("no access")));
    }
}
