//! What a run ran on.

use std::fs;
use std::path::Path;

use gaur::Store;
use gaur_iodriver::describe;
use serde::Serialize;

use super::store::Means;
use crate::device;

/// Facts that a reader of the figures must know.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    /// The version of this tool.
    pub(crate) gaur: &'static str,
    /// Built with optimisation; figures without it mean nothing.
    pub(crate) optimised: bool,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The processor's name.
    pub(crate) cpu: String,
    /// Processors this process may use.
    pub(crate) cpus: usize,
    /// The machine's memory in bytes.
    pub(crate) memory: u64,
    /// Whether the store is open with `O_DIRECT`; unknown if `/proc` does not tell.
    pub(crate) direct: Option<bool>,
    /// The I/O driver.
    pub(crate) driver: String,
    /// How writes are made durable.
    pub(crate) durable_method: String,
    /// The device, or the disk below a file: what `gaur device` shows.
    pub(crate) device: Option<serde_json::Value>,
    /// What is not as it was asked for.
    pub(crate) notes: Vec<String>,
}

impl Environment {
    /// Looks, while the store is open.
    pub(crate) fn look(store: &Store, means: Means, path: &Path) -> Self {
        Self {
            direct: open_with_direct(path),
            driver: means.driver,
            durable_method: means.durable_method,
            device: describe(path).ok().map(|d| device::facts(&d, None)),
            notes: store.notes(),
            ..Self::without_store()
        }
    }

    /// The machine's part, where nothing is stored.
    pub(crate) fn without_store() -> Self {
        let text = |p: &str| fs::read_to_string(p).unwrap_or_default();
        let after = |text: &str, name: &str| {
            text.lines()
                .find(|l| l.starts_with(name))
                .and_then(|l| l.split_once(':'))
                .map_or_else(String::new, |(_, v)| v.trim().to_owned())
        };
        let kib: u64 = after(&text("/proc/meminfo"), "MemTotal")
            .trim_end_matches("kB")
            .trim()
            .parse()
            .unwrap_or(0);
        Self {
            gaur: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: after(&text("/proc/cpuinfo"), "model name"),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            memory: kib << 10,
            direct: None,
            driver: "none".to_owned(),
            durable_method: "none".to_owned(),
            device: None,
            notes: Vec::new(),
        }
    }
}

/// Whether this process has `path` open with `O_DIRECT`, by the kernel's own word.
fn open_with_direct(path: &Path) -> Option<bool> {
    let wanted = fs::canonicalize(path).ok()?;
    let flag = nix::fcntl::OFlag::O_DIRECT.bits() as u32;
    let mut seen = None;
    for fd in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        if fs::read_link(fd.path()).is_ok_and(|target| target == wanted) {
            let info =
                fs::read_to_string(Path::new("/proc/self/fdinfo").join(fd.file_name())).ok()?;
            let flags = info.lines().find_map(|l| l.strip_prefix("flags:"))?;
            let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
            seen = Some(seen.unwrap_or(false) || flags & flag != 0);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_are_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(open_with_direct(file.path()), Some(false));
        assert_eq!(open_with_direct(Path::new("/proc/version")), None);
    }
}
