//! Holding a process to a memory limit, by control groups: the page cache of what it
//! reads and writes counts as its own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::units;

/// Where control groups of version 2 and of version 1 usually are.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// The way to limit memory on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Limiter {
    /// By version 2: the group below which new ones are made.
    Two(PathBuf),
    /// By version 1.
    One(PathBuf),
    /// There is none, for this reason.
    None(String),
}

/// A group, removed when dropped.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty when its only process has ended; else it stays, and does no harm.
        let _ = fs::remove_dir(&self.0);
    }
}

impl Limiter {
    /// Looks which way there is.
    pub(super) fn find() -> Self {
        for root in UNIFIED.map(Path::new) {
            let controllers = fs::read_to_string(root.join("cgroup.controllers"));
            if !controllers.is_ok_and(|c| c.split_whitespace().any(|c| c == "memory")) {
                continue;
            }
            // New groups below the root get the controller only if it is told so.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
            let below = fs::read_to_string(root.join("cgroup.subtree_control"));
            if below.is_ok_and(|c| c.split_whitespace().any(|c| c == "memory")) {
                return Self::Two(root.to_path_buf());
            }
        }
        let root = Path::new(MEMORY);
        match root.join("memory.limit_in_bytes").exists() {
            true => Self::One(root.to_path_buf()),
            false => Self::None("no memory control group that can be used".into()),
        }
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Two(_) => "cgroup v2, memory.max; page cache counted".into(),
            Self::One(_) => "cgroup v1, memory.limit_in_bytes; page cache counted".into(),
            Self::None(why) => {
                format!("none: {why}. Cold rows of engines with the page cache below are too good")
            }
        }
    }

    /// Puts the process into a group of its own with this limit.
    pub(super) fn limit(&self, pid: u32, bytes: u64) -> Result<Option<Group>, Failure> {
        let (root, file) = match self {
            Self::Two(root) => (root, "memory.max"),
            Self::One(root) => (root, "memory.limit_in_bytes"),
            Self::None(_) => return Ok(None),
        };
        let group = Group(root.join(format!("gaur-compare-{pid}")));
        let set = || {
            fs::create_dir(&group.0)?;
            fs::write(group.0.join(file), bytes.to_string())?;
            fs::write(group.0.join("cgroup.procs"), pid.to_string())
        };
        set().map_err(|e| {
            Failure::refused(format!(
                "cannot limit memory to {} by {}: {e}; run as root, or leave out the rows \"cold\"",
                units::bytes(bytes),
                group.0.display()
            ))
        })?;
        Ok(Some(group))
    }
}
