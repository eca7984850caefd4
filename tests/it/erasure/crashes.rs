use futures::future::join_all;

use super::{erase, say, tables_with, toolgate};
use crate::app::TestApp;

/// Wherever an erasure dies, the same again completes it.
#[tokio::test]
async fn an_erasure_that_died_is_completed_by_the_next() {
    let app = TestApp::start().await;
    let points = [
        "erase.suspended",
        "erase.recorded",
        "keys.replaced",
        "erase.buried",
        "erase.destroyed",
        "erase.artifacts",
        "erase.projected",
        "erase.discarded",
    ];
    let tenants = points.iter().enumerate().map(|(number, point)| (format!("zeisig{number}x"), *point, app.admin()));
    join_all(tenants.map(|(word, point, client)| {
        let stack = &app.stack;
        async move {
            say(&client, &word, None).await;
            let tenant = client.tenant.0.to_string();
            let arguments = ["tenant", "erase", "--tenant", &tenant, "--yes"];
            let died = toolgate(stack, &arguments, &[("TOOLGATE_CRASH_AT", point)]).await;
            assert!(!died.status.success(), "it was to die at {point}");
            erase(stack, &client, &[]).await;
            assert_eq!(tables_with(stack, &word).await, [] as [&str; 0], "{point}");
            let held = stack.log().await.keys().custody().unwrap().list().await.unwrap();
            let own: Vec<_> = held.iter().filter(|held| held.tenant == client.tenant.id()).collect();
            assert!(
                own.iter().all(|held| held.entry.keys.is_empty() && held.entry.erased.is_some() && held.damage.is_none())
                    && !own.is_empty(),
                "{point}"
            );
            let erasures =
                format!("select count(*) from audit_event where tenant_id = '{tenant}' and event_type = 'data_erased'");
            assert_eq!(stack.count(&erasures).await, 1, "{point}");
        }
    }))
    .await;
}
