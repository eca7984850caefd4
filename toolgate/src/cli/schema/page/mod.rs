//! One page of documentation for every tool, made from its contract.

mod endings;
mod table;

use serde_json::{Value, json};
use toolgate_events::tools::{Cache, Contract, SideEffects};

/// Every page with its text: one a tool, and the list of them.
pub(super) fn all(contracts: &[Contract]) -> Vec<(String, String)> {
    let pages = contracts.iter().map(|contract| (format!("{}.md", contract.name), page(contract)));
    pages.chain([("README.md".to_owned(), index(contracts))]).collect()
}

const GENERATED: &str = "<!-- Written by `cargo run -- schema` from the contracts in events/src/tools/. -->\n";

fn index(contracts: &[Contract]) -> String {
    let mut sorted: Vec<_> = contracts.iter().collect();
    sorted.sort_unstable_by_key(|contract| contract.name);
    let rows = sorted.into_iter().map(|contract| {
        let name = contract.name;
        let effects = match contract.side_effects {
            SideEffects::ReadOnly => "reads",
            SideEffects::Idempotent => "writes, the same however often",
            SideEffects::Effectful => "acts, every time anew",
        };
        format!("| [`{name}`]({name}.md) | {} | {effects} |\n", table::cell(contract.description))
    });
    format!(
        "{GENERATED}
# Tools

Every tool is called in the same way, and each page here says what is its own: what it takes, what it answers, what running it may
cost. `GET /v1/tools` answers with the same for the tools that a token may invoke, those of MCP servers among them.

| tool | does | |
|---|---|---|
{}
## Calling one

```sh
{}```

- `Prefer: wait=10` waits up to ten seconds for the outcome. Without it, or when the time is up, the answer is 202 and `Location` says
  where the call is.
- The `Idempotency-Key` names the call: sent again with the same body, it is the same call and has the same answer. Tools that write or
  act do not run without one.
- Arguments that do not fit are refused with 400, and each error says where: `{{\"pointer\": \"/arguments/title\", \"detail\": …}}`. Such
  a call never existed.

## How a call can end

An outcome is 200 with `\"status\": \"succeeded\"` and the `result`, or `\"status\": \"failed\"` and an `error` of one of these types:

| type | means |
|---|---|
{}
A call that was cancelled has `\"status\": \"cancelled\"`. What is refused before it becomes a call (400, 401, 403, 404, 413, 422, 429, 503)
is in [`schemas/openapi.json`](../../schemas/openapi.json).
",
        rows.collect::<String>(),
        curl("task.create", &json!({"title": "Read this page"}), true),
        endings::table(),
    )
}

fn page(contract: &Contract) -> String {
    let name = contract.name;
    let mut out = format!("{GENERATED}\n# {name}\n\n{}\n\n", contract.description);
    out.push_str("| | |\n|---|---|\n");
    for (what, says) in [
        ("Permission", format!("`{}`", contract.permission)),
        ("Side effects", side_effects(contract.side_effects).to_owned()),
        ("Time", format!("{} for one attempt; `options.timeout_ms` may ask for less", duration(contract.timeout_ms))),
        ("Attempts", attempts(contract)),
        ("Earlier results", contract.cache.map_or_else(|| "Never used: every call is run.".to_owned(), cache)),
        ("Language", language(contract).to_owned()),
        ("Lane", format!("`{}`, whose workers it shares with the other tools of the lane", contract.lane)),
        ("Contract", format!("version {}, [JSON Schema](../../schemas/tools/{name}.json)", contract.version)),
    ] {
        out.push_str(&format!("| **{what}** | {says} |\n"));
    }
    if let Some((first, others)) = contract.examples.split_first() {
        out.push_str(&format!("\n## Example\n\n```sh\n{}```\n", curl(name, first, contract.needs_idempotency_key())));
        for example in others {
            out.push_str(&format!("\nAnother body for the same request:\n\n```json\n{}\n```\n", body(name, example)));
        }
    }
    out.push_str(&format!("\n## Arguments\n\n{}", table::of(&contract.input_schema, table::Side::Input)));
    out.push_str(&format!("\n## Result\n\n{}", table::of(&contract.output_schema, table::Side::Output)));
    out.push_str(
        "\n## When it fails\n\nArguments that do not fit are 400 and never become a call. The types of `error` that an outcome can have \
         are in [the list for all tools](README.md#how-a-call-can-end).\n",
    );
    out
}

/// The request's body, on one line where that can be read.
fn body(tool: &str, arguments: &Value) -> String {
    let on_one_line = one_line(arguments);
    let arguments = if on_one_line.len() <= MAX_LINE { on_one_line } else { format!("{arguments:#}") };
    format!("{{\"tool\": \"{tool}\", \"arguments\": {arguments}}}")
}

