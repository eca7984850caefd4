use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// The shortest vector that has a direction, 2^-40: much below it, squares are lost to rounding.
const LEAST_LENGTH: f64 = 1.0 / (1_u64 << 40) as f64;

/// Arguments of `vector.upsert`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorUpsertInput {
    /// The first vectors of a collection give all of them their number of dimensions.
    #[schemars(length(min = 1, max = 100))]
    pub collection: String,
    /// Vectors of the same number of dimensions, each under an id of its own.
    #[schemars(length(min = 1, max = 500))]
    pub items: Vec<VectorItem>,
}

/// One vector and what belongs to it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorItem {
    /// The caller's own name for the item within its collection: the same name replaces it.
    #[schemars(length(min = 1, max = 255))]
    pub id: String,
    /// Kept in single precision; not all zero.
    #[schemars(length(min = 1, max = 2_000), inner(range(min = -1e9, max = 1e9)))]
    pub vector: Vec<f32>,
    /// What searches filter by, and what comes back with a hit.
    #[schemars(extend("maxProperties" = 50))]
    pub metadata: Option<Map<String, Value>>,
    /// What searches with `text` look into. Words are matched as they are written, in any language.
    #[schemars(length(max = 10_000))]
    pub text: Option<String>,
}

/// Result of `vector.upsert`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VectorUpsertOutput {
    pub collection: String,
    pub dimensions: u32,
    /// How many items were added or replaced.
    pub upserted: u32,
}

impl VectorUpsertInput {
    /// What the schema cannot say. Answers with the number of dimensions.
    ///
    /// # Errors
    /// What is wrong, for the caller.
    pub fn check(&self) -> Result<usize, String> {
        let dimensions = self.items.first().map_or(0, |item| item.vector.len());
        let mut ids = HashSet::new();
        for VectorItem { id, vector, .. } in &self.items {
            if !ids.insert(id) {
                return Err(format!("the id {id:?} is given twice"));
            }
            if vector.len() != dimensions {
                return Err(format!("the vectors differ in their dimensions: {dimensions} and {}, of {id:?}", vector.len()));
            }
            check_vector(vector).map_err(|problem| format!("the vector of {id:?} {problem}"))?;
        }
        Ok(dimensions)
    }
}

/// # Errors
/// Why the vector has no direction.
pub fn check_vector(vector: &[f32]) -> Result<(), &'static str> {
    let length = vector.iter().map(|&component| f64::from(component).powi(2)).sum::<f64>().sqrt();
    match length {
        length if !length.is_finite() => Err("is not finite"),
        length if length < LEAST_LENGTH => Err("is zero, and so has no direction"),
        _ => Ok(()),
    }
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Adds vectors to a collection of the tenant, or replaces them. All vectors of a collection have the \
                      dimensions of its first ones; until these can be searched, others may be answered as added and are not kept.",
        side_effects: SideEffects::Idempotent,
        lane: lane("ingest"),
        timeout_ms: 10_000,
        retry: Retry::up_to(3),
        examples: vec![json!({"collection": "products", "items": [
            {"id": "tea", "vector": [0.9, 0.1, 0.0], "metadata": {"kind": "drink"}, "text": "Green tea from Bogor"},
            {"id": "cup", "vector": [0.1, 0.9, 0.2], "metadata": {"kind": "thing"}},
        ]})],
        ..Contract::of::<VectorUpsertInput, VectorUpsertOutput>("vector.upsert", FIRST_VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(items: Value) -> Result<usize, String> {
        serde_json::from_value::<VectorUpsertInput>(json!({"collection": "c", "items": items})).unwrap().check()
    }

    #[test]
    fn vectors_have_one_number_of_dimensions_and_a_direction() {
        let least = 2_f32.powi(-40);
        assert_eq!(check(json!([{"id": "a", "vector": [0, least]}, {"id": "b", "vector": [-1e9, 1e9]}])), Ok(2));
        for (items, reason) in [
            (json!([{"id": "a", "vector": [1]}, {"id": "a", "vector": [2]}]), "twice"),
            (json!([{"id": "a", "vector": [1]}, {"id": "b", "vector": [1, 2]}]), "differ"),
            (json!([{"id": "a", "vector": [0, 0.0]}]), "zero"),
            (json!([{"id": "a", "vector": [least.next_down()]}]), "zero"),
            // Too large for single precision.
            (json!([{"id": "a", "vector": [1e300]}]), "finite"),
        ] {
            assert!(check(items).unwrap_err().contains(reason), "{reason}");
        }
        assert_eq!(check_vector(&[f32::NAN, 1.0]), Err("is not finite"));
    }
}
