//! Numbers that not every reader reads alike (RFC 8259, section 6).

use super::{Vector, assert_accepted, assert_refused, metadata, task_with};

const PLACE: &str = "/arguments/metadata/m";

pub fn vectors() -> Vec<Vector> {
    let number = |name, text: &str| Vector::post(name, metadata(text)).at(PLACE);
    vec![
        number("2^53 + 1", "9007199254740993"),
        number("-2^53 - 1", "-9007199254740993"),
        number("2^53 + 1 as a fraction", "9007199254740993.0"),
        number("2^53 + 1 with an exponent", "9.007199254740993e15"),
        number("2^53 as a fraction, which may have been more", "9007199254740992.0"),
        number("the largest i64", "9223372036854775807"),
        number("the smallest i64", "-9223372036854775808"),
        number("the largest u64", "18446744073709551615"),
        number("2^64", "18446744073709551616"),
        number("1e16", "1e16"),
        number("-1e300", "-1e300"),
        number("an exponent beyond every float", "1e400"),
        number("an exponent that is a bignum itself", "1e999999999999999999999"),
        number("a hundred thousand digits", &"9".repeat(100_000)),
        Vector::post("a large number in an array", metadata("[1,[2,9007199254740993]]")).at("/arguments/metadata/m/1/1"),
        Vector::post("a large number where none belongs", task_with(r#""session_id":9007199254740993"#)).at("/session_id"),
        Vector::post("a large number in the options", task_with(r#""options":{"timeout_ms":9007199254740993}"#))
            .at("/options/timeout_ms"),
        Vector::post("a large number in an unknown member", task_with(r#""extra":9007199254740993"#)).at("/extra"),
        number("not a number", "NaN"),
        number("infinity", "Infinity"),
        number("negative infinity", "-Infinity"),
        number("a leading zero", "01"),
        number("a negative leading zero", "-01"),
        number("a leading plus", "+1"),
        number("no digit before the point", ".5"),
        number("no digit after the point", "1."),
        number("no digit in the exponent", "1e"),
        number("a sign alone", "-"),
        number("hexadecimal", "0x10"),
        number("octal", "0o7"),
        number("an underscore", "1_000"),
        number("a comma for a point", "1,5"),
        number("full-width digits", "１"),
    ]
    .into_iter()
    // Where the text stops making sense, the member may have ended already.
    .map(|vector| {
        if ["hexadecimal", "octal", "an underscore", "a comma for a point", "a leading zero"].contains(&vector.name) {
            Vector { pointer: None, ..vector }
        } else {
            vector
        }
    })
    .collect()
}

#[tokio::test]
async fn every_number_that_is_not_exact_is_refused() {
    assert_refused(vectors()).await;
}

#[tokio::test]
async fn exact_numbers_are_accepted() {
    let number = |name, text: &str| Vector::post(name, metadata(text));
    assert_accepted(vec![
        number("2^53 - 1", "9007199254740991"),
        number("2^53", "9007199254740992"),
        number("-2^53 + 1", "-9007199254740991"),
        number("-2^53", "-9007199254740992"),
        number("2^53 + 1 as a string", r#""9007199254740993""#),
        number("the float before 2^53", "9007199254740991.0"),
        number("a float as small as nothing", "1e-999"),
        number("minus zero", "-0"),
        number("a fraction of many digits", &format!("0.{}", "3".repeat(10_000))),
        number("a capital exponent", "1E+2"),
    ])
    .await;
}
