use std::{
    collections::HashMap,
    fmt, ptr,
    sync::{Arc, PoisonError, RwLock},
};

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;
use toolgate_events::{Catalog, json_schema, tools::Contract};
use toolgate_security::{FieldError, json_pointer};

/// Errors listed at the most; more would help nobody.
const MAX_ERRORS: usize = 32;
/// Characters of one error's detail at the most.
const MAX_DETAIL_LENGTH: usize = 300;

/// The contracts' input schemas, each compiled once.
pub struct Validators(RwLock<HashMap<&'static str, Arc<Compiled>>>);

struct Compiled {
    contract: &'static Contract,
    /// None for a schema that is none: then nothing is valid.
    validator: Option<Validator>,
    contract_hash: String,
}

impl Compiled {
    fn of(contract: &'static Contract) -> Self {
        let validator = json_schema::compile(&contract.input_schema);
        Self { contract, validator, contract_hash: contract.hash().unwrap_or_default() }
    }
}

impl Validators {
    /// Compiles everything that is known by now, so that no call has to wait for it.
    pub fn compile(catalog: &Catalog) -> Self {
        let compiled = catalog.all().into_iter().map(|contract| (contract.name, Arc::new(Compiled::of(contract))));
        Self(RwLock::new(compiled.collect()))
    }

    fn of(&self, contract: &'static Contract) -> Arc<Compiled> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(contract.name).cloned();
        if let Some(known) = known.filter(|known| ptr::eq(known.contract, contract)) {
            return known;
        }
        let compiled = Arc::new(Compiled::of(contract));
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(contract.name, Arc::clone(&compiled));
        compiled
    }

    /// The first ways in which `arguments` break the tool's contract. Details never repeat a value: it may be long, or a secret.
    pub fn check(&self, contract: &'static Contract, arguments: &Value) -> Vec<FieldError> {
        let compiled = self.of(contract);
        let Some(validator) = &compiled.validator else {
            return vec![FieldError { pointer: "/arguments".to_owned(), detail: "this tool's schema cannot be used".to_owned() }];
        };
        let mut errors = Vec::new();
        for error in validator.iter_errors(arguments) {
            list(&error, &mut errors);
            if errors.len() >= MAX_ERRORS {
                break;
            }
        }
        errors.truncate(MAX_ERRORS);
        errors
    }

    /// The hash of a contract, as it is recorded with every decision.
    pub fn contract_hash(&self, contract: &'static Contract) -> String {
        self.of(contract).contract_hash.clone()
    }
}

/// One error for each member that is wrong, and the pointer is that member's, also where it is missing.
fn list(error: &ValidationError<'_>, errors: &mut Vec<FieldError>) {
    let within = |member: Option<&str>| {
        let path = error.instance_path();
        let members: Vec<String> = path.iter().map(|segment| segment.to_string()).collect();
        json_pointer(["arguments"].into_iter().chain(members.iter().map(String::as_str)).chain(member))
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            errors.push(FieldError { pointer: within(property.as_str()), detail: "is required".to_owned() });
        }
        ValidationErrorKind::AdditionalProperties { unexpected } | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            errors.extend(
                unexpected
                    .iter()
                    .take(MAX_ERRORS)
                    .map(|name| FieldError { pointer: within(Some(name)), detail: "is not known here".to_owned() }),
            );
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if let Some(branch) = meant(error, context) =>
        {
            branch.iter().for_each(|error| list(error, errors));
        }
        _ => {
            let detail = error.masked().to_string().chars().take(MAX_DETAIL_LENGTH).collect();
            errors.push(FieldError { pointer: within(None), detail });
        }
    }
}

/// The alternative that the value was meant for: the only one that it has the type of.
fn meant<'a>(
    error: &ValidationError<'_>,
    alternatives: &'a [Vec<ValidationError<'static>>],
) -> Option<&'a [ValidationError<'static>]> {
    let has_type = |branch: &&Vec<ValidationError<'_>>| {
        let is_type = |inner: &ValidationError<'_>| matches!(inner.kind(), ValidationErrorKind::Type { .. });
        !branch.iter().any(|inner| is_type(inner) && inner.instance_path() == error.instance_path())
    };
    let mut candidates = alternatives.iter().filter(has_type);
    candidates.next().filter(|_| candidates.next().is_none()).map(Vec::as_slice)
}

