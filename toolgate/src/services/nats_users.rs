//! The users of nats-server as its configuration has them, made from the store's permission table.

use toolgate_store::{Grant, MAX_PARTITIONS, User};

/// The permissions of every role, for any number of partitions, as variables for a configuration that is written by hand:
/// `deploy/nats-permissions.conf`.
pub fn permission_variables() -> String {
    let mut text = String::from(
        "# Written by `cargo run -- schema`. What each role may do on NATS, and nothing else; docs/security/services.md explains it.\n",
    );
    for user in User::ROLES {
        text += &format!("\n{}: {}\n", user.name(), permissions(user, MAX_PARTITIONS));
    }
    text
}

/// The table of `docs/security/services.md`.
pub fn permission_table() -> String {
    let mut text = String::from("| role | may | subject | to |\n|---|---|---|---|\n");
    for user in User::ROLES {
        let Some(permissions) = user.permissions() else { continue };
        let lists = [
            ("publish", permissions.publish),
            ("never publish", permissions.never_publish),
            ("subscribe", permissions.subscribe),
        ];
        for (verb, grants) in lists {
            for Grant { subject, purpose } in grants {
                text += &format!("| `{}` | {verb} | `{subject}` | {purpose} |\n", user.name());
            }
        }
    }
    text
}

/// One entry of a `users` list.
pub(super) fn entry(user: User, name: &str, password: &str, partitions: u16) -> String {
    let permissions = match user {
        User::Operator => String::new(),
        role => format!(", permissions: {}", permissions(role, partitions)),
    };
    format!("{{ user: {name}, password: \"{password}\"{permissions} }}")
}

fn permissions(user: User, partitions: u16) -> String {
    let Some(permissions) = user.permissions() else { return "{}".to_owned() };
    let deny = match permissions.never_publish {
        [] => String::new(),
        grants => format!("\n        deny: {}", list(grants, partitions)),
    };
    format!(
        "{{\n    publish: {{\n        allow: {}{deny}\n    }}\n    subscribe: {{\n        allow: {}\n    }}\n}}",
        list(permissions.publish, partitions),
        list(permissions.subscribe, partitions),
    )
}

fn list(grants: &[Grant], partitions: u16) -> String {
    let subjects = grants.iter().flat_map(|grant| grant.subjects(partitions));
    let lines: String = subjects.map(|subject| format!("            \"{subject}\"\n")).collect();
    format!("[\n{lines}        ]")
}
