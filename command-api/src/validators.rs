use std::{collections::HashMap, fmt};

use jsonschema::Validator;
use serde_json::Value;
use toolgate_events::tools::{self, Contract};
use toolgate_security::FieldError;

/// Errors listed at the most; more would help nobody.
const MAX_ERRORS: usize = 32;
/// Characters of one error's detail at the most: it may name every property that is one too many.
const MAX_DETAIL_LENGTH: usize = 300;

/// The contracts' input schemas, compiled once.
pub struct Validators(HashMap<&'static str, Compiled>);

struct Compiled {
    validator: Validator,
    contract_hash: String,
}

impl Validators {
    /// # Panics
    /// When a contract's schema is no schema: the registry's own tests would have failed before.
    pub fn compile() -> Self {
        let compile = |contract: &'static Contract| {
            let validator = jsonschema::draft202012::options()
                .should_validate_formats(true)
                .build(&contract.input_schema)
                .unwrap_or_else(|error| panic!("the input schema of {} does not compile: {error}", contract.name));
            let contract_hash = contract.hash().unwrap_or_default();
            (contract.name, Compiled { validator, contract_hash })
        };
        Self(tools::all().iter().map(compile).collect())
    }

    /// The first ways in which `arguments` break the tool's contract. Details never repeat a value: it may be long, or a secret.
    pub fn check(&self, tool: &str, arguments: &Value) -> Vec<FieldError> {
        let Some(compiled) = self.0.get(tool) else { return Vec::new() };
        compiled
            .validator
            .iter_errors(arguments)
            .take(MAX_ERRORS)
            .map(|error| FieldError {
                pointer: format!("/arguments{}", error.instance_path()),
                detail: error.masked().to_string().chars().take(MAX_DETAIL_LENGTH).collect(),
            })
            .collect()
    }

    /// The hash of the tool's contract, as it is recorded with every decision.
    pub fn contract_hash(&self, tool: &str) -> &str {
        self.0.get(tool).map_or("", |compiled| compiled.contract_hash.as_str())
    }
}

impl fmt::Debug for Validators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_every_contract_are_valid() {
        let validators = Validators::compile();
        for contract in tools::all() {
            for example in &contract.examples {
                assert_eq!(validators.check(contract.name, example), [], "{}", contract.name);
            }
        }
    }

    #[test]
    fn errors_are_listed_with_their_pointers() {
        let errors = Validators::compile().check("knowledge.search", &json!({"query": "", "top_k": 101, "x": 1}));
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(pointers.contains(&"/arguments/query") && pointers.contains(&"/arguments/top_k"), "{pointers:?}");
    }

    #[test]
    fn errors_are_bounded_and_repeat_no_value() {
        let validators = Validators::compile();
        let errors = validators.check("task.create", &json!({"title": 77_001, "labels": vec!["hunter2".repeat(20); 80_000]}));
        assert_eq!(errors.len(), MAX_ERRORS);
        assert!(errors.iter().all(|error| !error.detail.contains("hunter2") && !error.detail.contains("77001")), "{errors:?}");

        let unknown: serde_json::Map<_, _> = (0..80_000).map(|n| (format!("unknown{n}"), json!("hunter2"))).collect();
        let errors = validators.check("task.create", &Value::Object(unknown));
        assert!(errors.iter().all(|error| error.detail.chars().count() <= MAX_DETAIL_LENGTH), "{}", errors.len());
    }

    #[test]
    fn limits_hold_exactly() {
        let validators = Validators::compile();
        let valid = |top_k: u32| validators.check("knowledge.search", &json!({"query": "x", "top_k": top_k})).is_empty();
        assert!(!valid(0) && valid(1) && valid(100) && !valid(101));
    }
}
