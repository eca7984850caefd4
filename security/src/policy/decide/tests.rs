use uuid::{Uuid, uuid};

use super::*;

const ACME: Uuid = uuid!("11111111-1111-4111-8111-111111111111");
const OTHER: Uuid = uuid!("22222222-2222-4222-8222-222222222222");

const POLICY: &str = r#"
    version = 1
    deny = ["audit:export"]

    [roles]
    agent = ["tool.*.*:invoke", "tool_call:read"]
    reader = ["*:read"]
    auditor = ["audit:*"]
    intern = { allow = ["tool.knowledge.*:invoke"], deny = ["tool.knowledge.upsert:invoke", "tool.task.*:invoke"] }
    nothing = []
    forbidden = { deny = ["tool_call:read"] }

    [tenants."11111111-1111-4111-8111-111111111111"]
    deny = ["tool.task.create:invoke"]

    [tenants."11111111-1111-4111-8111-111111111111".roles]
    reader = ["document:read"]
    clerk = { allow = ["tool.document.*:invoke"], deny = ["tool.document.render:invoke"] }
"#;

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

fn decide(policy: &Policy, tenant: Uuid, roles: &[&str], token: &[&str], permission: &str) -> (bool, String) {
    let (roles, permissions) = (owned(roles), owned(token));
    let input = Input { tenant_id: TenantId(tenant), roles: &roles, permissions: &permissions };
    let verdict = policy.decide(input, permission);
    (verdict.is_allowed(), verdict.to_string())
}

/// Tenant, roles, what the token grants, what is asked, whether it is allowed, and by which rule.
type Case = (Uuid, &'static [&'static str], &'static [&'static str], &'static str, bool, &'static str);

#[test]
fn the_first_rule_that_covers_the_permission_decides_and_denials_come_first() {
    let policy = Policy::parse(POLICY).unwrap();
    let tenant = format!("tenant {ACME}");
    let cases: [Case; 25] = [
        (OTHER, &["agent"], &[], "tool.task.create:invoke", true, "role agent: tool.*.*:invoke"),
        (OTHER, &["agent"], &[], "tool_call:read", true, "role agent: tool_call:read"),
        (OTHER, &["agent"], &[], "tool_call:cancel", false, "no rule grants it"),
        (OTHER, &[], &[], "tool_call:read", false, "no rule grants it"),
        (OTHER, &["nobody", "Agent", "nothing"], &[], "tool_call:read", false, "no rule grants it"),
        (OTHER, &["nobody", "agent"], &[], "tool_call:read", true, "role agent: tool_call:read"),
        // Of several roles the first that grants it is named.
        (OTHER, &["reader", "agent"], &[], "tool_call:read", true, "role reader: *:read"),
        (OTHER, &["agent", "reader"], &[], "tool_call:read", true, "role agent: tool_call:read"),
        // What a token grants comes last, and only a whole permission counts.
        (OTHER, &[], &["tool_call:read"], "tool_call:read", true, "token: tool_call:read"),
        (OTHER, &["agent"], &["tool_call:read"], "tool_call:read", true, "role agent: tool_call:read"),
        (OTHER, &[], &["*", "", "tool_call", "tool_call:*"], "tool_call:read", true, "token: tool_call:*"),
        (OTHER, &[], &["*", "", "tool_call", "tool_*:read", "tool_call:rea*"], "tool_call:read", false, "no rule grants it"),
        // Denied to everybody, whatever grants it.
        (OTHER, &["auditor"], &["audit:export"], "audit:export", false, "deny: audit:export"),
        (OTHER, &["auditor"], &[], "audit:read", true, "role auditor: audit:*"),
        // A role's denial holds against its own grants, other roles' and the token's.
        (OTHER, &["intern"], &[], "tool.knowledge.get:invoke", true, "role intern: tool.knowledge.*:invoke"),
        (OTHER, &["intern"], &[], "tool.knowledge.upsert:invoke", false, "role intern denies tool.knowledge.upsert:invoke"),
        (OTHER, &["agent", "intern"], &[], "tool.task.create:invoke", false, "role intern denies tool.task.*:invoke"),
        (OTHER, &["forbidden"], &["tool_call:read"], "tool_call:read", false, "role forbidden denies tool_call:read"),
        // A tenant's own rules: a denial, a role in place of a general one, a new role.
        (ACME, &["agent"], &["tool.task.create:invoke"], "tool.task.create:invoke", false, "{t} deny: tool.task.create:invoke"),
        (ACME, &["intern"], &[], "tool.task.create:invoke", false, "{t} deny: tool.task.create:invoke"),
        (ACME, &["reader"], &[], "document:read", true, "{t} role reader: document:read"),
        (ACME, &["reader"], &[], "tool_call:read", false, "no rule grants it"),
        (ACME, &["agent"], &[], "tool_call:read", true, "role agent: tool_call:read"),
        (
            ACME,
            &["agent", "clerk"],
            &[],
            "tool.document.render:invoke",
            false,
            "{t} role clerk denies tool.document.render:invoke",
        ),
        (OTHER, &["clerk"], &[], "tool.document.list:invoke", false, "no rule grants it"),
    ];
    for (of, roles, token, permission, allowed, rule) in cases {
        let expected = (allowed, rule.replace("{t}", &tenant));
        assert_eq!(decide(&policy, of, roles, token, permission), expected, "{of} {roles:?} {token:?} {permission}");
    }
    assert_eq!(
        decide(&policy, ACME, &["clerk"], &[], "tool.document.list:invoke").1,
        format!("{tenant} role clerk: tool.document.*:invoke")
    );
}

