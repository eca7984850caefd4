//! `toolgate policy check`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use toolgate_events::TenantId;
use toolgate_security::{Input, Policy, RolePolicy, is_concrete};
use uuid::Uuid;

use super::Error;

/// Check a policy file, and explain what it decides
///
/// Without --permission it says what is in the file. With it the exit code is 0 when the permission is granted and 1 when not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate policy check policy.toml --role agent --permission tool.task.create:invoke")]
pub(super) struct Check {
    file: PathBuf,
    /// What is asked for, such as tool_call:read
    #[arg(long, value_name = "PERMISSION", value_parser = concrete)]
    permission: Option<String>,
    /// The tenant, a uuid or the word demo [default: one that the file does not name]
    #[arg(long, requires = "permission", value_parser = crate::cli::token::tenant)]
    tenant: Option<Uuid>,
    /// The token's roles, separated by commas
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', requires = "permission")]
    role: Vec<String>,
    /// What the token itself grants, separated by commas
    #[arg(long, value_name = "PERMISSION,…", value_delimiter = ',', requires = "permission")]
    token_permission: Vec<String>,
}

impl Check {
    pub fn run(self) -> Result<(), Error> {
        let policy = super::read(&self.file)?;
        let output = &mut io::stdout().lock();
        let Some(permission) = &self.permission else {
            return describe(&policy, output).map_err(Error::Output);
        };
        let tenant_id = TenantId(self.tenant.unwrap_or_default());
        let input = Input { tenant_id, roles: &self.role, permissions: &self.token_permission };
        explain(&policy, input, permission, output).map_err(Error::Output)?;
        if policy.decide(input, permission).is_allowed() { Ok(()) } else { Err(Error::Denied) }
    }
}

fn concrete(text: &str) -> Result<String, String> {
    let refusal = || "expected resource:action without *, such as tool.task.create:invoke".to_owned();
    is_concrete(text).then(|| text.to_owned()).ok_or_else(refusal)
}

fn describe(policy: &Policy, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "valid, version {}", policy.version())?;
    writeln!(output, "everybody: {} denied", policy.deny().len())?;
    for (name, role) in policy.roles() {
        writeln!(output, "role {name}: {}", counts(role))?;
    }
    for (tenant, own) in policy.tenants() {
        writeln!(output, "tenant {tenant}: {} denied", own.deny.len())?;
        for (name, role) in &own.roles {
            let relation = if policy.roles().contains_key(name) { "in place of the general role" } else { "of its own" };
            writeln!(output, "tenant {tenant} role {name}: {}, {relation}", counts(role))?;
        }
    }
    Ok(())
}

fn counts(role: &RolePolicy) -> String {
    format!("{} allowed, {} denied", role.allow.len(), role.deny.len())
}

fn explain(policy: &Policy, input: Input<'_>, permission: &str, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "version {}", policy.version())?;
    let tenant = policy.tenants().get(&input.tenant_id);
    for role in input.roles {
        if !policy.roles().contains_key(role) && !tenant.is_some_and(|tenant| tenant.roles.contains_key(role)) {
            writeln!(output, "role {role} is not in the policy")?;
        }
    }
    writeln!(output, "rules considered for {permission}, in this order:")?;
    for rule in policy.rules(input) {
        let covers = rule.covers(permission);
        writeln!(output, "  {rule}{}", if covers { "  <- covers it" } else { "" })?;
        if covers {
            break;
        }
    }
    let verdict = policy.decide(input, permission);
    writeln!(output, "{}: {verdict}", if verdict.is_allowed() { "allowed" } else { "denied" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "version = 1\ndeny = [\"a:b\"]\n[roles]\nagent = [\"c:*\"]\nclerk = { allow = [\"c:d\"], deny = [\"c:e\"] }\n\
        [tenants.\"6f9619ff-8b86-5d01-b42d-00cf4fc964ff\"]\ndeny = [\"x:y\", \"x:z\"]\n\
        roles = { agent = [], own = { deny = [\"x:y\"] } }\n";

    fn text(write: impl FnOnce(&Policy, &mut Vec<u8>) -> io::Result<()>) -> Vec<String> {
        let mut bytes = Vec::new();
        write(&Policy::parse(POLICY).unwrap(), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn the_description_counts_what_is_in_the_file() {
        let expected = [
            "everybody: 1 denied",
            "role agent: 1 allowed, 0 denied",
            "role clerk: 1 allowed, 1 denied",
            "tenant 6f9619ff-8b86-5d01-b42d-00cf4fc964ff: 2 denied",
            "tenant 6f9619ff-8b86-5d01-b42d-00cf4fc964ff role agent: 0 allowed, 0 denied, in place of the general role",
            "tenant 6f9619ff-8b86-5d01-b42d-00cf4fc964ff role own: 0 allowed, 1 denied, of its own",
        ];
        assert_eq!(text(describe), expected);
    }

    #[test]
    fn the_explanation_ends_with_the_rule_that_decides() {
        let roles = ["clerk".to_owned(), "agent".to_owned(), "nobody".to_owned()];
        let token = ["c:f".to_owned()];
        let input = Input { tenant_id: TenantId(Uuid::nil()), roles: &roles, permissions: &token };
        let expected = [
            "role nobody is not in the policy",
            "rules considered for c:f, in this order:",
            "  deny: a:b",
            "  role clerk denies c:e",
            "  role clerk: c:d",
            "  role agent: c:*  <- covers it",
            "allowed: role agent: c:*",
        ];
        assert_eq!(text(|policy, output| explain(policy, input, "c:f", output)), expected);
        let lines = text(|policy, output| explain(policy, input, "c:e", output));
        assert_eq!(lines[3..], ["  role clerk denies c:e  <- covers it", "denied: role clerk denies c:e"]);
        let lines = text(|policy, output| explain(policy, input, "q:r", output));
        assert_eq!(lines[5..], ["  role agent: c:*", "  token: c:f", "denied: no rule grants it"]);
    }
}
