use std::{fs, path::Path};

use serde_json::Value;
use toolgate_events::tools::KnowledgeUpsertInput;

use super::{Document, Fault, front_matter, sources::File};

/// More than any server takes, so that a file is not read for nothing.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What the contract of `knowledge.upsert` allows.
const MAX_TITLE: usize = 500;

/// The document in a Markdown file, named by its path.
pub fn document(file: &File, locale: &str) -> Result<Document, Fault> {
    let place = file.path.display().to_string();
    let bytes = file.bytes;
    let fault = |reason: String| Fault { place: place.clone(), bytes, reason };
    if bytes > MAX_BYTES {
        return Err(fault(format!("is larger than {MAX_BYTES} bytes; split it")));
    }
    let document_id = file.path.to_str().ok_or_else(|| fault("has a name that is not UTF-8".to_owned()))?.to_owned();
    let text = fs::read(&file.path).map_err(|error| fault(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| fault("is not UTF-8".to_owned()))?;
    let (mut members, content) = front_matter::split(text.strip_prefix('\u{feff}').unwrap_or(&text)).map_err(fault)?;
    let mut take = |names: &[&str]| {
        let text = |value: Value| value.as_str().map(str::to_owned);
        names.iter().filter_map(|name| members.remove(*name).and_then(text)).next()
    };
    let title: String = take(&["title"]).unwrap_or_else(|| title(content, &file.path)).chars().take(MAX_TITLE).collect();
    let locale = take(&["locale", "language", "lang"]).unwrap_or_else(|| locale.to_owned());
    let source = take(&["source"]);
    if content.trim().is_empty() {
        return Err(fault("has no text".to_owned()));
    }
    let metadata = (!members.is_empty()).then_some(members);
    let input = KnowledgeUpsertInput { document_id, title, content: content.to_owned(), locale: Some(locale), metadata, source };
    Ok(Document { place: place.clone(), bytes, input })
}

/// The first heading outside code, or else the file's name.
fn title(content: &str, file: &Path) -> String {
    let mut is_code = false;
    for line in content.lines() {
        is_code ^= line.starts_with("```") || line.starts_with("~~~");
        if let Some(heading) = line.strip_prefix("# ").filter(|heading| !is_code && !heading.trim().is_empty()) {
            return heading.trim().to_owned();
        }
    }
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_is_the_first_heading_outside_code() {
        let file = Path::new("a/setup.md");
        assert_eq!(title("```sh\n# comment\n```\n#no\n# Set up \n# Other", file), "Set up");
        assert_eq!(title("# \ntext", file), "setup");
    }
}
