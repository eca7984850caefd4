//! Which files there are, and the documents in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Document, Error, Fault, markdown, ndjson};

/// A file to load.
#[derive(Debug)]
pub struct File {
    pub path: PathBuf,
    pub kind: Kind,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Markdown,
    JsonLines,
}

/// The files named, and the Markdown in the folders named, in the order of their names. Symbolic links inside a folder are not
/// followed: they may lead anywhere.
///
/// # Errors
/// When a path cannot be read, or is of no known kind.
pub fn list(paths: &[PathBuf]) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|source| Error::Path { path: path.clone(), source })?;
        if metadata.is_dir() {
            let first = files.len();
            markdown_in(path, &mut files)?;
            files[first..].sort_by(|a: &File, b| a.path.cmp(&b.path));
        } else {
            let kind = kind(path).filter(|_| metadata.is_file()).ok_or_else(|| Error::Kind(path.clone()))?;
            files.push(File { path: path.clone(), kind, bytes: metadata.len() });
        }
    }
    Ok(files)
}

/// The documents of the files, one after another, read when asked for.
pub fn documents(files: Vec<File>, locale: &str) -> impl Iterator<Item = Result<Document, Fault>> {
    files.into_iter().flat_map(move |file| -> Box<dyn Iterator<Item = _> + Send> {
        match file.kind {
            Kind::Markdown => Box::new(std::iter::once(markdown::document(&file, locale))),
            Kind::JsonLines => Box::new(ndjson::documents(file.path)),
        }
    })
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "md" | "markdown" => Some(Kind::Markdown),
        "ndjson" | "jsonl" => Some(Kind::JsonLines),
        _ => None,
    }
}

fn markdown_in(folder: &Path, found: &mut Vec<File>) -> Result<(), Error> {
    let failed = |path: &Path, source| Error::Path { path: path.to_path_buf(), source };
    for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let entry = entry.map_err(|source| failed(folder, source))?;
        let path = entry.path();
        // Of the entry itself, not of what it may point to.
        let metadata = entry.metadata().map_err(|source| failed(&path, source))?;
        if metadata.is_dir() {
            markdown_in(&path, found)?;
        } else if metadata.is_file() && kind(&path) == Some(Kind::Markdown) {
            found.push(File { path, kind: Kind::Markdown, bytes: metadata.len() });
        }
    }
    Ok(())
}
