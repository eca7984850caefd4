//! `toolgate audit` and `verify.py` as their users call them.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use secrecy::ExposeSecret;
use toolgate::services::DataDir;

use super::judge::{PAGES, checkpoint, key, key_pem, rows};
use crate::app::{PARTITIONS, Stack, Tenant, TestApp, task};

/// Both verifiers, as (exit code, what they say), in a directory of their own and with settings that nothing could be loaded from.
fn verify(directory: &Path, arguments: &[&str]) -> [(i32, String); 2] {
    let script = format!("{PAGES}/verify.py");
    let toolgate = [env!("CARGO_BIN_EXE_toolgate"), "audit", "verify"];
    let python = ["python3", "-B", script.as_str()];
    [&toolgate[..], &python[..]].map(|program| {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(arguments).current_dir(directory);
        command.env("TOOLGATE_NO_SUCH_SETTING", "1").env("DATABASE_URL", "nowhere").env("NATS_URL", "nowhere");
        let input = if arguments[0] == "-" { fs::File::open(directory.join("export")).unwrap().into() } else { Stdio::null() };
        let Output { status, stdout, stderr } = command.stdin(input).output().unwrap();
        (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
    })
}

fn assert_both(directory: &Path, arguments: &[&str], code: i32, words: &str) {
    for (found, said) in verify(directory, arguments) {
        assert!(found == code && said.contains(words), "{arguments:?}: {found}, expected {code} and {words:?}: {said}");
        assert!(said.len() < 1_000 && !said.contains("Traceback") && !said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn files_are_proved_without_settings_database_or_network() {
    let app = TestApp::start().await;
    let client = app.admin();
    for key in ["a", "b"] {
        let call = client.call_and_wait(key, &task()).await.json();
        client.get_projected(&call).await;
    }
    let export = client.get("/v1/audit/export").await.body;
    let rows = rows(&export);
    let tenant = client.tenant.id();
    let head = |position: usize| (position as u64, rows[position - 1].hash.clone());
    let directory = DataDir::temporary().unwrap();
    let path = directory.path();
    let count = rows.len();
    let sign = |position: usize, seed: u8| checkpoint(tenant, &head(position), &key(seed)).to_line();
    let cut = export.split_inclusive(|byte| *byte == b'\n').take(count - 1).collect::<Vec<_>>().concat();
    let part = export.split_inclusive(|byte| *byte == b'\n').skip(1).collect::<Vec<_>>().concat();
    let other = Tenant::new().id();
    let of_other = checkpoint(other, &head(1), &key(1)).to_line();
    for (name, content) in [
        ("export", export.clone()),
        ("cut", cut),
        ("part", part),
        ("empty", Vec::new()),
        ("signed", format!("{}{}", sign(1, 1), sign(count, 1)).into_bytes()),
        ("by-both", format!("{}{}", sign(1, 1), sign(count, 2)).into_bytes()),
        ("of-both", format!("{}{of_other}", sign(count, 1)).into_bytes()),
        ("forged", sign(count, 1).replace("\"partition\":0", "\"partition\":1").into_bytes()),
        ("torn", sign(count, 1).trim_end().into()),
        ("wrong", checkpoint(tenant, &(2, rows[0].hash.clone()), &key(1)).to_line().into_bytes()),
        ("two", format!("{}{}", checkpoint(tenant, &(1, "00".to_owned()), &key(1)).to_line(), sign(1, 1)).into_bytes()),
        ("pub1", key(1).public().to_pem().into_bytes()),
        ("pub2", key(2).public().to_pem().into_bytes()),
        ("pubs", format!("{}{}", key(1).public().to_pem(), key(2).public().to_pem()).into_bytes()),
        ("private", key_pem(1).into_bytes()),
    ] {
        fs::write(path.join(name), content).unwrap();
    }
    let all = format!("rows 1 to {count} are in order");
    let last = format!("line {count}, row {count}: ");
    let (tenant, other) = (tenant.to_string(), other.to_string());
    let check = |arguments: &str, code: i32, words: &str| {
        assert_both(path, &arguments.split(' ').collect::<Vec<_>>(), code, words);
    };
    check("export", 0, &all);
    check("-", 0, &all);
    check(&format!("export --tenant {tenant}"), 0, &all);
    check(&format!("export --tenant {other}"), 1, "line 1, row 1: ");
    check("export --checkpoints signed --public-key pub1", 0, &all);
    check("- --checkpoints signed --public-key pub1", 0, &all);
    check("cut", 0, "are in order");
    check("cut --checkpoints signed --public-key pub1", 1, &last);
    check("empty", 0, "");
    check("empty --checkpoints signed --public-key pub1", 1, "line 1, row 1: ");
    check("part", 1, "line 1, row 1: ");
    check("part --from 2", 0, &format!("rows 2 to {count} are in order"));
    check("part --from 2 --checkpoints signed --public-key pub1", 0, "are in order");
    check("part --from 3", 1, "line 1, row 2: ");
    check("export --from 2", 1, "line 1, row 1: ");
    // Keys that were changed, are foreign or are none.
    check("export --checkpoints by-both --public-key pub1", 1, "line 2");
    check("export --checkpoints by-both --public-key pub1 --public-key pub2", 0, &all);
    check("export --checkpoints by-both --public-key pubs", 0, &all);
    check("export --checkpoints signed --public-key pub2", 1, "line 1");
    check("export --checkpoints signed --public-key private", 2, "private");
    check("export --checkpoints signed --public-key signed", 2, "signed");
    // Checkpoints that were changed, do not fit, or are another tenant's.
    check("export --checkpoints forged --public-key pub1", 1, "line 1");
    check("export --checkpoints torn --public-key pub1", 1, "line 1");
    check("export --checkpoints two --public-key pub1", 1, "line");
    check("export --checkpoints empty --public-key pub1", 1, "of the tenant");
    check("export --checkpoints wrong --public-key pub1", 1, "line 1, row 1: ");
    check("export --checkpoints of-both --public-key pub1", 1, "--tenant");
    check(&format!("export --checkpoints of-both --public-key pub1 --tenant {tenant}"), 0, &all);
    check(&format!("export --checkpoints signed --public-key pub1 --tenant {other}"), 1, "of the tenant");
    // Not understood.
    for arguments in ["nothing", "export --from 0", "export --from x", "export --checkpoints signed", "export --public-key pub1"]
    {
        check(arguments, 2, "");
    }
    check("export --checkpoints nothing --public-key pub1", 2, "nothing");
    check("export --checkpoints signed --public-key nothing", 2, "nothing");
}

/// The program with the logins of a stack, and nothing else.
fn toolgate(stack: &Stack, key: &Path, arguments: &[&str]) -> (i32, String, String) {
    let connections = &stack.connections;
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_toolgate"))
        .args(arguments)
        .env("TOOLGATE_DATA_DIR", &stack.data_dir)
        .env("TOOLGATE_PARTITIONS", PARTITIONS.to_string())
        .env("TOOLGATE_AUDIT_KEY_FILE", key)
        .env("TOOLGATE_AUDIT_CHECKPOINT_DIR", key.with_extension("d"))
        .env("DATABASE_URL_READER", connections.reader.expose_secret())
        .env("DATABASE_URL_PROJECTOR", connections.projector.expose_secret())
        .env("NATS_URL_QUERY_API", connections.nats_roles[&toolgate_store::User::QueryApi].expose_secret())
        .env("NATS_URL_PROJECTOR", connections.nats_roles[&toolgate_store::User::Projector].expose_secret())
        .output()
        .unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn an_operator_exports_signs_and_proves() {
    let app = TestApp::start().await;
    let (client, other) = (app.admin(), app.admin());
    for client in [&client, &other] {
        let call = client.call_and_wait("k", &task()).await.json();
        client.get_projected(&call).await;
    }
    let directory = DataDir::temporary().unwrap();
    let path = directory.path();
    let key_file = path.join("key");
    fs::write(&key_file, key_pem(1)).unwrap();
    fs::write(path.join("pub"), key(1).public().to_pem()).unwrap();
    let tenant = client.tenant.0.to_string();
    let run = |arguments: &[&str]| toolgate(&app.stack, &key_file, arguments);

    let (code, exported, said) = run(&["audit", "export", "--tenant", &tenant]);
    assert_eq!((code, exported.as_bytes()), (0, client.get("/v1/audit/export").await.body.as_slice()), "{said}");
    let (code, rest, _) = run(&["audit", "export", "--tenant", &tenant, "--after", "1"]);
    assert_eq!((code, rest.as_str()), (0, exported.split_once('\n').unwrap().1));
    let (code, none, _) = run(&["audit", "export", "--tenant", &Tenant::new().0.to_string()]);
    assert_eq!((code, none.as_str()), (0, ""));

    let (code, signed, said) = run(&["audit", "checkpoint", "--tenant", &tenant]);
    assert_eq!((code, signed.lines().count()), (0, 1), "{said}");
    let kept = key_file.with_extension("d").join(format!("{tenant}.jsonl"));
    assert_eq!(fs::read_to_string(&kept).unwrap(), signed);
    fs::write(path.join("export"), &exported).unwrap();
    fs::write(path.join("signed"), &signed).unwrap();
    let rows = exported.lines().count();
    let arguments = ["export", "--checkpoints", "signed", "--public-key", "pub"];
    assert_both(path, &arguments, 0, &format!("rows 1 to {rows} are in order"));
    let (code, all, said) = run(&["audit", "checkpoint", "--all"]);
    assert_eq!((code, all.lines().count()), (0, 2), "{said}");
    assert_eq!(fs::read_to_string(&kept).unwrap().lines().count(), 2, "asked for twice, signed twice");

    let (code, none, said) = run(&["audit", "checkpoint", "--tenant", &Tenant::new().0.to_string()]);
    assert!(code == 1 && none.is_empty() && said.contains("has no rows"), "{said}");
    let (code, _, said) = toolgate(&app.stack, &path.join("pub"), &["audit", "checkpoint", "--all"]);
    assert!(code == 1 && said.contains("no Ed25519 private key"), "{said}");
}
