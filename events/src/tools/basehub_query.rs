use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Cache, Contract, Retry, SideEffects, lane};

/// A name as GraphQL has it, and several on the way down.
const PATH: &str = r"^[_A-Za-z][_0-9A-Za-z]{0,99}(\.[_A-Za-z][_0-9A-Za-z]{0,99}){0,7}$";
const MAX_PATH: u32 = 8 * MAX_NAME + 7;
const NAME: &str = r"^[_A-Za-z][_0-9A-Za-z]{0,99}$";
const MAX_NAME: u32 = 100;

/// Arguments of `basehub.query`: exactly one of `query`, `blocks` and `search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["query"]}, {"required": ["blocks"]}, {"required": ["search"]}],
    "dependentRequired" = {"variables": ["query"], "operation_name": ["query"]},
))]
pub struct BasehubQueryInput {
    /// A GraphQL document of queries and fragments, up to 1,000 tokens and 20 levels deep. Mutations and subscriptions are refused.
    #[schemars(length(min = 1, max = 20_000))]
    pub query: Option<String>,
    /// The values of its variables.
    #[schemars(extend("maxProperties" = 50))]
    pub variables: Option<Map<String, Value>>,
    /// Which of its queries is meant, where there are several.
    #[schemars(length(max = MAX_NAME), regex(pattern = NAME))]
    pub operation_name: Option<String>,
    pub blocks: Option<BasehubBlocks>,
    pub search: Option<BasehubSearch>,
}

/// A page of a list block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasehubBlocks {
    /// Where the list is, such as `blog.posts`.
    #[schemars(length(max = MAX_PATH), regex(pattern = PATH))]
    pub list: String,
    /// What of each item is wanted, such as `_title` and `body.markdown`.
    #[schemars(length(min = 1, max = 50), inner(length(max = MAX_PATH), regex(pattern = PATH)))]
    #[serde(default = "default_fields")]
    pub fields: Vec<String>,
    /// The repository's name for an order, such as `_sys_createdAt__DESC`.
    #[schemars(length(max = MAX_NAME), regex(pattern = NAME))]
    pub order_by: Option<String>,
    /// How many items at the most.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "default_first")]
    pub first: u32,
    /// How many items before them are left out.
    #[schemars(range(min = 0, max = 100_000))]
    #[serde(default)]
    pub skip: u32,
}

/// A page of a list block's items that contain a text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasehubSearch {
    /// What a field of the item contains.
    #[schemars(length(min = 1, max = 200))]
    pub term: String,
    /// Which field of text.
    #[schemars(length(max = MAX_NAME), regex(pattern = NAME))]
    #[serde(default = "default_field")]
    pub field: String,
    /// Where the list is, such as `blog.posts`.
    #[schemars(length(max = MAX_PATH), regex(pattern = PATH))]
    pub list: String,
    /// What of each item is wanted, such as `_title` and `body.markdown`.
    #[schemars(length(min = 1, max = 50), inner(length(max = MAX_PATH), regex(pattern = PATH)))]
    #[serde(default = "default_fields")]
    pub fields: Vec<String>,
    /// How many items at the most.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "default_first")]
    pub first: u32,
    /// How many items before them are left out.
    #[schemars(range(min = 0, max = 100_000))]
    #[serde(default)]
    pub skip: u32,
}

/// Result of `basehub.query`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BasehubQueryOutput {
    /// What a query asked for; of a list its `items`.
    pub data: Map<String, Value>,
    /// What BaseHub could not answer beside it, the first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<BasehubError>,
    /// Where the items are in their list; absent for a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<BasehubPage>,
}

/// A part that could not be answered (GraphQL, section 7.1.2).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BasehubError {
    /// What BaseHub says about it.
    pub message: String,
    /// Where it would be in `data`: names and indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Value>,
}

/// A place in a list.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BasehubPage {
    /// How many items were asked for.
    pub first: u32,
    /// How many items were left out before them.
    pub skip: u32,
    /// How many items there are on all pages.
    pub total: u64,
    /// Whether there is a page after this one: skip as many as `skip` and the items here are together.
    pub has_next: bool,
}

fn default_fields() -> Vec<String> {
    ["_id", "_title", "_slug"].map(str::to_owned).into()
}

fn default_field() -> String {
    "_sys_title".to_owned()
}

fn default_first() -> u32 {
    20
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Reads content from the BaseHub repository that the operator has set up: any GraphQL query, a page of a list \
                      block, or the items of one that contain a text.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("cms"),
        timeout_ms: 15_000,
        retry: Retry::up_to(3),
        // A webhook says when the content has changed, so a minute is long enough only for those that were lost.
        cache: Some(Cache { default_freshness_seconds: 60, max_freshness_seconds: 3_600, stale_seconds: 86_400 }),
        examples: vec![
            json!({"query": "query ($slug: String) { blog { posts(filter: {_sys_slug: {eq: $slug}}) { items { _title } } } }",
                   "variables": {"slug": "hello"}}),
            json!({"blocks": {"list": "blog.posts", "fields": ["_title", "body.markdown"], "first": 10, "skip": 10}}),
            json!({"search": {"list": "blog.posts", "term": "tea"}}),
        ],
        // 2: names say how long they may be.
        ..Contract::of::<BasehubQueryInput, BasehubQueryOutput>("basehub.query", 2)
    }
}
