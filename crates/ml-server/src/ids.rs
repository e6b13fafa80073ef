//! Names of answers, and the time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A name that no other answer has, such as `chatcmpl-0123456789abcdef0123456789abcdef`. Nobody can guess the next
/// one, and nothing is guarded by that.
pub(crate) fn new(prefix: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let half = |salt: u64| {
        let mut hasher = KEYS.build_hasher();
        hasher.write_u64(number);
        hasher.write_u64(salt);
        hasher.finish()
    };
    format!("{prefix}{:016x}{:016x}", half(0), half(1))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
