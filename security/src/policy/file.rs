use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value},
};
use sha2::{Digest, Sha256};
use toolgate_events::{TenantId, canonical};

use super::{Policy, RolePolicy, TenantPolicy, permission::is_permission};

/// Why a policy file was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No TOML, a key twice, a key that means nothing, or a value of another type.
    #[error("not a policy file: {0}")]
    Malformed(#[from] toml::de::Error),
    #[error("policy version {0} is not supported; this release knows version 1")]
    Version(u32),
    #[error("{entry} has {permission:?}, which is not of the form resource:action")]
    Permission { entry: String, permission: String },
    #[error("{entry} has a role without a name")]
    NamelessRole { entry: String },
    #[error("tenants has {0:?}, which is not a uuid")]
    Tenant(String),
    #[error("tenants has {0} twice")]
    TenantTwice(TenantId),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    deny: Vec<String>,
    roles: BTreeMap<String, RoleEntry>,
    #[serde(default)]
    tenants: BTreeMap<String, TenantEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantEntry {
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    roles: BTreeMap<String, RoleEntry>,
}

/// A list of what the role allows, or a table of what it allows and denies.
struct RoleEntry(RoleTable);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleTable {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl Policy {
    /// # Errors
    /// [`PolicyError`] naming the offending entry.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text)?;
        if file.version != 1 {
            return Err(PolicyError::Version(file.version));
        }
        let mut tenants = BTreeMap::new();
        for (name, entry) in file.tenants {
            let tenant: TenantId = name.parse().map_err(|_| PolicyError::Tenant(name))?;
            let place = format!("tenant {tenant}");
            let roles = roles(entry.roles, &place, &format!("{place} role"))?;
            let deny = permissions(entry.deny, || format!("deny of {place}"))?;
            // One uuid can be spelled in several ways.
            if tenants.insert(tenant, TenantPolicy { deny, roles }).is_some() {
                return Err(PolicyError::TenantTwice(tenant));
            }
        }
        Ok(Self {
            version: canonical::hex(&Sha256::digest(text)),
            deny: permissions(file.deny, || "deny".to_owned())?,
            roles: roles(file.roles, "roles", "role")?,
            tenants,
        })
    }
}

fn roles(entries: BTreeMap<String, RoleEntry>, place: &str, label: &str) -> Result<BTreeMap<String, RolePolicy>, PolicyError> {
    let role = |(name, RoleEntry(table)): (String, RoleEntry)| {
        if name.trim().is_empty() {
            return Err(PolicyError::NamelessRole { entry: place.to_owned() });
        }
        let entry = || format!("{label} {name:?}");
        let role = RolePolicy { allow: permissions(table.allow, entry)?, deny: permissions(table.deny, entry)? };
        Ok((name, role))
    };
    entries.into_iter().map(role).collect()
}

fn permissions(texts: Vec<String>, entry: impl Fn() -> String) -> Result<Vec<String>, PolicyError> {
    match texts.iter().find(|text| !is_permission(text)) {
        None => Ok(texts),
        Some(wrong) => Err(PolicyError::Permission { entry: entry(), permission: wrong.clone() }),
    }
}

impl<'de> Deserialize<'de> for RoleEntry {
    /// By hand, because an untagged enum would not say what is wrong with which.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RoleVisitor;

        impl<'de> Visitor<'de> for RoleVisitor {
            type Value = RoleEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of permissions, or a table with `allow` and `deny`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RoleEntry, A::Error> {
                let allow = Vec::deserialize(value::SeqAccessDeserializer::new(list))?;
                Ok(RoleEntry(RoleTable { allow, deny: Vec::new() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RoleEntry, A::Error> {
                RoleTable::deserialize(value::MapAccessDeserializer::new(table)).map(RoleEntry)
            }
        }

        deserializer.deserialize_any(RoleVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "d300697083b08fc644fb1eabe9c9abf7ffbf85e2e8eae8c634a13578e4d6ceac";
    const TENANT: &str = "6f9619ff-8b86-5d01-b42d-00cf4fc964ff";

    #[test]
    fn both_forms_of_a_role_are_read_wherever_roles_stand() {
        let text = format!(
            "version = 1\ndeny = [\"a:b\"]\n[roles]\nlist = [\"c:d\"]\ntable = {{ allow = [\"e:f\"], deny = [\"g:h\"] }}\nempty = {{}}\n\
             [tenants.\"{TENANT}\"]\ndeny = [\"i:j\"]\n[tenants.\"{TENANT}\".roles]\nlist = [\"k:l\"]\ntable = {{ deny = [\"m:n\"] }}\n"
        );
        let policy = Policy::parse(&text).unwrap();
        let role = |role: &RolePolicy| (role.allow.join(","), role.deny.join(","));
        let pair = |allow: &str, deny: &str| (allow.to_owned(), deny.to_owned());
        assert_eq!(policy.deny(), ["a:b"]);
        assert_eq!(policy.roles().keys().collect::<Vec<_>>(), ["empty", "list", "table"]);
        assert_eq!(role(&policy.roles()["list"]), pair("c:d", ""));
        assert_eq!(role(&policy.roles()["table"]), pair("e:f", "g:h"));
        assert_eq!(role(&policy.roles()["empty"]), pair("", ""));
        let tenant = &policy.tenants()[&TENANT.parse().unwrap()];
        assert_eq!(tenant.deny, ["i:j"]);
        assert_eq!(role(&tenant.roles["list"]), pair("k:l", ""));
        assert_eq!(role(&tenant.roles["table"]), pair("", "m:n"));
    }

    #[test]
    fn the_operators_page_shows_a_policy() {
        let page = include_str!("../../../docs/security/policy.md");
        let example = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
        let policy = Policy::parse(example).unwrap();
        assert_eq!((policy.roles().len(), policy.tenants().len(), policy.deny().len()), (2, 1, 1));
    }

    #[test]
    fn the_version_is_the_hash_of_the_bytes() {
        let policy = Policy::parse("version = 1\n[roles]\n").unwrap();
        // printf 'version = 1\n[roles]\n' | sha256sum
        assert_eq!(policy.version(), HASH);
        assert_ne!(Policy::parse("version = 1\n[roles] \n").unwrap().version(), HASH);
    }

    #[test]
    fn a_broken_file_is_refused_by_name() {
        let tenant = format!("[tenants.\"{TENANT}\"]\n");
        for (text, named) in [
            ("", "version"),
            ("version = 1\n", "roles"),
            ("version = 0\n[roles]\n", "version 0 is not supported"),
            ("version = 2\n[roles]\n", "version 2 is not supported"),
            ("version = 1\nrules = 1\n[roles]\n", "rules"),
            ("version = 1\ndeny = \"a:b\"\n[roles]\n", "deny"),
            ("version = 1\ndeny = [\"a\"]\n[roles]\n", "deny has \"a\", which"),
            ("version = 1\n[roles]\na = [\"x\"]\n", "role \"a\" has \"x\", which"),
            ("version = 1\n[roles]\na = [\"x:y\", \"X:y\"]\n", "role \"a\" has \"X:y\", which"),
            ("version = 1\n[roles]\na = { allow = [\"x:y\"], deny = [\"x:y:z\"] }\n", "role \"a\" has \"x:y:z\", which"),
            ("version = 1\n[roles]\na = { allow = [\"x..y:z\"] }\n", "role \"a\" has \"x..y:z\", which"),
            ("version = 1\n[roles]\na = { allows = [\"x:y\"] }\n", "allows"),
            ("version = 1\n[roles]\na = 5\n", "a list of permissions, or a table"),
            ("version = 1\n[roles]\na = [5]\n", "a = [5]"),
            ("version = 1\n[roles]\na = []\na = []\n", "duplicate key"),
            ("version = 1\n[roles]\na = { deny = [], deny = [] }\n", "duplicate key"),
            ("version = 1\n[roles]\n\"\" = []\n", "roles has a role without a name"),
            ("version = 1\n[roles]\n\" \" = []\n", "roles has a role without a name"),
            ("version = 1\n[roles]\n[tenants.acme]\n", "tenants has \"acme\", which is not a uuid"),
            ("version = 1\n[roles]\n[tenants.\"\"]\n", "tenants has \"\", which is not a uuid"),
            ("version = 1\n[roles]\n{tenant}allow = [\"a:b\"]\n", "allow"),
            ("version = 1\n[roles]\n{tenant}deny = [\"a:\"]\n", "deny of tenant {id} has \"a:\", which"),
            ("version = 1\n[roles]\n{tenant}roles = { a = [\":b\"] }\n", "tenant {id} role \"a\" has \":b\", which"),
            ("version = 1\n[roles]\n{tenant}roles = { \"\" = [] }\n", "tenant {id} has a role without a name"),
            ("version = 1\n[roles]\n{tenant}[tenants.\"6F9619FF-8B86-5D01-B42D-00CF4FC964FF\"]\n", "tenants has {id} twice"),
        ] {
            let error = Policy::parse(&text.replace("{tenant}", &tenant)).unwrap_err().to_string();
            assert!(error.contains(&named.replace("{id}", TENANT)), "{text:?}: {error}");
        }
    }
}
