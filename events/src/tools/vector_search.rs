use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Cache, Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// Arguments of `vector.search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorSearchInput {
    #[schemars(length(min = 1, max = 100))]
    pub collection: String,
    /// Of the collection's dimensions; not all zero.
    #[schemars(length(min = 1, max = 2_000), inner(range(min = -1e9, max = 1e9)))]
    pub vector: Vec<f32>,
    /// How many hits at the most.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "default_top_k")]
    pub top_k: u32,
    /// Only items whose metadata contains all of this.
    #[schemars(extend("maxProperties" = 20))]
    pub filter: Option<Map<String, Value>>,
    #[serde(default)]
    pub metric: VectorMetric,
    /// Words, "quoted phrases", `or`, and `-excluded` words, to be looked for in the items' `text` as well. The two rankings are
    /// fused: an item's score is then the sum of 1 / (60 + rank) over the rankings it is in, of which the first 200 places count.
    #[schemars(length(min = 1, max = 1_000))]
    pub text: Option<String>,
}

/// How alike two vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VectorMetric {
    /// The cosine of the angle between them, -1 to 1.
    #[default]
    Cosine,
    /// Their inner product.
    Dot,
}

/// Result of `vector.search`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VectorSearchOutput {
    /// Best first; those of the same score by their id.
    pub hits: Vec<VectorHit>,
    /// Whether every item was compared: always true. A search that cannot do so fails.
    pub exact: bool,
    /// How many items were compared: those of the collection that fit the filter.
    pub scanned: u64,
}

/// One item found.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VectorHit {
    pub id: String,
    /// Higher is better.
    pub score: f64,
    pub metadata: Map<String, Value>,
}

fn default_top_k() -> u32 {
    10
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Finds the items of a collection whose vectors are most like a given one, by exact comparison with each of \
                      them. It fails where more numbers (vectors times dimensions, after the filter) would have to be compared \
                      than the operator allows, by default 50,000,000.",
        side_effects: SideEffects::ReadOnly,
        lane: lane("vector"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        // What was just written is found, unless the caller says that older will do.
        cache: Some(Cache { default_freshness_seconds: 0, max_freshness_seconds: 3_600, stale_seconds: 0 }),
        examples: vec![
            json!({"collection": "products", "vector": [1.0, 0.0, 0.0]}),
            json!({"collection": "products", "vector": [1.0, 0.0, 0.0], "top_k": 3, "filter": {"kind": "drink"}, "metric": "dot",
                   "text": "green tea"}),
        ],
        ..Contract::of::<VectorSearchInput, VectorSearchOutput>("vector.search", FIRST_VERSION)
    }
}
