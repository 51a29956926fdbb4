//! Processor time and memory of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that all threads of this process have used.
pub fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// The most memory this process ever held, in bytes; `None` where /proc doesn't say.
pub fn peak_rss_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// The process that traces this one, a debugger say; 0 if there is none, `None` where /proc doesn't say.
pub fn tracer() -> Option<u64> {
    line("/proc/self/status", "TracerPid:")?.parse().ok()
}

/// Memory that could be had without swapping, in bytes; `None` where /proc doesn't say.
pub fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// All the memory of this machine, in bytes; `None` where /proc doesn't say.
pub fn total_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemTotal:")
}

/// A line `Name:   1234 kB` of a /proc file, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let line = line(path, name)?;
    let kilobytes: u64 = line.strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// What follows `name` in a /proc file.
fn line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_tell_something() {
        let before = process_cpu();
        let sum = (0..5_000_000u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        std::hint::black_box(sum);
        assert!(process_cpu() > before);
        assert!(peak_rss_bytes().unwrap() > 100_000);
        assert!(available_bytes().unwrap() < total_bytes().unwrap());
    }
}
