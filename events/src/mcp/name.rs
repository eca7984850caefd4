use std::fmt;

use serde::{Deserialize, Serialize};

/// What the names of upstream tools begin with.
pub const PREFIX: &str = "mcp.";
const MAX_SERVER_LENGTH: usize = 32;
const MAX_TOOL_LENGTH: usize = 64;

/// A tool of an upstream server as it is known here: `mcp.<server>.<tool>`, all in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ToolName {
    pub server: String,
    pub tool: String,
}

/// Whether `name` may be a server's: 1 to 32 characters of `a-z`, `0-9` and `-`.
pub fn is_server(name: &str) -> bool {
    (1..=MAX_SERVER_LENGTH).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl ToolName {
    /// The name of what `server` calls `tool`, if that is 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `_` and `-`: it becomes a
    /// part of permissions and subjects. Two names that differ in case alone become one.
    pub fn new(server: &str, tool: &str) -> Option<Self> {
        let fits = (1..=MAX_TOOL_LENGTH).contains(&tool.len())
            && tool.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        (fits && is_server(server)).then(|| Self { server: server.to_owned(), tool: tool.to_ascii_lowercase() })
    }

    /// Reads `<server>.<tool>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (server, tool) = text.split_once('.')?;
        Self::new(server, tool).filter(|name| name.tool == tool)
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}", self.server, self.tool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_into_permissions_and_subjects() {
        let name = |tool: &str| ToolName::new("s-1", tool).map(|name| name.to_string());
        assert_eq!(name("getTiny_image-2").as_deref(), Some("mcp.s-1.gettiny_image-2"));
        assert!(name(&"a".repeat(64)).is_some() && name(&"a".repeat(65)).is_none());
        // The last three are a Cyrillic a, a full-width a, and a letter with a space that nobody sees.
        for stranger in ["", "a.b", "*", ">", "a b", "a\r\nb", "a/b", "a:b", "\u{430}bc", "\u{ff41}", "a\u{200b}"] {
            assert_eq!(name(stranger), None, "{stranger:?}");
        }
        for server in ["", "A", "a_b", "a.b", "*", &"s".repeat(33)] {
            assert!(ToolName::new(server, "t").is_none(), "{server:?}");
        }
        assert!(is_server(&"s".repeat(32)));
    }

    #[test]
    fn a_name_reads_back() {
        let name = ToolName::new("s", "T").unwrap();
        assert_eq!(ToolName::parse("s.t"), Some(name));
        assert!(["s", "s.T", "s.t.u", ".t", "s."].iter().all(|text| ToolName::parse(text).is_none()));
    }
}
