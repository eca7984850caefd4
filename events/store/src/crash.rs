//! Named places where a test may cut the power.

/// Ends the process at once, as `kill -9` would, when `TOOLGATE_CRASH_AT` names this place. Nothing in a release build.
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("TOOLGATE_CRASH_AT").is_some_and(|at| at == name) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
