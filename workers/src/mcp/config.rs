use std::fmt;

use http::HeaderMap;
use secrecy::SecretString;
use toolgate_events::{mcp::Rules, tools::SideEffects};
use toolgate_security::Egress;

/// An upstream server as the operator configured it.
#[derive(Clone, Debug)]
pub struct McpServer {
    pub name: String,
    pub transport: McpTransport,
    /// Which tools are taken, by the server's own names; every one when empty.
    pub tools: Vec<Pattern>,
    /// Which of them the operator knows to change nothing.
    pub read_only: Vec<Pattern>,
    /// Which of them the operator knows to have the same effect however often they run.
    pub idempotent: Vec<Pattern>,
    /// How long one call may take, in milliseconds.
    pub timeout_ms: u32,
}

/// How to reach a server.
#[derive(Clone)]
pub enum McpTransport {
    /// Over streamable HTTP, through an egress that leads to this server alone.
    Http { url: String, headers: HeaderMap, egress: Egress },
    /// As a child of the worker, over its standard input and output.
    Stdio { command: String, args: Vec<String>, env: Vec<(String, SecretString)> },
}

/// A name in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

impl McpServer {
    /// What the operator says of one of its tools.
    pub(super) fn rules(&self, tool: &str) -> Rules {
        let is_in = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(tool));
        let side_effects = if is_in(&self.read_only) {
            SideEffects::ReadOnly
        } else if is_in(&self.idempotent) {
            SideEffects::Idempotent
        } else {
            SideEffects::Effectful
        };
        Rules { side_effects, timeout_ms: self.timeout_ms }
    }

    pub(super) fn takes(&self, tool: &str) -> bool {
        self.tools.is_empty() || self.tools.iter().any(|pattern| pattern.matches(tool))
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Debug for McpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { .. } => f.write_str("Http"),
            Self::Stdio { command, .. } => f.debug_struct("Stdio").field("command", command).finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let matches = |pattern: &str, name: &str| Pattern(pattern.to_owned()).matches(name);
        for (pattern, name) in
            [("*", "a"), ("get_*", "get_"), ("*_x", "a_x"), ("a*b*c", "abbc"), ("a*b*c", "axbybzc"), ("a", "a")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("get_*", "set_x"), ("a", "ab"), ("a*a", "a"), ("a*b*c", "acb"), ("", "a"), ("*x", "xa")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn only_the_operator_says_what_a_tool_does() {
        let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| Pattern((*pattern).to_owned())).collect();
        let server = McpServer {
            name: "s".to_owned(),
            transport: McpTransport::Stdio { command: String::new(), args: Vec::new(), env: Vec::new() },
            tools: patterns(&["get_*", "set_*"]),
            read_only: patterns(&["get_*"]),
            idempotent: patterns(&["set_*"]),
            timeout_ms: 5,
        };
        let of = |tool: &str| server.rules(tool).side_effects;
        assert_eq!((of("get_a"), of("set_a"), of("x")), (SideEffects::ReadOnly, SideEffects::Idempotent, SideEffects::Effectful));
        assert!(server.takes("get_a") && !server.takes("x"));
    }
}
