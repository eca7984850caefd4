use std::time::Duration;

use http::HeaderMap;

/// The longest a caller may wait, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 60;

/// `wait` of the `Prefer` header (RFC 7240), shortened to what this API offers. What it cannot read it ignores, as the RFC asks.
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let seconds = preferences.into_iter().find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let seconds: u64 = name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().ok())??;
        Some(seconds.min(MAX_WAIT_SECONDS))
    })?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("prefer"), value.parse().unwrap())]);
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_wait_is_found_among_others_and_bounded() {
        assert_eq!(seconds("wait=1"), Some(1));
        assert_eq!(seconds("respond-async, Wait=10; x"), Some(10));
        assert_eq!(seconds("wait=59"), Some(59));
        assert_eq!(seconds("wait=60"), Some(60));
        assert_eq!(seconds("wait=61"), Some(60));
        for none in ["wait=0", "wait", "wait=-1", "wait=x", "return=minimal", ""] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }
}
