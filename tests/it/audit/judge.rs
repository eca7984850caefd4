use std::{fmt::Write as _, fs, process::Command};

use aws_lc_rs::signature::Ed25519KeyPair;
use chrono::DateTime;
use serde_json::{Map, Value};
use toolgate::services::DataDir;
use toolgate_events::{
    Partition, TenantId,
    audit::{AuditCheckpoint, AuditRow, Head, Signed, SigningKey, Verifier},
};

/// Where `verify.py` is.
pub const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/audit");

/// Has many exports checked at once: each is a length and its checkpoints on a line, then the bytes.
const DRIVER: &str = r#"
import io, json, sys
sys.path.insert(0, sys.argv[1])
import verify
with open(sys.argv[2], "rb") as cases:
    for head in iter(cases.readline, b""):
        case = json.loads(head)
        export = io.BytesIO(cases.read(case["length"]))
        heads = {int(position): hash for position, hash in case["heads"].items()}
        try:
            verify.check(iter(lambda: export.readline(verify.MAX_LINE), b""), 1, heads, case["tenant"])
            print("nothing")
        except ValueError as found:
            print(str(found).split(":")[0])
"#;

/// What an export is checked against.
#[derive(Clone, Debug, Default)]
pub struct Heads(pub Vec<(u64, String)>);

/// An export that somebody has changed, and where that must be found: line and row.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub export: Vec<u8>,
    pub found: Option<(u64, u64)>,
}

impl Heads {
    /// Signed.
    pub fn of(&self, tenant: TenantId) -> Signed {
        let mut signed = Signed::nothing(Some(tenant));
        for head in &self.0 {
            signed.add(checkpoint(tenant, head, &key(1)).to_line().as_bytes(), &[key(1).public().clone()]).unwrap();
        }
        signed
    }
}

/// A key for tests; different seeds give different keys.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::parse(&key_pem(seed)).unwrap()
}

pub fn key_pem(seed: u8) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    SigningKey::to_pem(pair.to_pkcs8v1().unwrap().as_ref()).unwrap()
}

pub fn checkpoint(tenant: TenantId, (position, hash): &(u64, String), key: &SigningKey) -> AuditCheckpoint {
    let (position, hash, partition) = (*position, hash.clone(), Partition(0));
    let head = Head { tenant_id: tenant, position, hash, partition, stream_sequence: position };
    AuditCheckpoint::sign(head, DateTime::from_timestamp(1_700_000_000, 0).unwrap(), key)
}

pub fn rows(export: &[u8]) -> Vec<AuditRow> {
    std::str::from_utf8(export).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn lines(rows: &[AuditRow]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.to_line().into_bytes()).collect()
}

/// What the verifier of this repository finds: `line 1, row 1`, or `nothing`.
pub fn found_here(signed: &Signed, export: &[u8]) -> String {
    let mut verifier = Verifier::new(1, signed.clone());
    export.split_inclusive(|byte| *byte == b'\n').all(|line| verifier.take(line));
    let said = verifier.finish().map_or_else(|finding| finding.to_string(), |_| "nothing".to_owned());
    said.split(':').next().unwrap().to_owned()
}

/// Checks that both verifiers find every case where it must be found.
pub fn assert_found(tenant: TenantId, heads: &Heads, cases: &[Case]) {
    let directory = DataDir::temporary().unwrap();
    let file = directory.path().join("cases");
    let signed: Map<String, Value> =
        heads.0.iter().map(|(position, hash)| (position.to_string(), Value::from(hash.as_str()))).collect();
    let mut bytes = Vec::new();
    for case in cases {
        let head = serde_json::json!({"length": case.export.len(), "heads": signed, "tenant": tenant});
        bytes.extend_from_slice(format!("{head}\n").as_bytes());
        bytes.extend_from_slice(&case.export);
    }
    fs::write(&file, bytes).unwrap();
    let output = Command::new("python3").args(["-B", "-c", DRIVER, PAGES]).arg(&file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), cases.len());
    let heads = heads.of(tenant);
    let mut wrong = String::new();
    for (case, there) in cases.iter().zip(said.lines()) {
        let expected = case.found.map_or_else(|| "nothing".to_owned(), |(line, row)| format!("line {line}, row {row}"));
        let here = found_here(&heads, &case.export);
        if here != expected || there != expected {
            writeln!(wrong, "{}: expected {expected}; found here {here}, by the script {there}", case.name).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
