//! Every statement of those who answer tenants goes through `TenantTx`. The types see to that: `ReadPool` gives no connection away. So
//! this looks for whatever could make a connection of its own.

use std::{fs, path::Path};

/// What gives a connection without a tenant, and what a session would keep for the next one.
const WAYS_AROUND: [&str; 14] = [
    "PgPool",
    "PgConnection",
    "PgConnectOptions",
    "PgListener",
    "PoolConnection",
    "Pool<",
    "AnyPool",
    "Transaction<",
    "connect_lazy",
    "DATABASE_URL",
    "set session",
    "set_config",
    "set_tenant",
    "with hold",
];

fn read(folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn sources(krate: &str) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src"), &mut sources);
    assert!(!sources.is_empty(), "{krate}");
    sources
}

#[test]
fn readers_have_no_way_around_the_tenants_transaction() {
    let mut statements = 0;
    for (path, text) in sources("query-api").into_iter().chain(sources("workers")) {
        for way in WAYS_AROUND {
            assert!(!text.contains(way), "{path} has {way}: go through TenantTx");
        }
        statements += text.matches("sqlx::query").count() + text.matches("QueryBuilder").count();
    }
    assert!(statements > 5, "this looks at the wrong files");
}

#[test]
fn the_command_side_knows_no_database() {
    for (path, text) in sources("command-api") {
        assert!(!text.contains("sqlx") && !text.contains("TenantTx"), "{path}");
    }
}
