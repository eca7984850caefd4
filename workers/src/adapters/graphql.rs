//! What may be asked of a GraphQL server.

use apollo_parser::{Parser, cst::Definition};

/// Tokens of a document at the most.
const MAX_TOKENS: usize = 1_000;
/// Levels of selections, and of lists and objects in arguments, within each other at the most.
const MAX_DEPTH: usize = 20;

/// Checks that a document only reads: queries and fragments, and nothing else.
///
/// # Errors
/// Why it is refused, for the caller.
pub fn check(document: &str) -> Result<(), String> {
    let tree = Parser::new(document).token_limit(MAX_TOKENS).recursion_limit(MAX_DEPTH).parse();
    if let Some(error) = tree.errors().next() {
        let reason = if error.is_limit() {
            format!("it has more than {MAX_TOKENS} tokens or {MAX_DEPTH} levels")
        } else {
            format!("it is no GraphQL at byte {}", error.index())
        };
        return Err(format!("the query cannot be sent: {reason}"));
    }
    let mut queries = 0;
    for definition in tree.document().definitions() {
        match definition {
            Definition::FragmentDefinition(_) => {}
            // Without a keyword it is a query (GraphQL, section 2.3).
            Definition::OperationDefinition(operation)
                if operation.operation_type().is_none_or(|kind| kind.query_token().is_some()) =>
            {
                queries += 1;
            }
            Definition::OperationDefinition(_) => return Err("mutations and subscriptions are not sent".to_owned()),
            _ => return Err("a schema is nothing to ask for".to_owned()),
        }
    }
    if queries == 0 { Err("there is no query in it".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_is_sent() {
        for good in [
            "{ a }",
            "query { a }",
            "query Q($x: [Int!]! = [1]) @d { a(x: $x, o: {mutation: \"mutation\"}) { ...F } } fragment F on T { b }",
            "query A { a } query B { b }",
            "# mutation { x }\n{ mutation subscription }",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("mutation { a }", "mutations"),
            ("subscription { a }", "mutations"),
            ("query A { a } mutation B { b }", "mutations"),
            ("{ a } subscription S { b }", "mutations"),
            ("fragment F on T { b }", "no query"),
            ("", "cannot be sent"),
            ("{ a", "cannot be sent"),
            ("{ a } type T { a: Int }", "schema"),
            ("{ a(x: \"\"\"}) }", "cannot be sent"),
            ("mutatio\u{6e}\u{feff} { a }", "mutations"),
        ] {
            assert!(check(bad).unwrap_err().contains(words), "{bad}: {:?}", check(bad));
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels: usize| "{ a".repeat(levels) + &" }".repeat(levels);
        let argument = |levels: usize| format!("{{ a(x: {}1{}) }}", "[".repeat(levels), "]".repeat(levels));
        let wide = |tokens: usize| format!("{{ {} }}", "a ".repeat(tokens - 2));
        assert_eq!(check(&nested(MAX_DEPTH - 1)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert!(check(&nested(MAX_DEPTH + 1)).unwrap_err().contains("levels"));
        assert!(check(&argument(100_000)).unwrap_err().contains("levels"));
        assert_eq!(check(&wide(100)), Ok(()));
        assert!(check(&wide(100_000)).unwrap_err().contains("tokens"));
    }
}
