//! Attacks as data, with their valid neighbours.

use reqwest::dns::Resolve;

use super::*;

/// What is said about a URL before a connection is made.
async fn verdict(egress: &Egress, names: &Arc<Names>, url: &str) -> Result<(), EgressError> {
    let hop = Hop { method: Method::GET, url: target::parse(url)?, headers: HeaderMap::new(), body: Bytes::new() };
    egress.judge(&hop.url)?;
    let Some(Host::Domain(name)) = hop.url.host() else { return Ok(()) };
    let judged = Judged { resolver: names.clone(), networks: egress.networks.clone() };
    let resolved = judged.resolve(name.parse().unwrap()).await;
    resolved.map(drop).map_err(|error| *error.downcast::<EgressError>().unwrap())
}

const ALLOWED: [&str; 6] =
    ["allowed.example", "*.wild.example", "port.example:8443", "https://tls.example", "10.0.0.1", "8.8.8.8"];

/// Every address that is allowed by its text, so that what refuses it is its network.
const LITERALS: [&str; 44] = [
    // 127.0.0.1 in every notation of inet_aton, and dressed up.
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0177.1",
    "127.0.0.1.",
    "0x7F.0X0.0.01",
    "%31%32%37.0.0.1",
    "１２７.０.０.１",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "0",
    "0.0.0.0",
    // The instance metadata service.
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "0xa9.0xfe.0xa9.0xfe",
    "169.16689662",
    // Other networks.
    "10.255.255.255",
    "172.31.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    // IPv6 in its notations, and IPv4 within it.
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:808:808::80ff:fffe]",
    "[fd00:ec2::254]",
    "[fe80::1]",
];

#[tokio::test]
async fn no_notation_hides_an_address() {
    for literal in LITERALS {
        let egress = egress(&[literal], &[], Names::of(&[]), EgressLimits::default());
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{literal}/latest/meta-data/");
            let answer = egress.send("test.tool", get(&url)).await;
            assert_eq!(answer.unwrap_err(), EgressError::Blocked(Rule::Network), "{url}");
        }
        assert_eq!(refused(&egress), 2, "{literal}");
    }
}

