//! What adapters answer is checked before it is recorded: a contract's output schema is a promise to callers and to projections.

use std::{
    collections::HashMap,
    fmt, ptr,
    sync::{Arc, PoisonError, RwLock},
};

use jsonschema::Validator;
use serde_json::Value;
use toolgate_events::{CallError, canonical, json_schema, tools::Contract};

use crate::adapters::problem;

/// The contracts' output schemas, each compiled once; a contract may be discovered while the worker runs. Clones share them.
#[derive(Clone, Default)]
pub struct Answers(Arc<RwLock<HashMap<&'static str, Arc<Compiled>>>>);

struct Compiled {
    contract: &'static Contract,
    /// None for a schema that is none: then no answer is valid.
    validator: Option<Validator>,
    contract_hash: String,
}

impl Answers {
    /// # Errors
    /// What goes on record instead of an answer that breaks its contract. It names the place in the schema and repeats nothing of
    /// the answer.
    pub fn check(&self, contract: &'static Contract, answer: &Value) -> Result<(), CallError> {
        // No read model could hold it. Once it is sealed only those with the key would know, and after an erasure nobody.
        if canonical::contains_nul(answer) {
            return Err(broken("it has a string with U+0000"));
        }
        let compiled = self.of(contract);
        let place = match &compiled.validator {
            Some(validator) => validator.iter_errors(answer).next().map(|error| error.schema_path().to_string()),
            None => Some("/".to_owned()),
        };
        match place {
            None => Ok(()),
            Some(place) => Err(broken(&format!("it does not fit {place} of the output schema"))),
        }
    }

    /// The answer, if it fits. A stranger's schema may say much of much, so that its check keeps no others waiting; it goes on where
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// As [`Answers::check`].
    pub async fn checked(&self, contract: &'static Contract, answer: Value) -> Result<Value, CallError> {
        if contract.upstream.is_none() {
            return self.check(contract, &answer).map(|()| answer);
        }
        let own = self.clone();
        let check = tokio::task::spawn_blocking(move || own.check(contract, &answer).map(|()| answer));
        check.await.unwrap_or_else(|error| Err(problem("internal", "The tool's answer could not be checked", &error.to_string())))
    }

    /// [`Contract::hash`], which is too slow for every call.
    pub fn contract_hash(&self, contract: &'static Contract) -> String {
        self.of(contract).contract_hash.clone()
    }

    fn of(&self, contract: &'static Contract) -> Arc<Compiled> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(contract.name).cloned();
        if let Some(known) = known.filter(|known| ptr::eq(known.contract, contract)) {
            return known;
        }
        let validator = json_schema::compile(&contract.output_schema);
        let compiled = Arc::new(Compiled { contract, validator, contract_hash: contract.hash().unwrap_or_default() });
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(contract.name, Arc::clone(&compiled));
        compiled
    }
}

fn broken(detail: &str) -> CallError {
    problem("invalid-answer", "The tool's answer breaks its contract", detail)
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.read().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use toolgate_events::tools;

    use super::*;

    fn check(tool: &str, answer: &Value) -> Result<(), CallError> {
        Answers::default().check(tools::find(tool).unwrap(), answer)
    }

    #[test]
    fn a_lie_is_caught_and_nothing_of_it_repeated() {
        let mut hit = json!({"document_id": "d", "title": "t", "updated_at": "2030-01-31T12:00:00Z", "position": "1",
            "content_sha256": "", "score": 1.5, "highlight": "h"});
        assert_eq!(check("knowledge.search", &json!({"hits": [hit], "is_complete": true})), Ok(()));
        hit["score"] = json!("hunter2");
        for lie in [
            json!("hunter2"),
            json!({}),
            json!({"hits": "hunter2", "is_complete": true}),
            json!({"hits": [hit], "is_complete": true}),
            json!({"hits": [{"hunter2": 1}], "is_complete": true}),
        ] {
            let error = check("knowledge.search", &lie).unwrap_err();
            assert_eq!(error.kind, "urn:toolgate:tool:invalid-answer");
            assert!(!format!("{error:?}").contains("hunter2"), "{lie}: {error:?}");
        }
        let wrong = json!({"hits": [hit], "is_complete": true});
        assert!(check("knowledge.search", &wrong).unwrap_err().detail.contains("score/type"));
        assert!(check("task.create", &json!({"task_id": "no uuid"})).is_err(), "formats count");
    }

    #[test]
    fn a_nul_is_in_no_answer() {
        let lenient = Contract { output_schema: json!({}), ..tools::find("task.create").unwrap().clone() };
        let lenient: &'static Contract = Box::leak(Box::new(lenient));
        for answer in [json!("a\0b"), json!({"a": [{"\0": 1}]})] {
            let error = Answers::default().check(lenient, &answer).unwrap_err();
            assert_eq!(error.kind, "urn:toolgate:tool:invalid-answer");
        }
        assert_eq!(Answers::default().check(lenient, &json!("\\u0000")), Ok(()));
    }

    #[test]
    fn a_contract_that_was_replaced_is_compiled_again() {
        let answers = Answers::default();
        let first: &'static Contract = tools::find("task.create").unwrap();
        assert!(answers.check(first, &json!({})).is_err());
        let lenient = Box::leak(Box::new(Contract { output_schema: json!({}), ..first.clone() }));
        assert_eq!(answers.check(lenient, &json!({})), Ok(()));
        assert_ne!(answers.contract_hash(lenient), answers.contract_hash(first));
    }

    #[test]
    fn a_strangers_pattern_is_one_that_takes_linear_time_or_none() {
        let first = tools::find("task.create").unwrap();
        let with = |pattern: &str| -> &'static Contract {
            Box::leak(Box::new(Contract { output_schema: json!({"pattern": pattern}), ..first.clone() }))
        };
        let answers = Answers::default();
        assert_eq!(answers.check(with("^(a|aa)+$"), &json!("aaa")), Ok(()));
        assert!(answers.check(with("(?=a)a"), &json!("a")).is_err(), "looking ahead is none of it");
    }

    #[test]
    fn a_schema_that_is_none_lets_nothing_through() {
        let first = tools::find("task.create").unwrap();
        let broken = Box::leak(Box::new(Contract { output_schema: json!({"type": 5}), ..first.clone() }));
        assert!(Answers::default().check(broken, &json!({})).is_err());
    }
}
