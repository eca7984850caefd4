use serde_json::Value;
use sha2::{Digest, Sha256};
use toolgate_events::{
    canonical,
    tools::{KnowledgeUpsertInput, KnowledgeUpsertOutput},
};

use super::{Call, ToolError, answer};
use crate::Environment;

/// Of the metadata, as JSON in its shortest form.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Of the metadata, which is itself the first level.
const MAX_METADATA_DEPTH: usize = 8;

/// The document is a projection of this outcome: recording it is the whole effect.
pub async fn run(call: &Call, _: &Environment) -> Result<Value, ToolError> {
    let input: KnowledgeUpsertInput = call.arguments()?;
    if let Some(metadata) = input.metadata {
        check(&Value::Object(metadata))?;
    }
    answer(&KnowledgeUpsertOutput {
        content_sha256: canonical::hex(&Sha256::digest(input.content.as_bytes())),
        document_id: input.document_id,
    })
}

fn check(metadata: &Value) -> Result<(), ToolError> {
    let refuse = |what: String| Err(ToolError::InvalidArguments(what));
    if depth(metadata) > MAX_METADATA_DEPTH {
        return refuse(format!("metadata has more than {MAX_METADATA_DEPTH} levels"));
    }
    if metadata.to_string().len() > MAX_METADATA_BYTES {
        return refuse(format!("metadata is longer than {MAX_METADATA_BYTES} bytes of JSON"));
    }
    Ok(())
}

/// How many objects and arrays lie in one another. What a call may hold at all is bounded, so the recursion is.
fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Object(members) => members.values().map(depth).max(),
        Value::Array(items) => items.iter().map(depth).max(),
        _ => return 0,
    };
    1 + deepest.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A metadata object of so many levels.
    fn levels(count: usize) -> Value {
        (1..count).fold(json!({}), |inner, level| if level % 2 == 0 { json!({"a": inner}) } else { json!([inner]) })
    }

    #[test]
    fn metadata_has_eight_levels_at_the_most() {
        assert_eq!(depth(&json!({"a": [{"b": 1}], "c": 2})), 3);
        for count in [1, 7, 8] {
            assert!(check(&levels(count)).is_ok(), "{count}");
        }
        assert!(check(&levels(9)).is_err());
    }

    #[test]
    fn metadata_has_sixteen_kibibytes_at_the_most() {
        let of_bytes = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});
        for bytes in [MAX_METADATA_BYTES - 1, MAX_METADATA_BYTES] {
            assert!(check(&of_bytes(bytes)).is_ok(), "{bytes}");
        }
        assert!(check(&of_bytes(MAX_METADATA_BYTES + 1)).is_err());
    }
}
