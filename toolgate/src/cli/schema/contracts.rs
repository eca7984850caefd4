//! The contracts that are published: what callers may rely on until a tool's version is raised.
//!
//! `tools/<tool>.json` has the present version of a tool, `tools/superseded/<tool>.v<version>.json` each one before it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use toolgate_events::tools::{Contract, FIRST_VERSION, compatibility::breaking};

use super::{Error, pretty};

/// What a folder has.
#[derive(Debug, Default)]
pub(super) struct Published {
    present: BTreeMap<String, Value>,
    /// By name and version; the text, because it never changes again.
    superseded: BTreeMap<(String, u64), String>,
}

impl Published {
    /// A folder that is not there has nothing.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut present = BTreeMap::new();
        for (path, name) in files(folder)? {
            present.insert(name, json(&path, &text(&path)?)?);
        }
        let mut superseded = BTreeMap::new();
        for (path, name) in files(&folder.join(SUPERSEDED))? {
            let parts = name.rsplit_once(".v").and_then(|(name, version)| Some((name.to_owned(), version.parse().ok()?)));
            superseded
                .insert(parts.ok_or_else(|| not_understood(&path, "its name is not <tool>.v<version>.json"))?, text(&path)?);
        }
        Ok(Self { present, superseded })
    }

    /// Why `contracts` cannot be published after these, as sentences.
    pub fn objections(&self, contracts: &[Contract]) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for contract in contracts {
            found.extend(self.objections_to(contract)?);
        }
        let gone = self.present.keys().filter(|name| !contracts.iter().any(|contract| contract.name == *name));
        found.extend(gone.map(|name| {
            format!("{name}: is published and no longer there; where nobody relies on it, remove its files and write that in the changelog")
        }));
        Ok(found)
    }

    fn objections_to(&self, contract: &Contract) -> Result<Vec<String>, Error> {
        let (name, is) = (contract.name, u64::from(contract.version));
        let Some(present) = self.present.get(name) else {
            let first = format!("{name}: version {is} is the first to be published, and the first is {FIRST_VERSION}");
            return Ok(Vec::from_iter((contract.version != FIRST_VERSION).then_some(first)));
        };
        let was = version(present);
        let missing = (1..was).filter(|version| !self.superseded.contains_key(&(name.to_owned(), *version)));
        let mut found: Vec<_> = missing
            .map(|version| format!("{name}: version {version} is no longer in {SUPERSEDED}/, where it stays for ever"))
            .collect();
        if is == was {
            found.extend(
                breaking(present, &serde_json::to_value(contract)?).into_iter().map(|change| format!("{name}: {change}")),
            );
        } else if is != was + 1 {
            found.push(format!("{name}: version {is} cannot follow version {was}"));
        }
        Ok(found)
    }

    /// The same against what has landed elsewhere, whatever was done to the files here.
    pub fn objections_since(&self, landed: &Self, contracts: &[Contract]) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for contract in contracts {
            let Some(was) = landed.present.get(contract.name) else { continue };
            // How far the version was raised since is for the files here to say.
            let landed_version = version(was);
            if u64::from(contract.version) <= landed_version {
                found.extend(landed.objections_to(contract)?);
                continue;
            }
            // What had landed is superseded now, and was never anything else.
            let kept = self.superseded.get(&(contract.name.to_owned(), landed_version));
            if kept.is_some_and(|kept| serde_json::from_str::<Value>(kept).ok().as_ref() != Some(was)) {
                found.push(format!("{}: version {landed_version} is superseded, and is not what had landed", contract.name));
            }
        }
        let changed = landed.superseded.iter().filter(|(key, text)| self.superseded.get(key).is_some_and(|now| now != *text));
        found.extend(changed.map(|((name, version), _)| format!("{name}: version {version} is superseded, and was changed")));
        Ok(found)
    }

    /// Where the present file of a tool goes when `contract` takes its place, and its text.
    pub fn superseded_by(&self, contract: &Contract) -> Result<Option<(String, String)>, Error> {
        let present = self.present.get(contract.name).filter(|present| version(present) < u64::from(contract.version));
        let Some(present) = present else { return Ok(None) };
        Ok(Some((format!("{SUPERSEDED}/{}.v{}.json", contract.name, version(present)), pretty(present)?)))
    }
}

const SUPERSEDED: &str = "superseded";

