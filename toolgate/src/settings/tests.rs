use secrecy::ExposeSecret;

use super::*;
use crate::services::MAX_PAYLOAD_BYTES;

fn load(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str) -> Result<Settings, Error> {
    let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Settings::from_sources(Profile::Server, flags, environment, file)
}

fn refusal(environment: &[(&str, &str)], file: &str) -> String {
    load(&[], environment, file).unwrap_err().to_string()
}

#[test]
fn nothing_given_means_the_defaults() {
    let settings = load(&[], &[], "").unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.partitions, 16);
    assert_eq!(settings.body_limit_bytes, 262_144);
    assert_eq!(settings.rate_limit_per_minute, 6_000);
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(settings.durable && settings.lanes.is_empty() && settings.database_url.is_none());
    let up = Settings::from_sources(Profile::Up, vec![], HashMap::new(), "").unwrap();
    assert_eq!(up.rate_limit_per_minute, 600_000);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "partitions = 2\nissuer = \"file\"\naudience = \"file\"\ndurable = false\nlanes = [\"render\"]";
    let environment = [
        ("TOOLGATE_ISSUER", "environment"),
        ("TOOLGATE_AUDIENCE", "007"),
        ("TOOLGATE_LANES", "search, render"),
        ("TOOLGATE_LOG_FORMAT", "json"),
    ];
    let settings = load(&[("issuer", "flag")], &environment, file).unwrap();
    assert_eq!((settings.issuer.as_str(), settings.audience.as_str()), ("flag", "007"));
    assert_eq!((settings.partitions, settings.durable), (2, false));
    assert_eq!(settings.lanes, ["search", "render"]);
    assert_eq!(settings.log_format, LogFormat::Json);
}

#[test]
fn limits_of_tools_are_a_table_or_a_text_and_name_tools() {
    let file = "[tool_rate_limits]\n\"task.create\" = 60\n";
    assert_eq!(load(&[], &[], file).unwrap().tool_rate_limits, BTreeMap::from([("task.create".to_owned(), 60)]));
    let environment = [("TOOLGATE_TOOL_RATE_LIMITS", "task.create=60, document.render=1")];
    let limits = load(&[], &environment, "").unwrap().tool_rate_limits;
    assert_eq!(limits, BTreeMap::from([("task.create".to_owned(), 60), ("document.render".to_owned(), 1)]));
    for wrong in ["task.create", "task.create=x", "no.such=1", "task.create=0"] {
        let refused = refusal(&[("TOOLGATE_TOOL_RATE_LIMITS", wrong)], "");
        assert!(refused.contains("tool_rate_limits"), "{wrong}: {refused}");
    }
}

