//! How much memory this process may use: the machine's, or less where a container says so.

/// Bytes of RAM, at most what the control groups of this process allow.
#[cfg(target_os = "linux")]
pub(super) fn total_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let ram = mem_total(&meminfo)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    Some(limits.fold(ram, u64::min))
}

/// Bytes of RAM.
#[cfg(target_os = "macos")]
pub(super) fn total_bytes() -> Option<u64> {
    crate::sysctl::number(c"hw.memsize").filter(|bytes| *bytes > 0)
}

/// Not known here.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn total_bytes() -> Option<u64> {
    None
}

/// The `MemTotal` line of /proc/meminfo, in bytes.
#[cfg(any(target_os = "linux", test))]
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The files that may hold a limit for a process with this /proc/self/cgroup: those of its group
/// and of every group above, of version 2 (`0::/path`) and 1 (`4:memory:/path`).
#[cfg(any(target_os = "linux", test))]
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{file}"));
            let Some((parent, _)) = path.rsplit_once('/') else {
                break;
            };
            path = parent;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mem_total_is_read_in_bytes() {
        let meminfo = "MemFree:  1 kB\nMemTotal:       16384 kB\nCached: 3 kB\n";
        assert_eq!(mem_total(meminfo), Some(16384 * 1024));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn limits_of_every_group_above_count_in_both_versions() {
        assert_eq!(
            limit_files("0::/user/app\n"),
            [
                "/sys/fs/cgroup/user/app/memory.max",
                "/sys/fs/cgroup/user/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            limit_files("7:cpu:/a\n4:hugetlb,memory:/\n"),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
    }
}
