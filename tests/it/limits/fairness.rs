//! A tenant that floods gets its share, and nobody else notices.

use std::time::Instant;

use super::{count, post_many, slid};
use crate::app::TestApp;

const LIMIT: u64 = 60;

#[tokio::test]
async fn a_flood_gets_exactly_its_share_and_nobody_else_is_refused() {
    let app = TestApp::start_with(|settings| settings.rate_limit_per_minute = LIMIT as u32).await;
    let (noisy, quiet) = (app.admin(), app.admin());
    let began = Instant::now();
    let flood = [&noisy];
    let calls = [&quiet];
    let (flood, calls) = tokio::join!(post_many(&flood, 10 * LIMIT as usize, 32), post_many(&calls, LIMIT as usize, 1));
    assert_eq!(count(&calls, 202), LIMIT, "the quiet tenant is within its limit");
    let accepted = count(&flood, 202);
    assert!((LIMIT..=LIMIT + slid(LIMIT, began)).contains(&accepted), "{accepted}");
    assert_eq!(accepted + count(&flood, 429), 10 * LIMIT);
}