#[test]
fn urls_have_their_customary_names_and_stay_secret() {
    let environment = [("DATABASE_URL", "postgres://u:hunter2@h/d"), ("NATS_URL", "")];
    let settings = load(&[], &environment, "").unwrap();
    let url = settings.database_url.as_ref().unwrap();
    assert_eq!(url.expose_secret(), "postgres://u:hunter2@h/d");
    assert!(settings.nats_url.is_none());
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn unknown_names_are_named() {
    assert!(refusal(&[], "partition = 3").contains("`partition` is not a setting; did you mean `partitions`?"));
    assert!(refusal(&[], "durable = true\nissuer = \"x").starts_with("toolgate.toml, line 2: "));
    assert!(refusal(&[], "[server]\nport = 1").contains("`server`"));
    let variable = refusal(&[("TOOLGATE_LANE_CONCURENCY", "3")], "");
    assert!(variable.contains("TOOLGATE_LANE_CONCURENCY is not"), "{variable}");
    assert!(variable.contains("`TOOLGATE_LANE_CONCURRENCY`"), "{variable}");
    let url = refusal(&[("TOOLGATE_DATABASE_URL", "x")], "");
    assert!(url.contains("did you mean `DATABASE_URL`?"), "{url}");
    load(&[], &[("TOOLGATE_URL", "http://x"), ("TOOLGATE_TEST_INFRA", "containers")], "").unwrap();
}

#[test]
fn impossible_values_are_named() {
    let cases = [
        ("TOOLGATE_BODY_LIMIT_BYTES", "1023"),
        ("TOOLGATE_BODY_LIMIT_BYTES", "786433"),
        ("TOOLGATE_BODY_LIMIT_BYTES", "big"),
        ("TOOLGATE_BODY_LIMIT_BYTES", "-1"),
        ("TOOLGATE_PARTITIONS", "0"),
        ("TOOLGATE_PARTITIONS", "65"),
        ("TOOLGATE_PARTITIONS", "70000"),
        ("TOOLGATE_PROJECTOR_BATCH", "1001"),
        ("TOOLGATE_LANE_CONCURRENCY", "0"),
        ("TOOLGATE_LANE_CONCURRENCY_BY_LANE", "render=0"),
        ("TOOLGATE_LANE_CONCURRENCY_BY_LANE", "render=10001"),
        ("TOOLGATE_LANE_CONCURRENCY_BY_LANE", "no-lane=2"),
        ("TOOLGATE_RESULT_CACHE_BYTES", "-1"),
        ("TOOLGATE_RESULT_CACHE_BYTES", "68719476737"),
        ("TOOLGATE_CIRCUIT_OPEN_MS", "99"),
        ("TOOLGATE_CIRCUIT_OPEN_MS", "600001"),
        ("TOOLGATE_LISTEN", "nowhere"),
        ("TOOLGATE_DURABLE", "perhaps"),
        ("TOOLGATE_LOG_FORMAT", "xml"),
        ("TOOLGATE_JWKS_URL", "ftp://x"),
        ("TOOLGATE_LANES", "a.b"),
        ("TOOLGATE_RATE_LIMIT_PER_MINUTE", "0"),
        ("TOOLGATE_BASEHUB_URL", "https://no-token.example"),
        ("TOOLGATE_BASEHUB_WEBHOOK_SECRET", "123456789012345"),
        ("TOOLGATE_BASEHUB_WEBHOOK_SECRET", "bshb_workflow_1:123456789012345"),
        ("TOOLGATE_VECTOR_MAX_COMPONENTS", "0"),
        ("TOOLGATE_VECTOR_MAX_COMPONENTS", "1000000001"),
        ("TOOLGATE_EGRESS_ALLOW", "ok.example,*"),
        ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "10.0.0.0/8,10.0.0.1"),
    ];
    for (variable, value) in cases {
        let message = refusal(&[(variable, value)], "");
        let key = variable.trim_start_matches(PREFIX).to_lowercase();
        assert!(message.contains(&key), "{variable}={value}: {message}");
    }
    assert!(refusal(&[], "basehub_url = \"ftp://b\"\nbasehub_token = \"t\"").contains("basehub_url"));
    load(&[], &[("TOOLGATE_BASEHUB_WEBHOOK_SECRET", "1234567890123456")], "basehub_url = \"https://b\"\nbasehub_token = \"t\"")
        .unwrap();
    assert!(refusal(&[], "jwks_file = \"a\"\njwks_url = \"https://b\"").contains("jwks_url"));
}

#[test]
fn a_webhook_has_a_url_a_secret_that_is_one_and_a_pause_in_bounds() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let given = |secret: &str, pause: &str| {
        let (url, pause) = (("TOOLGATE_TASK_WEBHOOK_URL", "https://h/"), ("TOOLGATE_TASK_WEBHOOK_FIRST_PAUSE_MS", pause));
        load(&[], &[url, ("TOOLGATE_TASK_WEBHOOK_SECRET", secret), pause], "").map_err(|error| error.to_string())
    };
    let settings = given(secret, "10").unwrap();
    assert!(settings.task_webhook_url.is_some() && !format!("{settings:?}").contains("MfKQ9"));
    for (pause, fits) in [("9", false), ("10", true), ("11", true), ("3599999", true), ("3600000", true), ("3600001", false)] {
        assert_eq!(given(secret, pause).is_ok(), fits, "{pause}");
    }
    for wrong in ["hunter2hunter2", "whsec_c2hvcnQ="] {
        let refused = given(wrong, "10").unwrap_err();
        assert!(refused.contains("`task_webhook_secret`") && !refused.contains(wrong), "{refused}");
    }
    for alone in [("TOOLGATE_TASK_WEBHOOK_URL", "https://h/"), ("TOOLGATE_TASK_WEBHOOK_SECRET", secret)] {
        assert!(refusal(&[alone], "").contains("`task_webhook_secret`"));
    }
}

#[test]
fn the_limits_themselves_are_possible() {
    for (variable, value) in [
        ("TOOLGATE_LANE_CONCURRENCY_BY_LANE", "render=1,http=10000"),
        ("TOOLGATE_RESULT_CACHE_BYTES", "0"),
        ("TOOLGATE_RESULT_CACHE_BYTES", "68719476736"),
        ("TOOLGATE_CIRCUIT_OPEN_MS", "100"),
        ("TOOLGATE_CIRCUIT_OPEN_MS", "600000"),
    ] {
        load(&[], &[(variable, value)], "").unwrap();
    }
}

