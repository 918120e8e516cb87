//! What the kernel says of a process: CPU time, memory, and which core it may use.

use std::fs;
use std::process::Command;

use crate::failure::{Failure, Result, Trying};

/// CPU seconds (user and system, all threads) used by the process so far.
///
/// `/proc/PID/stat` counts threads that ended, in ticks of 10 ms; `schedstat` of the living threads is exact. The larger one is nearer to the truth.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).trying(&path)?;
    // The command name may hold spaces: fields are counted after its closing parenthesis.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok());
    let (Some(user), Some(system)) = (ticks(), ticks()) else {
        return Err(Failure::Usage(format!("{path} cannot be read")));
    };
    Ok(((user + system) / TICKS_PER_SECOND).max(exact_seconds(pid)))
}

/// `USER_HZ`, which Linux has fixed for programs on every architecture this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

fn exact_seconds(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0;
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e9
}

/// Resident bytes of the process.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).trying(&path)?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| Failure::Usage(format!("{path} has no VmRSS")))
}

/// Binds this process to one core.
pub(crate) fn pin_self(core: u32) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-cp", &core.to_string(), &std::process::id().to_string()])
        .stdout(std::process::Stdio::null())
        .status()
        .trying("taskset")?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Usage(format!(
            "taskset cannot bind to core {core}; try --no-pin"
        )))
    }
}

/// Bytes that the files below a directory take on disk.
pub(crate) fn disk_bytes(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