/// Characters that a reader takes in at once.
const MAX_LINE: usize = 90;

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{}: {}", json!(name), one_line(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

fn curl(tool: &str, arguments: &Value, needs_key: bool) -> String {
    let key = if needs_key { " -H \"Idempotency-Key: a-key-of-your-own\"" } else { "" };
    // The shell's way of writing an apostrophe between apostrophes.
    let body = body(tool, arguments).replace('\'', "'\\''");
    format!(
        "curl -s localhost:8080/v1/tool-calls -H \"Authorization: Bearer $TOKEN\" -H \"Content-Type: application/json\" \\\n  \
         -H \"Prefer: wait=10\"{key} \\\n  -d '{body}'\n"
    )
}

fn side_effects(effects: SideEffects) -> &'static str {
    match effects {
        SideEffects::ReadOnly => "None. It needs no `Idempotency-Key` and may be sent any number of times.",
        SideEffects::Idempotent => "Running it again leaves the same as running it once. It needs an `Idempotency-Key`.",
        SideEffects::Effectful => {
            "Every run is another effect, so a worker claims the call in the log before it runs. It needs an `Idempotency-Key`."
        }
    }
}

fn attempts(contract: &Contract) -> String {
    let retry = contract.retry;
    match retry.max_attempts {
        1 => "One.".to_owned(),
        most => format!(
            "Up to {most}. The pause before the next is random, up to {} at first and {} at the last.",
            duration(retry.first_pause_ms),
            duration(retry.last_pause_ms)
        ),
    }
}

fn cache(cache: Cache) -> String {
    let Cache { default_freshness_seconds, max_freshness_seconds, stale_seconds } = cache;
    let mut says = match default_freshness_seconds {
        0 => "Used only for callers who allow it with `options.freshness_seconds`".to_owned(),
        default => format!("Used when it is at most {} old, or as old as `options.freshness_seconds` allows", seconds(default)),
    };
    says.push_str(&format!(", and never when it is older than {}.", seconds(max_freshness_seconds)));
    if stale_seconds > 0 {
        says.push_str(&format!(
            " While the other side is down, one of up to {} serves, marked as stale.",
            seconds(stale_seconds)
        ));
    }
    says
}

fn language(contract: &Contract) -> &'static str {
    if contract.localized { "`options.locale` chooses it (BCP 47)." } else { "`options.locale` makes no difference." }
}

fn duration(milliseconds: u32) -> String {
    match milliseconds {
        ms if ms % 1_000 != 0 => format!("{ms} ms"),
        ms => seconds(ms / 1_000),
    }
}

fn seconds(seconds: u32) -> String {
    let (number, unit) = match seconds {
        s if s > 0 && s % 86_400 == 0 => (s / 86_400, "day"),
        s if s > 0 && s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s > 0 && s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use toolgate_events::tools;

    use super::*;

    #[test]
    fn every_tool_has_a_page_and_a_line_in_the_list() {
        let pages = all(tools::all());
        assert_eq!(pages.len(), tools::all().len() + 1);
        let (_, index) = pages.last().unwrap();
        for contract in tools::all() {
            assert!(index.contains(&format!("[`{0}`]({0}.md)", contract.name)), "{}", contract.name);
        }
    }

    #[test]
    fn a_page_says_what_the_contract_says() {
        let contract = Contract {
            description: "Does it's work.",
            side_effects: SideEffects::Effectful,
            timeout_ms: 1_500,
            cache: Some(Cache { default_freshness_seconds: 60, max_freshness_seconds: 7_200, stale_seconds: 86_400 }),
            examples: vec![json!({"title": "it's"}), json!({"title": "two"})],
            version: 3,
            ..tools::find("task.create").unwrap().clone()
        };
        let page = page(&contract);
        for part in [
            "# task.create\n\nDoes it's work.\n",
            "`tool.task.create:invoke`",
            "claims the call in the log",
            "1500 ms for one attempt",
            "at most 1 minute old",
            "older than 2 hours",
            "up to 1 day serves, marked as stale",
            "version 3",
            "Idempotency-Key: a-key-of-your-own",
            "it'\\''s",
            "\"title\": \"two\"",
            "| `title` | string | yes | 1 to 500 characters, ",
        ] {
            assert!(page.contains(part), "{part:?} is not in {page}");
        }
    }

    #[test]
    fn times_are_told_in_the_largest_whole_unit() {
        for (milliseconds, says) in [
            (0, "0 seconds"),
            (999, "999 ms"),
            (1_000, "1 second"),
            (90_000, "90 seconds"),
            (120_000, "2 minutes"),
            (3_600_000, "1 hour"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(duration(milliseconds), says);
        }
    }
}
