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

/// Of the text and of code. What the first does not have is taken from the second.
const FAMILIES: [&str; 2] = ["Libertinus Serif", "DejaVu Sans Mono"];

static FONTS: LazyLock<Vec<Font>> = LazyLock::new(|| {
    let all = typst_assets::fonts().flat_map(|font| Font::iter(Bytes::new(font)));
    all.filter(|font| FAMILIES.contains(&font.info().family.as_str())).collect()
});

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

#[cfg(test)]
mod tests {
    use typst_layout::PagedDocument;

    use super::*;

    /// The same world with a hostile source in the place of ours.
    struct Hostile<'a>(DocumentWorld<'a>, Source);

    impl World for Hostile<'_> {
        fn library(&self) -> &LazyHash<Library> {
            self.0.library()
        }

        fn book(&self) -> &LazyHash<FontBook> {
            self.0.book()
        }

        fn main(&self) -> FileId {
            self.1.id()
        }

        fn source(&self, id: FileId) -> FileResult<Source> {
            if id == self.1.id() { Ok(self.1.clone()) } else { self.0.source(id) }
        }

        fn file(&self, id: FileId) -> FileResult<Bytes> {
            self.0.file(id)
        }

        fn font(&self, index: usize) -> Option<Font> {
            self.0.font(index)
        }

        fn today(&self, offset: Option<Duration>) -> Option<Datetime> {
            self.0.today(offset)
        }
    }

    #[test]
    fn even_typst_code_would_reach_nothing() {
        let id = RootedPath::new(VirtualRoot::Project, VirtualPath::new("hostile.typ").unwrap()).intern();
        for (code, refusal) in [
            ("#read(\"/etc/passwd\")", "denied"),
            ("#read(\"document.typ\")", "denied"),
            ("#image(\"a.png\")", "denied"),
            ("#json(\"a.json\")", "denied"),
            ("#plugin(\"a.wasm\")", "denied"),
            ("#bibliography(\"a.bib\")", "denied"),
            ("#import \"other.typ\": x", "denied"),
            ("#include \"other.typ\"", "denied"),
            ("#import \"@preview/cetz:0.3.0\": x", "denied"),
            ("#datetime.today()", "date"),
        ] {
            let world = Hostile(DocumentWorld::new("T", Content::empty(), None, &|| false), Source::new(id, code.to_owned()));
            let errors = typst::compile::<PagedDocument>(&world).output.err().unwrap_or_default();
            let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
            assert!(messages.iter().any(|message| message.contains(refusal)), "{code}: {messages:?}");
        }
    }

    #[test]
    fn every_style_of_the_text_has_the_letters_of_the_languages_it_is_for() {
        let letters = "AZaz áàâäãåāăą ćĉċč ďđ ðþ éèêëēĕėęě ģĝğġ ĥħ íìîïīįı ĵ ķ ĺľļł ńňñņŋ óòôöõōőø œæ ŕřŗ śŝşšșß ťţțŧ úùûüūŭůűų ŵẁẃẅ ýÿŷ źżž \
                       ÁÀÂÄÃÅĀĂĄ ĆČ Ď Đ ÐÞ ÉÈÊËĒĘĚ Ğ İ Ķ ŁĽ ŃŇÑ ÓÒÔÖÕŐØ ŒÆ ŘŚŞŠȘ ŤȚ ÚÙÛÜŮŰ Ý ŹŻŽ ẽỹỳ \
                       ΑΩαωάέήίόύώϊϋΐΰς АЯаяЁё “”„‚‘’«»‹›–—…€£§";
        let text: Vec<_> = FONTS.iter().filter(|font| font.info().family == FAMILIES[0]).collect();
        assert_eq!(FONTS.iter().filter(|font| font.info().family == FAMILIES[1]).count(), 4);
        assert_eq!(text.len(), 6);
        for font in text {
            let missing: String = letters.chars().filter(|letter| !font.info().coverage.contains(u32::from(*letter))).collect();
            assert_eq!(missing, "", "{:?}", font.info().variant);
        }
    }

    #[test]
    fn a_language_tag_is_taken_as_far_as_it_is_known() {
        let known = |locale| {
            let (language, region) = language(locale);
            (language.map(|language| language.as_str().to_owned()), region.map(|region| region.as_str().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(known(Some("id-ID")), (some("id"), some("ID")));
        assert_eq!(known(Some("zh-Hant-TW")), (some("zh"), some("TW")));
        assert_eq!(known(Some("de")), (some("de"), None));
        assert_eq!(known(Some("x")), (None, None));
        assert_eq!(known(None), (None, None));
    }
}
