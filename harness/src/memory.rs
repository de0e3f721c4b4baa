//! How much memory this process used, and the bound it promises.

/// What a process may use beyond its cache: a tenth of it …
const SHARE: u64 = 10;
/// … and this much.
const FIXED: u64 = 64 << 20;

/// The most resident memory so far, in bytes; none if the kernel does not tell.
pub(crate) fn peak() -> Option<u64> {
    field(
        &std::fs::read_to_string("/proc/self/status").ok()?,
        "VmHWM:",
    )
}

/// Resident memory now, in bytes; none if the kernel does not tell.
pub(crate) fn resident() -> Option<u64> {
    field(
        &std::fs::read_to_string("/proc/self/status").ok()?,
        "VmRSS:",
    )
}

/// The bound for a cache of this size.
pub(crate) fn bound(cache: u64) -> u64 {
    cache + cache / SHARE + FIXED
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(
            field("VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\n", "VmHWM:"),
            Some(1234 << 10)
        );
        assert_eq!(field("", "VmHWM:"), None);
        assert!(peak().is_none_or(|p| p > 1 << 20));
    }

    #[test]
    fn the_bound_is_cache_and_a_tenth_and_64_mib() {
        assert_eq!(bound(256 << 20), 362_387_865);
    }
}
