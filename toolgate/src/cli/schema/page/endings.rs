//! The types of error that an outcome can have.

/// What follows `urn:toolgate:tool:`, and what it means to a caller.
const ENDINGS: &[(&str, &str)] = &[
    ("invalid-arguments", "The tool cannot work with these arguments, although they fit its schema. Other arguments may do."),
    ("not-found", "What the arguments name does not exist."),
    ("conflict", "As things stand the tool cannot do it. Look again, and ask anew."),
    ("timeout", "No answer in time."),
    ("egress-blocked", "The request may not leave: the operator does not allow the host, or it has a private address."),
    ("not-configured", "The operator has not set the tool up."),
    (
        "quarantined",
        "The other side's tool has changed since it was accepted. Nothing is sent until an operator accepts the change.",
    ),
    (
        "busy",
        "As many calls of the server are under way as there may be. Nothing was sent. Try again a little later, under another key.",
    ),
    (
        "contract-changed",
        "The tool's contract has changed since the call was accepted. Nothing was sent. Look at the contract, and ask again under another key.",
    ),
    ("reported", "The other side's tool says itself that it failed. The words are its own."),
    ("upstream", "The other side failed, or answered what nobody can use."),
    (
        "circuit-open",
        "The other side has failed too often lately, so it was not asked. Try again a little later, under another key.",
    ),
    ("outcome-unknown", "The call may have had its effect or not, and is not repeated. Find out at the other side."),
    ("unavailable", "A part of toolgate is away. Try again later, under another key."),
    ("attempts-exhausted", "Every attempt was used up, and the last one left no outcome. It may have had its effect."),
    ("result-too-large", "The result is too large to record. Ask for less."),
    ("invalid-answer", "The tool's answer breaks its contract, or cannot be recorded."),
    ("internal", "The tool failed by its own fault. The operator's log says more."),
    ("content-erased", "What the call was about was erased before it was run. Nothing was sent."),
    ("unknown-tool", "The workers of this release do not have the tool."),
];

/// The rows of a table.
pub(super) fn table() -> String {
    ENDINGS.iter().map(|(kind, means)| format!("| `urn:toolgate:tool:{kind}` | {means} |\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// The types as the workers' source spells them: whole, or as the first argument of `problem`.
    fn spelt(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                spelt(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for opening in ["\"urn:toolgate:tool:", "problem(\""] {
                found.extend(text.split(opening).skip(1).filter_map(|rest| {
                    let kind = rest.split('"').next()?;
                    kind.chars().all(|c| c.is_ascii_lowercase() || c == '-').then(|| kind.to_owned())
                }));
            }
        }
    }

    #[test]
    fn every_type_that_the_workers_record_is_explained() {
        let mut recorded = BTreeSet::new();
        spelt(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../workers/src"), &mut recorded);
        assert!(recorded.contains("timeout"), "{recorded:?}");
        let unexplained: Vec<_> = recorded.iter().filter(|kind| !ENDINGS.iter().any(|(known, _)| known == kind)).collect();
        assert!(unexplained.is_empty(), "say in ENDINGS what {unexplained:?} mean to a caller");
    }
}
