use std::collections::BTreeSet;

use axum::Router;

/// Every path that a router knows. Its `Debug` form is the only way to ask it, so this is for tests: no route is to stay out of the
/// API's description unseen.
#[must_use]
pub fn paths_of<S>(routes: &Router<S>) -> BTreeSet<String> {
    let text = format!("{routes:?}");
    let text = text.split("fallback_router").next().unwrap_or_default();
    // Entries look like `RouteId(0): "/path"`; the rest of an entry has no text that begins with a slash.
    let entries = text.split("RouteId(").filter_map(|entry| entry.split('"').nth(1));
    entries.filter(|path| path.starts_with('/')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};

    use super::*;

    #[test]
    fn no_route_stays_unseen() {
        let routes = Router::<()>::new().route("/a", get(|| async {})).route("/a/{id}/b", post(|| async {}));
        let merged = routes.merge(Router::new().route("/c", get(|| async {}).post(|| async {}))).fallback(|| async {});
        assert_eq!(paths_of(&merged).into_iter().collect::<Vec<_>>(), ["/a", "/a/{id}/b", "/c"]);
    }
}
