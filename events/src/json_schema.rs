//! JSON Schemas as everybody compiles them: what discovery accepts, the API and the workers check by.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// A schema (JSON Schema 2020-12) ready to check by, or `None` for one that is none.
pub fn compile(schema: &Value) -> Option<Validator> {
    // Patterns may be a stranger's: this kind takes time in proportion to the text.
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.with_pattern_options(PatternOptions::regex()).build(schema).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_count_and_patterns_are_those_that_take_linear_time() {
        let uuid = compile(&json!({"format": "uuid"})).unwrap();
        assert!(!uuid.is_valid(&json!("no uuid")));
        assert!(compile(&json!({"pattern": "^(a|aa)+$"})).unwrap().is_valid(&json!("aaa")));
        for none in [json!({"pattern": "(?=x)(a+)+$"}), json!({"pattern": "^(a|a)*\\1$"}), json!({"type": "no-such-type"})] {
            assert!(compile(&none).is_none(), "{none}");
        }
    }
}
