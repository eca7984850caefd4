//! Text that is not Unicode, not UTF-8, or that PostgreSQL cannot hold.

use super::{Vector, assert_accepted, assert_refused, metadata};

fn titled(title: &[u8]) -> Vec<u8> {
    [br#"{"tool":"task.create","arguments":{"title":""#, title, br#""}}"#].concat()
}

fn utf16(little: bool) -> Vec<u8> {
    let text = r#"{"tool":"task.create","arguments":{"title":"T"}}"#;
    text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
}

fn utf32(little: bool) -> Vec<u8> {
    let text = r#"{"tool":"task.create","arguments":{"title":"T"}}"#;
    text.chars().flat_map(|char| if little { u32::from(char).to_le_bytes() } else { u32::from(char).to_be_bytes() }).collect()
}

pub fn vectors() -> Vec<Vector> {
    let title = |name, bytes: &[u8]| Vector::post(name, titled(bytes)).at("/arguments/title");
    vec![
        Vector::post("a byte order mark", [b"\xef\xbb\xbf".to_vec(), titled(b"T")].concat()).at(""),
        Vector::post("UTF-16, little-endian", utf16(true)).at(""),
        Vector::post("UTF-16, big-endian", utf16(false)).at(""),
        Vector::post("UTF-16 with its mark", [b"\xff\xfe".to_vec(), utf16(true)].concat()).at(""),
        Vector::post("UTF-32, little-endian", utf32(true)).at(""),
        Vector::post("UTF-32, big-endian", utf32(false)).at(""),
        title("Latin-1", b"caf\xe9"),
        title("an overlong slash", b"\xc0\xaf"),
        title("an overlong NUL", b"\xc0\x80"),
        title("an overlong quote of three bytes", b"\xe0\x80\xa2"),
        title("a surrogate in UTF-8", b"\xed\xa0\x80"),
        title("a pair of surrogates in UTF-8", b"\xed\xa0\xbd\xed\xb8\x80"),
        title("beyond Unicode", b"\xf4\x90\x80\x80"),
        title("a byte that UTF-8 never has", b"\xff"),
        title("a continuation alone", b"\x80"),
        title("a sequence that ends early", b"\xe2\x82"),
        title("a lone high surrogate", br"\ud800"),
        title("a lone low surrogate", br"\udc00"),
        title("a pair the wrong way round", br"\udc00\ud800"),
        title("two high surrogates", br"\ud800\ud800"),
        title("a high surrogate and a letter", br"\ud800a"),
        title("an escape that ends early", br"\u00"),
        title("an escape that is none", br"\x41"),
        title("an escaped NUL", br"\u0000"),
        title("an escaped NUL in the middle", br"a\u0000b"),
        title("a NUL as it is", b"a\0b"),
        title("a line feed as it is", b"a\nb"),
        title("an escape character as it is", b"\x1b[2J"),
        Vector::post("a NUL in a key", metadata(r#"{"\u0000":1}"#)).at("/arguments/metadata/m"),
        Vector::post("a surrogate in a key", metadata(r#"{"\ud800":1}"#)).at("/arguments/metadata/m"),
        Vector::post("bad UTF-8 in a key", [&br#"{"a"#[..], b"\xff", br#"":1}"#].concat()).at(""),
        Vector::post("a NUL in the tool's name", r#"{"tool":"task.create\u0000","arguments":{}}"#).at("/tool"),
        Vector::post("a NUL far down", metadata(r#"[["\u0000"]]"#)).at("/arguments/metadata/m/0/0"),
    ]
}

#[tokio::test]
async fn every_text_that_is_none_is_refused() {
    assert_refused(vectors()).await;
}

#[tokio::test]
async fn text_of_any_script_is_accepted() {
    let title = |name, bytes: &[u8]| Vector::post(name, titled(bytes));
    assert_accepted(vec![
        title("a pair of surrogates", br"\ud83d\ude00"),
        title("four bytes of UTF-8", "😀".as_bytes()),
        title("the last character of Unicode", "\u{10ffff}".as_bytes()),
        title("a mark inside the text", "a\u{feff}b".as_bytes()),
        title("the smallest escape but NUL", br"a\u0001"),
        title("an escaped backslash before u0000", br"\\u0000"),
        title("text that turns around", "\u{202e}abc".as_bytes()),
        title("quotes and SQL", br#"'; drop table task; -- \""#),
    ])
    .await;
}