#[tokio::test]
async fn urls_that_lead_elsewhere_are_refused() {
    let names = Names::of(&[
        ("allowed.example", &["8.8.8.8", "2a00::1"]),
        ("a.wild.example", &["8.8.8.8"]),
        ("b.a.wild.example", &["8.8.8.8"]),
        ("port.example", &["8.8.8.8"]),
        ("tls.example", &["8.8.8.8"]),
        ("local.wild.example", &["127.0.0.1"]),
        ("local6.wild.example", &["::1"]),
        ("mapped.wild.example", &["::ffff:10.0.0.1"]),
        ("meta.wild.example", &["169.254.169.254"]),
        ("mixed.wild.example", &["8.8.8.8", "10.0.0.1"]),
        ("mixed6.wild.example", &["2a00::1", "fd00::1"]),
        ("nowhere.wild.example", &[]),
    ]);
    let egress = egress(&ALLOWED, &[], names.clone(), EgressLimits::default());
    let vectors: &[(&str, Result<(), EgressError>)] = &[
        // Who is meant: before and after an @, a #, a ?, a backslash.
        ("https://allowed.example/", Ok(())),
        ("https://allowed.example@evil.example/", Err(Rule::Userinfo.into())),
        ("https://allowed.example:443@evil.example/", Err(Rule::Userinfo.into())),
        ("https://user:password@allowed.example/", Err(Rule::Userinfo.into())),
        ("https://allowed.example%40evil.example/", Err(Rule::Url.into())),
        ("https://evil.example/@allowed.example", Err(Rule::AllowList.into())),
        ("https://evil.example#@allowed.example/", Err(Rule::AllowList.into())),
        ("https://evil.example?@allowed.example/", Err(Rule::AllowList.into())),
        ("https://allowed.example#@evil.example/", Ok(())),
        ("https://allowed.example/?to=https://evil.example/", Ok(())),
        ("https://allowed.example\\@evil.example/", Err(Rule::Url.into())),
        ("https://evil.example\\@allowed.example/", Err(Rule::Url.into())),
        ("https:\\\\evil.example/", Err(Rule::Url.into())),
        ("https:///evil.example/", Err(Rule::Url.into())),
        ("https:evil.example", Err(Rule::Url.into())),
        ("//evil.example/", Err(Rule::Url.into())),
        // Lines and blanks that some readers drop.
        ("https://allowed.example\r\nHost: evil.example/", Err(Rule::Url.into())),
        ("https://allowed.example/%0d%0aHost:%20evil.example", Ok(())),
        ("https://allowed.example\t.evil.example/", Err(Rule::Url.into())),
        ("https://allowed.example .evil.example/", Err(Rule::Url.into())),
        ("https://allowed.example%00.evil.example/", Err(Rule::Url.into())),
        ("\u{feff}https://allowed.example/", Err(Rule::Scheme.into())),
        // Names that look like the allowed one.
        ("https://ALLOWED.example./", Ok(())),
        ("https://allowed.example../", Err(Rule::AllowList.into())),
        ("https://allowed。example/", Ok(())),
        ("https://allowed．example/", Ok(())),
        ("https://ａllowed.example/", Ok(())),
        ("https://аllowed.example/", Err(Rule::AllowList.into())),
        ("https://allowed.example.evil.example/", Err(Rule::AllowList.into())),
        ("https://evilallowed.example/", Err(Rule::AllowList.into())),
        ("https://sub.allowed.example/", Err(Rule::AllowList.into())),
        ("https://allowed-example/", Err(Rule::AllowList.into())),
        ("https://localhost/", Err(Rule::AllowList.into())),
        // Stars.
        ("https://a.wild.example/", Ok(())),
        ("https://b.a.wild.example/", Ok(())),
        ("https://A.Wild.Example./", Ok(())),
        ("https://wild.example/", Err(Rule::AllowList.into())),
        ("https://evilwild.example/", Err(Rule::AllowList.into())),
        ("https://.wild.example/", Err(Rule::AllowList.into())),
        ("https://a.wild.example.evil.example/", Err(Rule::AllowList.into())),
        // Ports and schemes.
        ("http://allowed.example/", Ok(())),
        ("https://allowed.example:443/", Ok(())),
        ("https://allowed.example:0443/", Ok(())),
        ("https://allowed.example:22/", Err(Rule::AllowList.into())),
        ("https://allowed.example:80/", Err(Rule::AllowList.into())),
        ("http://allowed.example:443/", Err(Rule::AllowList.into())),
        ("https://allowed.example:0/", Err(Rule::AllowList.into())),
        ("https://allowed.example:65979/", Err(Rule::Url.into())),
        ("https://allowed.example:443:8443/", Err(Rule::Url.into())),
        ("https://port.example:8443/", Ok(())),
        ("https://port.example/", Err(Rule::AllowList.into())),
        ("https://tls.example/", Ok(())),
        ("http://tls.example/", Err(Rule::AllowList.into())),
        ("ftp://allowed.example/", Err(Rule::Scheme.into())),
        ("file:///etc/passwd", Err(Rule::Scheme.into())),
        ("gopher://allowed.example/_x", Err(Rule::Scheme.into())),
        ("dict://allowed.example:11211/", Err(Rule::Scheme.into())),
        ("jar:https://allowed.example/!/", Err(Rule::Scheme.into())),
        // Addresses: an entry opens no network.
        ("https://8.8.8.8/", Ok(())),
        ("https://134744072/", Ok(())),
        ("https://8.8.4.4/", Err(Rule::AllowList.into())),
        ("https://10.0.0.1/", Err(Rule::Network.into())),
        ("https://[::ffff:8.8.8.8]/", Err(Rule::AllowList.into())),
        ("https://[fe80::1%25eth0]/", Err(Rule::Url.into())),
        ("https://[::1/", Err(Rule::Url.into())),
        // Allowed names with addresses that are not.
        ("https://local.wild.example/", Err(Rule::Network.into())),
        ("https://local6.wild.example/", Err(Rule::Network.into())),
        ("https://mapped.wild.example/", Err(Rule::Network.into())),
        ("https://meta.wild.example/", Err(Rule::Network.into())),
        ("https://mixed.wild.example/", Err(Rule::Network.into())),
        ("https://mixed6.wild.example/", Err(Rule::Network.into())),
        ("https://nowhere.wild.example/", Err(EgressError::Unresolvable)),
        ("https://unknown.wild.example/", Err(EgressError::Unresolvable)),
    ];
    for (url, expected) in vectors {
        assert_eq!(verdict(&egress, &names, url).await, *expected, "{url}");
    }
    assert!(LITERALS.len() + vectors.iter().filter(|(_, expected)| expected.is_err()).count() >= 60);
    // What is not allowed is not even looked up: a name is a message to whoever serves it.
    assert!(names.asked().iter().all(|name| !name.contains("evil")), "{:?}", names.asked());
}

#[tokio::test]
async fn nothing_is_allowed_that_is_not_listed() {
    let egress = egress(&[], &["0.0.0.0/0"], Names::of(&[]), EgressLimits::default());
    let answer = egress.send("test.tool", get("https://allowed.example/")).await;
    assert_eq!(answer.unwrap_err(), EgressError::Blocked(Rule::AllowList));
    assert_eq!(refused(&egress), 1);
}