#[test]
fn the_largest_body_fits_a_message() {
    let most = 640 * 1024;
    for (bytes, fits) in [(most - 1, true), (most, true), (most + 1, false)] {
        assert_eq!(load(&[], &[("TOOLGATE_BODY_LIMIT_BYTES", &bytes.to_string())], "").is_ok(), fits, "{bytes}");
    }
    // Sealed, content is four thirds as long. An eighth of the message is for the rest of the event.
    assert!(most * 4 / 3 < MAX_PAYLOAD_BYTES - MAX_PAYLOAD_BYTES / 8);
}

#[test]
fn mcp_servers_are_a_table_or_json() {
    let file = r#"
        [mcp.files]
        command = "npx"
        args = ["-y", "@example/files", "/data"]
        env = { API_TOKEN = "hunter2-hunter2" }
        plain_env = { NODE_ENV = "production" }
        tools = ["read_*"]

        [mcp.remote-1]
        url = "https://mcp.example.com/mcp"
        headers = { Authorization = "Bearer hunter2-hunter2" }
        timeout_ms = 100
    "#;
    let settings = load(&[], &[], file).unwrap();
    let (files, remote) = (&settings.mcp["files"], &settings.mcp["remote-1"]);
    assert_eq!(files.args, ["-y", "@example/files", "/data"]);
    // Names of variables are told apart by their case.
    assert_eq!(files.env["API_TOKEN"].expose_secret(), "hunter2-hunter2");
    assert_eq!((files.timeout_ms(), remote.timeout_ms()), (30_000, 100));
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!((settings.mcp_pin_first, settings.mcp_refresh_seconds), (true, 60));
    let json = r#"{"a": {"command": "x", "env": {"API_TOKEN": "t"}}}"#;
    let settings = load(&[], &[("TOOLGATE_MCP", json)], "").unwrap();
    assert!(settings.mcp["a"].env.contains_key("API_TOKEN"));
}

#[test]
fn mcp_servers_that_cannot_be_meant_are_refused_by_name() {
    for (json, named) in [
        ("{", "mcp: not JSON"),
        ("[]", "mcp: must be a table"),
        (r#"{"a": {"command": "x", "colour": 1}}"#, "mcp.a: unknown field `colour`"),
        (r#"{"a": {}}"#, "either a url or a command"),
        (r#"{"a": {"url": "https://h/", "command": "x"}}"#, "either a url or a command"),
        (r#"{"a": {"command": ""}}"#, "command is empty"),
        (r#"{"A": {"command": "x"}}"#, "\"A\""),
        (r#"{"a.b": {"command": "x"}}"#, "\"a.b\""),
        (r#"{"a": {"url": "ftp://h/"}}"#, "not http(s)"),
        (r#"{"a": {"url": "https://u:hunter2@h/"}}"#, "has credentials"),
        (r#"{"a": {"url": "https://h/", "env": {"X": "y"}}}"#, "no args, env"),
        (r#"{"a": {"command": "x", "headers": {"X": "y"}}}"#, "no headers"),
        (r#"{"a": {"url": "https://h/", "headers": {"x y": "z"}}}"#, "RFC 9110"),
        (r#"{"a": {"url": "https://h/", "headers": {"x": "a\nb"}}}"#, "RFC 9110"),
        (r#"{"a": {"url": "https://h/", "headers": {"Mcp-Session-Id": "1"}}}"#, "the protocol's own"),
        (r#"{"a": {"command": "x", "env": {"A=B": "y"}}}"#, "a variable"),
        (r#"{"a": {"command": "x", "timeout_ms": 99}}"#, "timeout_ms"),
        (r#"{"a": {"command": "x", "timeout_ms": 300001}}"#, "timeout_ms"),
    ] {
        let refused = refusal(&[("TOOLGATE_MCP", json)], "");
        assert!(refused.contains(named) && !refused.contains("hunter2"), "{json}: {refused}");
    }
    let servers = |count: usize| {
        let server = |number: usize| format!("\"s{number}\": {{\"command\": \"x\", \"timeout_ms\": 300000}}");
        load(&[], &[("TOOLGATE_MCP", &format!("{{{}}}", (0..count).map(server).collect::<Vec<_>>().join(",")))], "")
    };
    assert!(servers(31).is_ok() && servers(32).is_ok());
    assert!(servers(33).unwrap_err().to_string().contains("32 are the most"));
    for (seconds, fits) in [("0", false), ("1", true), ("86400", true), ("86401", false)] {
        assert_eq!(load(&[], &[("TOOLGATE_MCP_REFRESH_SECONDS", seconds)], "").is_ok(), fits, "{seconds}");
    }
}
