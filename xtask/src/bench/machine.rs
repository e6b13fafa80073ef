//! What the machine is and what room it has.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde::Serialize;

/// The hardware that a run is quoted with.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) hardware_threads: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) os: String,
}

impl Machine {
    pub(crate) fn current() -> Self {
        let named = || {
            let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
            let line = info.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let cpu = named().or_else(|| output("sysctl", &["-n", "machdep.cpu.brand_string"]));
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            hardware_threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory_bytes: meminfo("MemTotal:").or_else(total_memory),
            os: output("uname", &["-sr"]).unwrap_or_default(),
        }
    }
}

/// What a program prints, if it runs and succeeds.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn meminfo(key: &str) -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with(key))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn total_memory() -> Option<u64> {
    output("sysctl", &["-n", "hw.memsize"])?.parse().ok()
}

/// Refuses a run that the memory cannot hold: a machine that swaps or kills measures nothing.
///
/// # Errors
/// With the bytes that are needed and those that are there. Where the system does not tell, the
/// run may try.
pub(crate) fn check_memory(what: &str, weights: u64, caches: u64) -> Result<()> {
    let available = meminfo("MemAvailable:").or_else(total_memory);
    check(what, weights, caches, available)
}

fn check(what: &str, weights: u64, caches: u64, available: Option<u64>) -> Result<()> {
    let needed = weights + caches;
    match available {
        Some(available) if needed > available => bail!(
            "{what} needs {needed} bytes of memory ({weights} for weights, {caches} for caches) and \
             {available} are available; choose a smaller shape, fewer bits or a shorter prompt"
        ),
        _ => Ok(()),
    }
}

/// Refuses to fill the disk that `dir` is on.
///
/// # Errors
/// With the bytes that are needed and those that are free.
pub(crate) fn check_disk(dir: &Path, needed: u64) -> Result<()> {
    let shown = output("df", &["-Pk", &dir.to_string_lossy()]);
    let free = shown.as_deref().and_then(|shown| {
        let kilobytes = shown.lines().last()?.split_whitespace().nth(3)?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    });
    match free {
        Some(free) if needed > free => bail!(
            "{} needs {needed} bytes for the weights and {free} are free; make room or set \
             CARGO_TARGET_DIR to another disk",
            dir.display()
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_refused_with_the_bytes_needed() {
        let error = check("qwen3-8b in bf16", 700, 324, Some(1023)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("1024 bytes") && error.contains("1023"),
            "{error}"
        );
        assert!(!error.contains('\n'));
        assert!(check("", 700, 324, Some(1024)).is_ok());
        assert!(check("", 700, 324, None).is_ok());
    }

    #[test]
    fn the_disk_is_asked() {
        assert!(check_disk(&std::env::temp_dir(), 1).is_ok());
        assert!(check_disk(&std::env::temp_dir(), 1 << 60).is_err());
    }
}