fn version(contract: &Value) -> u64 {
    contract["version"].as_u64().unwrap_or_default()
}

/// The JSON files of a folder, each with its name without the ending.
fn files(folder: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let failed = |source| Error::Folder { folder: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        if let Some(name) = name.map(str::to_owned) {
            found.push((path, name));
        }
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Folder { folder: path.to_owned(), source })
}

fn json(path: &Path, text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| not_understood(path, &error.to_string()))
}

fn not_understood(path: &Path, why: &str) -> Error {
    Error::Folder { folder: path.to_owned(), source: io::Error::other(why.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use toolgate_events::tools;

    use super::*;

    /// As if these contracts had been published.
    fn published(contracts: &[Contract]) -> Published {
        let present = contracts.iter().map(|contract| (contract.name.to_owned(), serde_json::to_value(contract).unwrap()));
        Published { present: present.collect(), superseded: BTreeMap::new() }
    }

    fn first() -> Contract {
        Contract { version: 1, ..tools::all()[0].clone() }
    }

    /// The same with one argument more that every caller must send.
    fn narrowed(version: u32) -> Contract {
        let mut contract = Contract { version, ..first() };
        contract.input_schema["required"].as_array_mut().unwrap().push(json!("reason"));
        contract
    }

    #[test]
    fn the_contracts_that_are_checked_in_are_kept() {
        let published = Published::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/tools")).unwrap();
        assert_eq!(published.objections(tools::all()).unwrap(), [""; 0]);
    }

    #[test]
    fn a_breaking_change_needs_the_next_version() {
        let published = published(&[first()]);
        let name = first().name;
        assert_eq!(published.objections(&[first()]).unwrap(), [""; 0]);
        assert_eq!(published.objections(&[narrowed(1)]).unwrap(), [format!("{name}: input /reason: is now required")]);
        assert_eq!(published.objections(&[narrowed(2)]).unwrap(), [""; 0]);
        for version in [0, 3] {
            let expected = [format!("{name}: version {version} cannot follow version 1")];
            assert_eq!(published.objections(&[narrowed(version)]).unwrap(), expected);
        }
    }

    #[test]
    fn a_new_tool_begins_with_the_first_version_and_one_that_is_gone_is_noticed() {
        let none = Published::default();
        assert_eq!(none.objections(&[first()]).unwrap(), [""; 0]);
        assert_eq!(none.objections(&[narrowed(2)]).unwrap().len(), 1);
        assert_eq!(published(&[first()]).objections(&[]).unwrap().len(), 1);
    }

    #[test]
    fn what_is_superseded_stays() {
        let v1 = published(&[first()]);
        let (file, text) = v1.superseded_by(&narrowed(2)).unwrap().unwrap();
        assert_eq!(file, format!("superseded/{}.v1.json", first().name));
        assert!(v1.superseded_by(&first()).unwrap().is_none());

        let mut v2 = published(&[narrowed(2)]);
        assert_eq!(v2.objections(&[narrowed(2)]).unwrap().len(), 1, "version 1 is missing");
        v2.superseded.insert((first().name.to_owned(), 1), text);
        assert_eq!(v2.objections(&[narrowed(2)]).unwrap(), [""; 0]);
        assert_eq!(v2.objections_since(&v1, &[narrowed(2)]).unwrap(), [""; 0]);

        let mut forged = published(&[narrowed(2)]);
        forged.superseded.insert((first().name.to_owned(), 1), "{}".to_owned());
        assert_eq!(forged.objections_since(&v2, &[narrowed(2)]).unwrap().len(), 1);
        assert_eq!(forged.objections_since(&v1, &[narrowed(2)]).unwrap().len(), 1, "it was forged as it was superseded");
    }

    #[test]
    fn a_file_that_was_written_anew_does_not_hide_a_breaking_change_from_what_has_landed() {
        let (landed, forged) = (published(&[first()]), published(&[narrowed(1)]));
        assert_eq!(forged.objections(&[narrowed(1)]).unwrap(), [""; 0]);
        assert_eq!(forged.objections_since(&landed, &[narrowed(1)]).unwrap().len(), 1);
        // Several changes may have landed together.
        assert_eq!(published(&[narrowed(3)]).objections_since(&landed, &[narrowed(3)]).unwrap(), [""; 0]);
    }
}
