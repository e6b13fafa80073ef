//! Whether weights may be held apart from their files.

/// Whether the system can give `bytes` without taking them from somebody. Mapped weights need not fit:
/// their pages come and go; what is made of them would be killed for its size. Yes where the system
/// does not say.
pub(crate) fn is_there(bytes: u64) -> bool {
    available().is_none_or(|available| available > bytes)
}

/// Bytes that Linux calls available.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fits_and_everything_does_not() {
        assert!(is_there(0));
        assert_eq!(is_there(u64::MAX), available().is_none());
    }
}
