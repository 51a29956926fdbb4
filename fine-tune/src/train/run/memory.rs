//! How much memory the program holds.

/// Bytes of memory that the program holds now, and the most it ever held; `None` where the operating system doesn't say.
pub fn resident_bytes() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}
