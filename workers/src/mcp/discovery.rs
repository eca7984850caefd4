//! From what a server lists to what is known of its tools.

use std::{collections::BTreeMap, sync::Arc};

use futures::{TryStreamExt, stream};
use rmcp::model::Tool;
use serde_json::Value;
use toolgate_events::{
    json_schema,
    mcp::{Definition, MAX_TOOLS, Sighting, ToolName},
};
use toolgate_store::{Clock, DefinitionsError, Discovered};

use super::McpServer;

/// Entries that are put down at once.
const AT_ONCE: usize = 16;

/// What all servers' discoveries share.
#[derive(Debug)]
pub struct Discovery {
    pub discovered: Discovered,
    pub clock: Clock,
    /// Whether a tool that nobody has seen before is pinned as it is.
    pub trust_first: bool,
}

/// The tools of a server that can become contracts.
#[derive(Debug, Default)]
pub struct Usable {
    pub tools: BTreeMap<ToolName, Definition>,
    /// How many are left out, and why, for the log.
    pub left_out: BTreeMap<String, usize>,
}

impl Discovery {
    /// Puts down what has changed in what `server` says, and tells how many tools there was no room for.
    ///
    /// # Errors
    /// [`DefinitionsError`]; what could not be put down is put down the next time.
    pub async fn put_down(&self, server: &McpServer, usable: &Usable) -> Result<usize, DefinitionsError> {
        self.discovered.refresh().await?;
        let known = self.discovered.sightings(&server.name).await;
        let mut room = MAX_TOOLS.saturating_sub(known.len());
        let mut without_room = 0;
        let mut changes = Vec::new();
        for (name, definition) in &usable.tools {
            if !known.contains_key(name) {
                if room == 0 {
                    without_room += 1;
                    continue;
                }
                room -= 1;
            }
            changes.push((name, known.get(name), Some(definition)));
        }
        changes.extend(
            known.iter().filter(|(name, _)| !usable.tools.contains_key(name)).map(|(name, seen)| (name, Some(seen), None)),
        );
        stream::iter(changes.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |(name, known, live)| self.see(server, name, known, live))
            .await?;
        Ok(without_room)
    }

    async fn see(
        &self,
        server: &McpServer,
        name: &ToolName,
        known: Option<&Sighting>,
        live: Option<&Definition>,
    ) -> Result<(), DefinitionsError> {
        let spelled = live.map_or(name.tool.as_str(), |definition| definition.name.as_str());
        let rules = server.rules(spelled);
        let now = self.clock.now();
        let after = |before: Option<Sighting>| Sighting::after(before, live.cloned(), rules, self.trust_first, now);
        if known.is_some_and(|known| after(Some(known.clone())) == *known) {
            return Ok(());
        }
        self.discovered.definitions().see(name, after).await
    }
}

impl Usable {
    /// Which of the tools that a server lists can become contracts. What is left out is counted by its reason.
    pub fn of(server: &McpServer, tools: Vec<Tool>) -> Self {
        let mut usable = Self::default();
        let mut named: BTreeMap<ToolName, Vec<Tool>> = BTreeMap::new();
        for tool in tools.into_iter().filter(|tool| server.takes(&tool.name)) {
            match ToolName::new(&server.name, &tool.name) {
                Some(name) => named.entry(name).or_default().push(tool),
                None => usable.leave_out("its name cannot be a tool's"),
            }
        }
        for (name, mut same) in named {
            let Some(tool) = same.pop().filter(|_| same.is_empty()) else {
                // Nobody could tell which of them is called.
                (0..=same.len()).for_each(|_| usable.leave_out("another tool has the same name"));
                continue;
            };
            if usable.tools.len() == MAX_TOOLS {
                usable.leave_out("there are too many");
                continue;
            }
            let definition = definition(tool);
            match definition.check() {
                Ok(()) if definition.schemas().iter().all(|schema| json_schema::compile(schema).is_some()) => {
                    drop(usable.tools.insert(name, definition))
                }
                Ok(()) => usable.leave_out("a schema is no JSON Schema 2020-12"),
                Err(error) => usable.leave_out(&error.to_string()),
            }
        }
        usable
    }

    fn leave_out(&mut self, reason: &str) {
        *self.left_out.entry(reason.to_owned()).or_default() += 1;
    }
}

fn definition(tool: Tool) -> Definition {
    let object = |schema: Arc<serde_json::Map<String, Value>>| Value::Object(Arc::unwrap_or_clone(schema));
    Definition {
        name: tool.name.into_owned(),
        title: tool.title,
        description: tool.description.map(Into::into),
        input_schema: object(tool.input_schema),
        output_schema: tool.output_schema.map(object),
        annotations: tool.annotations.and_then(|annotations| serde_json::to_value(annotations).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::McpTransport;

    fn usable(tools: Value) -> (Vec<String>, usize) {
        let transport = McpTransport::Stdio { command: String::new(), args: Vec::new(), env: Vec::new() };
        let (tools_taken, read_only, idempotent) = (Vec::new(), Vec::new(), Vec::new());
        let server = McpServer { name: "s".to_owned(), transport, tools: tools_taken, read_only, idempotent, timeout_ms: 1 };
        let usable = Usable::of(&server, serde_json::from_value(tools).unwrap());
        (usable.tools.keys().map(ToString::to_string).collect(), usable.left_out.values().sum())
    }

    fn tool(name: &str, input_schema: Value) -> Value {
        json!({"name": name, "inputSchema": input_schema})
    }

    #[test]
    fn names_that_do_not_fit_or_collide_are_left_out() {
        let names = ["ok", "a.b", "*", "x\r\ny", "\u{430}", "Same", "same", "SAME", "also-ok"];
        let tools = names.map(|name| tool(name, json!({"type": "object"})));
        let (taken, left_out) = usable(json!(tools));
        assert_eq!((taken, left_out), (vec!["mcp.s.also-ok".to_owned(), "mcp.s.ok".to_owned()], 7));
    }

    #[test]
    fn schemas_that_cannot_be_checked_by_are_left_out() {
        for schema in [
            json!({"type": "no-such-type"}),
            json!({"properties": {"a": {"pattern": "("}}}),
            json!({"properties": {"a": {"pattern": "(?=x)(a+)+$"}}}),
            json!({"properties": {"a": {"pattern": "((((a{100}){100}){100}){100})"}}}),
            json!({"items": [{"type": "string"}]}),
            json!({"$ref": "#"}),
            json!({"$ref": "https://evil.example/"}),
        ] {
            assert_eq!(usable(json!([tool("t", schema.clone())])), (vec![], 1), "{schema}");
        }
    }

    #[test]
    fn of_too_many_so_many_are_taken() {
        for (listed, taken) in
            [(MAX_TOOLS - 1, MAX_TOOLS - 1), (MAX_TOOLS, MAX_TOOLS), (MAX_TOOLS + 1, MAX_TOOLS), (3_000, MAX_TOOLS)]
        {
            let tools: Vec<_> = (0..listed).map(|number| tool(&format!("t{number:04}"), json!({"type": "object"}))).collect();
            let (names, left_out) = usable(json!(tools));
            assert_eq!((names.len(), left_out), (taken, listed - taken));
            assert_eq!(names[0], "mcp.s.t0000");
        }
    }
}