#[test]
fn what_is_no_concrete_permission_is_never_granted() {
    let policy = Policy::parse("version = 1\n[roles]\nroot = [\"*:*\", \"*.*:*\", \"*.*.*:*\"]\n").unwrap();
    assert!(decide(&policy, OTHER, &["root"], &[], "a.b.c:d").0);
    for asked in ["", ":", "a", "a:", ":b", "a..c:d", ".b.c:d", "a.b.:d", "*:b", "a:*", "a.*.c:d", "A:b", "a:b:c"] {
        let token = [asked, "*:*", "*.*.*:*"];
        assert_eq!(decide(&policy, OTHER, &["root"], &token, asked), (false, "no rule grants it".to_owned()), "{asked:?}");
    }
}

#[test]
fn the_order_of_rules_is_denials_from_general_to_particular_and_then_grants() {
    let policy = Policy::parse(POLICY).unwrap();
    let (roles, permissions) = (owned(&["intern", "reader"]), owned(&["x:y"]));
    let input = Input { tenant_id: TenantId(ACME), roles: &roles, permissions: &permissions };
    let order: Vec<_> = policy.rules(input).map(|rule| rule.to_string()).collect();
    let expected = [
        "deny: audit:export".to_owned(),
        format!("tenant {ACME} deny: tool.task.create:invoke"),
        "role intern denies tool.knowledge.upsert:invoke".to_owned(),
        "role intern denies tool.task.*:invoke".to_owned(),
        "role intern: tool.knowledge.*:invoke".to_owned(),
        format!("tenant {ACME} role reader: document:read"),
        "token: x:y".to_owned(),
    ];
    assert_eq!(order, expected);
}

/// Every combination of a few roles and grants, against a decision spelled out in another way.
#[test]
fn no_combination_of_grants_outweighs_a_denial() {
    let policy = Policy::parse(POLICY).unwrap();
    let all = ["agent", "reader", "auditor", "intern", "forbidden", "clerk", "unknown"];
    let asked = ["tool.task.create:invoke", "tool.knowledge.upsert:invoke", "tool_call:read", "audit:export", "document:read"];
    for chosen in 0..1_u32 << all.len() {
        let roles: Vec<_> = (0..all.len()).filter(|bit| chosen >> bit & 1 == 1).map(|bit| all[bit]).collect();
        for tenant in [ACME, OTHER] {
            for permission in asked {
                let has = |role: &str| roles.contains(&role);
                let denied = match permission {
                    "audit:export" => true,
                    "tool.task.create:invoke" => tenant == ACME || has("intern"),
                    "tool.knowledge.upsert:invoke" => has("intern"),
                    "tool_call:read" => has("forbidden"),
                    _ => false,
                };
                let granted = match permission {
                    "tool.task.create:invoke" | "tool.knowledge.upsert:invoke" => has("agent"),
                    "tool_call:read" => has("agent") || (has("reader") && tenant == OTHER),
                    "document:read" => has("reader"),
                    _ => false,
                };
                let context = format!("{tenant} {roles:?} {permission}");
                assert_eq!(decide(&policy, tenant, &roles, &[], permission).0, granted && !denied, "{context}");
                assert_eq!(decide(&policy, tenant, &roles, &[permission], permission).0, !denied, "{context} by token");
            }
        }
    }
}

#[test]
fn the_built_in_roles_do_what_the_interface_says() {
    let policy = Policy::built_in().unwrap();
    let allows = |role: &str, permission: &str| decide(&policy, OTHER, &[role], &[], permission).0;
    assert!(allows("agent", "tool.task.create:invoke"));
    assert!(allows("agent", "tool_call:read"));
    assert!(!allows("agent", "audit:read"));
    assert!(allows("viewer", "event:subscribe"));
    assert!(!allows("viewer", "tool.task.create:invoke"));
    assert!(!allows("viewer", "tool_call:cancel"));
    assert!(allows("auditor", "audit:export"));
    assert!(!allows("auditor", "tool.knowledge.search:invoke"));
    assert!(allows("admin", "tenant:admin"));
    assert!(allows("admin", "tool.knowledge.search:invoke"));
    assert!(!allows("nobody", "tool_call:read"));
}
