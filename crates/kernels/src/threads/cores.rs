//! How many threads to use when nobody says.

use std::thread;
#[cfg(any(not(target_os = "macos"), test))]
use std::{collections::BTreeSet, path::Path};

/// The number of physical cores this process may use, at least 1.
///
/// Two hardware threads of a core share its vector units and its loads in flight, so a second one
/// brings these kernels nothing and costs a longer join. For the same reason a Mac's efficiency cores
/// are not counted: the fast ones would wait for them. Where the topology cannot be read, this is
/// [`std::thread::available_parallelism`].
pub fn physical_cores() -> usize {
    let allowed = thread::available_parallelism().map_or(1, |n| n.get());
    match cores() {
        Some(cores) if cores > 0 => allowed.min(cores),
        _ => allowed,
    }
}

#[cfg(not(target_os = "macos"))]
fn cores() -> Option<usize> {
    linux_cores(Path::new("/sys/devices/system/cpu"))
}

/// Performance cores; all cores of a Mac that has one kind.
#[cfg(target_os = "macos")]
fn cores() -> Option<usize> {
    let of = |name| {
        let cores = mlx_core::sysctl::number(name)?;
        usize::try_from(cores).ok().filter(|n| *n > 0)
    };
    of(c"hw.perflevel0.physicalcpu").or_else(|| of(c"hw.physicalcpu"))
}

/// Distinct sets of sibling hardware threads under `root`, Linux's `sysfs` folder of processors.
#[cfg(any(not(target_os = "macos"), test))]
fn linux_cores(root: &Path) -> Option<usize> {
    let mut cores = BTreeSet::new();
    for entry in std::fs::read_dir(root).ok()? {
        let siblings = entry.ok()?.path().join("topology/thread_siblings_list");
        // Folders that are not processors, and processors that are off, have no such file.
        if let Ok(list) = std::fs::read_to_string(siblings) {
            cores.insert(list);
        }
    }
    Some(cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_count_once() {
        let root = std::env::temp_dir().join(format!("kernels-cores-{}", std::process::id()));
        for (cpu, siblings) in [
            ("cpu0", "0,2\n"),
            ("cpu1", "1,3\n"),
            ("cpu2", "0,2\n"),
            ("cpu3", "1,3\n"),
        ] {
            let folder = root.join(cpu).join("topology");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("thread_siblings_list"), siblings).unwrap();
        }
        std::fs::create_dir_all(root.join("cpufreq")).unwrap();
        assert_eq!(linux_cores(&root), Some(2));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(linux_cores(&root), None);
        assert!(physical_cores() >= 1);
    }
}