impl fmt::Debug for Validators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.read().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use toolgate_events::tools;

    use super::*;

    #[test]
    fn the_examples_of_every_contract_are_valid() {
        let validators = Validators::compile(&Catalog::default());
        for contract in tools::all() {
            assert!(validators.of(contract).validator.is_some(), "{}", contract.name);
            for example in &contract.examples {
                assert_eq!(validators.check(contract, example), [], "{}", contract.name);
            }
        }
    }

    #[test]
    fn both_schemas_of_every_contract_are_valid() {
        for contract in tools::all() {
            for schema in [&contract.input_schema, &contract.output_schema] {
                assert!(jsonschema::draft202012::meta::is_valid(schema), "{}: {schema}", contract.name);
                assert!(jsonschema::draft202012::new(schema).is_ok(), "{}: {schema}", contract.name);
            }
        }
    }

    fn check(tool: &str, arguments: &Value) -> Vec<FieldError> {
        Validators::compile(&Catalog::default()).check(tools::find(tool).unwrap(), arguments)
    }

    fn pointers(tool: &str, arguments: &Value) -> Vec<String> {
        let mut pointers: Vec<_> = check(tool, arguments).into_iter().map(|error| error.pointer).collect();
        pointers.sort_unstable();
        pointers
    }

    #[test]
    fn every_error_is_listed_with_the_pointer_of_its_member() {
        for (tool, arguments, expected) in [
            (
                "knowledge.search",
                json!({"query": "", "top_k": 101, "x": 1, "y": 2}),
                &["/arguments/query", "/arguments/top_k", "/arguments/x", "/arguments/y"][..],
            ),
            ("task.create", json!({}), &["/arguments/title"]),
            ("knowledge.upsert", json!({}), &["/arguments/content", "/arguments/document_id", "/arguments/title"]),
            ("task.create", json!({"title": "T", "a/b": 1, "m~n": 1}), &["/arguments/a~1b", "/arguments/m~0n"]),
            (
                "task.create",
                json!({"title": 5, "labels": ["", 1]}),
                &["/arguments/labels/0", "/arguments/labels/1", "/arguments/title"],
            ),
            // Of two alternatives, null is not the one that was meant.
            (
                "knowledge.search",
                json!({"query": "x", "filters": {"locale": 5, "x": 1}}),
                &["/arguments/filters/locale", "/arguments/filters/x"],
            ),
            ("knowledge.search", json!({"query": "x", "filters": 5}), &["/arguments/filters"]),
        ] {
            assert_eq!(pointers(tool, &arguments), expected, "{tool} {arguments}");
        }
    }

    #[test]
    fn the_list_ends_at_its_limit_exactly() {
        let unknown = |count: usize| {
            let members = (0..count).map(|number| (format!("x{number}"), json!(1)));
            Value::Object([("title".to_owned(), json!("T"))].into_iter().chain(members).collect())
        };
        for (count, listed) in [(MAX_ERRORS - 1, MAX_ERRORS - 1), (MAX_ERRORS, MAX_ERRORS), (MAX_ERRORS + 1, MAX_ERRORS)] {
            assert_eq!(pointers("task.create", &unknown(count)).len(), listed, "{count}");
        }
    }

    #[test]
    fn errors_are_bounded_and_repeat_no_value() {
        let errors = check("task.create", &json!({"title": 77_001, "labels": vec!["hunter2".repeat(20); 80_000]}));
        assert_eq!(errors.len(), MAX_ERRORS);
        assert!(errors.iter().all(|error| !error.detail.contains("hunter2") && !error.detail.contains("77001")), "{errors:?}");

        let unknown: serde_json::Map<_, _> = (0..80_000).map(|n| (format!("unknown{n}"), json!("hunter2"))).collect();
        let errors = check("task.create", &Value::Object(unknown));
        assert!(errors.iter().all(|error| error.detail.chars().count() <= MAX_DETAIL_LENGTH), "{}", errors.len());
    }

    #[test]
    fn limits_hold_exactly() {
        let valid = |top_k: u32| check("knowledge.search", &json!({"query": "x", "top_k": top_k})).is_empty();
        assert!(!valid(0) && valid(1) && valid(100) && !valid(101));
    }
}
