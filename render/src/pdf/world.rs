//! All that typst can see: one source, which is ours, and the fonts. There are no files, no packages, no network and no date.

use std::{panic, str::FromStr, sync::LazyLock};

use typst::{
    Library, LibraryExt, World,
    diag::{FileError, FileResult},
    foundations::{Bytes, Content, Datetime, Dict, Duration, IntoValue, Value},
    syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot},
    text::{Font, FontBook, Lang, Region},
    utils::LazyHash,
};

use crate::Stop;

/// Interned for ever by typst, so there is one.
static MAIN: LazyLock<Source> = LazyLock::new(|| {
    let path = match VirtualPath::new("document.typ") {
        Ok(path) => path,
        Err(error) => unreachable!("the path is a constant: {error}"),
    };
    let id = RootedPath::new(VirtualRoot::Project, path).intern();
    Source::new(id, include_str!("document.typ").to_owned())
});

static FONTS: LazyLock<Vec<Font>> =
    LazyLock::new(|| typst_assets::fonts().flat_map(|font| Font::iter(Bytes::new(font))).collect());

static BOOK: LazyLock<LazyHash<FontBook>> = LazyLock::new(|| LazyHash::new(FontBook::from_fonts(FONTS.iter())));

/// What a thread unwinds with when it was told to stop.
pub struct Interrupted;

pub struct DocumentWorld<'a> {
    library: LazyHash<Library>,
    stop: Stop<'a>,
}

impl<'a> DocumentWorld<'a> {
    pub fn new(title: &str, body: Content, locale: Option<&str>, stop: Stop<'a>) -> Self {
        let (language, region) = language(locale);
        let mut inputs = Dict::new();
        inputs.insert("title".into(), title.into_value());
        inputs.insert("body".into(), body.into_value());
        inputs.insert("lang".into(), language.map_or(Value::None, |language| language.as_str().into_value()));
        inputs.insert("region".into(), region.map_or(Value::None, |region| region.as_str().into_value()));
        Self { library: LazyHash::new(Library::builder().with_inputs(inputs).build()), stop }
    }
}

impl World for DocumentWorld<'_> {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &BOOK
    }

    fn main(&self) -> FileId {
        MAIN.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == MAIN.id() { Ok(MAIN.clone()) } else { Err(FileError::AccessDenied) }
    }

    fn file(&self, _: FileId) -> FileResult<Bytes> {
        Err(FileError::AccessDenied)
    }

    /// typst cannot be interrupted, but it asks for a font whenever it sets some text: the place to look up.
    fn font(&self, index: usize) -> Option<Font> {
        if (self.stop)() {
            // Without the panic hook: this is no accident.
            panic::resume_unwind(Box::new(Interrupted));
        }
        FONTS.get(index).cloned()
    }

    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}

/// The language and the region of a tag (BCP 47), as far as typst has use for them.
fn language(locale: Option<&str>) -> (Option<Lang>, Option<Region>) {
    let mut subtags = locale.unwrap_or_default().split('-');
    let language = subtags.next().and_then(|subtag| Lang::from_str(subtag).ok());
    let region = subtags.find_map(|subtag| Region::from_str(subtag).ok());
    (language, region)
}
