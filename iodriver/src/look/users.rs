//! Who uses a device or a file: mounts, swap, devices built on it, processes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::IoError;
use crate::open::guard::{block_number, unescape};
use crate::open::open_os_error;
use crate::sysfs::{BlockDir, DevNumber};
use crate::target::is_block_device;

/// Everybody who uses it, or a device that shares blocks with it: its partitions,
/// or the disk it is a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Mounted file systems.
    pub mounts: Vec<Mount>,
    /// Devices (or files) used as swap.
    pub swap: Vec<String>,
    /// `holder on device`: device mapper, RAID.
    pub holders: Vec<String>,
    /// Loop devices that show this file.
    pub loops: Vec<String>,
    /// Processes that have it open, this one left out.
    pub processes: Vec<Process>,
    /// Processes whose open files may not be looked at.
    pub processes_not_seen: usize,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub device: String,
    /// Where.
    pub at: String,
    /// The file system's type.
    pub fs_type: String,
}

/// A process that has it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// What it has open, as it named it.
    pub path: String,
    /// Whether it may write there; `None` if that may not be looked at.
    pub writes: Option<bool>,
}

impl Users {
    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
            && self.swap.is_empty()
            && self.holders.is_empty()
            && self.loops.is_empty()
            && self.processes.is_empty()
    }
}

/// What is looked for among open files.
enum Wanted {
    Devices(Vec<DevNumber>),
    File { dev: u64, ino: u64 },
}

impl Wanted {
    fn is(&self, m: &fs::Metadata) -> bool {
        match self {
            Self::Devices(numbers) => {
                is_block_device(m) && numbers.contains(&DevNumber::new(m.rdev()))
            }
            Self::File { dev, ino } => (m.dev(), m.ino()) == (*dev, *ino),
        }
    }
}

/// Looks for the users of the block device or file at `path`. Who may not look at
/// others' processes does not see all of them.
///
/// # Errors
/// If there is nothing at `path`, or nothing that may be looked at.
pub fn users(path: impl AsRef<Path>) -> Result<Users, IoError> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|e| open_os_error(path, &e))?;
    let mut users = Users::default();
    let wanted = if is_block_device(&metadata) {
        let dev = DevNumber::new(metadata.rdev());
        let sys = BlockDir::of(dev);
        let relatives = sys.as_ref().map_or_else(|| vec![dev], BlockDir::relatives);
        users.mounts = mounts(&relatives);
        users.swap = swap(&relatives, None);
        for &d in &relatives {
            if let Some(dir) = BlockDir::of(d) {
                let name = dir.own.file_name().unwrap_or_default().to_string_lossy();
                let on = |holder: String| format!("{holder} on {name}");
                users.holders.extend(dir.holders().into_iter().map(on));
            }
        }
        Wanted::Devices(relatives)
    } else {
        let real = fs::canonicalize(path).map_err(|e| open_os_error(path, &e))?;
        users.swap = swap(&[], Some(&real));
        users.loops = loops(&real);
        Wanted::File {
            dev: metadata.dev(),
            ino: metadata.ino(),
        }
    };
    processes(&wanted, &mut users);
    Ok(users)
}

/// The lines of `/proc/self/mountinfo` that are about these devices.
fn mounts(devices: &[DevNumber]) -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split_ascii_whitespace();
            let number = front.nth(2)?;
            let at = unescape(front.nth(1)?);
            let mut back = back.split_ascii_whitespace();
            let (fs_type, source) = (back.next()?.to_owned(), unescape(back.next()?));
            let own = devices.iter().any(|d| d.to_string() == number);
            // File systems of several devices have a number of their own.
            let named = || {
                source.starts_with('/')
                    && block_number(Path::new(&source)).is_some_and(|d| devices.contains(&d))
            };
            (own || named()).then_some(Mount {
                device: source,
                at,
                fs_type,
            })
        })
        .collect()
}

fn swap(devices: &[DevNumber], file: Option<&Path>) -> Vec<String> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| Some(unescape(line.split_ascii_whitespace().next()?)))
        .filter(|name| {
            let name = Path::new(name);
            Some(name) == file || block_number(name).is_some_and(|d| devices.contains(&d))
        })
        .collect()
}

/// Loop devices that show a file.
fn loops(file: &Path) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|e| {
            fs::read_to_string(e.path().join("loop/backing_file"))
                .is_ok_and(|t| Path::new(t.trim_end_matches('\n')) == file)
        })
        .map(|e| format!("/dev/{}", e.file_name().to_string_lossy()))
        .collect();
    found.sort();
    found
}

/// Walks `/proc/*/fd`, as far as that is permitted.
fn processes(wanted: &Wanted, users: &mut Users) {
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let dir = entry.path();
        let Ok(open) = fs::read_dir(dir.join("fd")) else {
            // It ended meanwhile, or it is another's.
            users.processes_not_seen += usize::from(dir.exists());
            continue;
        };
        let mut found: Option<Process> = None;
        for fd in open.flatten() {
            let Ok(target) = fs::read_link(fd.path()) else {
                continue;
            };
            // Sockets and pipes have no path; a look at what has one may wait for a
            // server, but not where it can be a disk.
            if !target.is_absolute() || !fs::metadata(fd.path()).is_ok_and(|m| wanted.is(&m)) {
                continue;
            }
            let writes = writes(&dir, &fd.file_name().to_string_lossy());
            match &mut found {
                Some(p) => p.writes = p.writes.max(writes),
                None => {
                    found = Some(Process {
                        pid,
                        name: fs::read_to_string(dir.join("comm"))
                            .map(|t| t.trim_end().to_owned())
                            .unwrap_or_default(),
                        path: target.display().to_string(),
                        writes,
                    });
                }
            }
        }
        users.processes.extend(found);
    }
    users.processes.sort_by_key(|p| p.pid);
}

/// Whether a descriptor may be written to.
fn writes(process: &Path, fd: &str) -> Option<bool> {
    let text = fs::read_to_string(process.join("fdinfo").join(fd)).ok()?;
    let flags = text.lines().find_map(|l| l.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_a_file_open_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        fs::write(&path, "x").unwrap();
        assert!(users(&path).unwrap().is_empty());
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(fs::File::open(&path).unwrap()))
            .spawn()
            .unwrap();
        let found = users(&path).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let [process] = found.processes.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(process.pid, child.id());
        assert_eq!(process.writes, Some(false));
        assert!(users(&path).unwrap().is_empty());
    }

    #[test]
    fn the_root_file_systems_device_is_mounted() {
        let dev = DevNumber::new(fs::metadata("/").unwrap().dev());
        if dev.major == 0 {
            println!("skipped: the root file system has no block device");
            return;
        }
        assert!(mounts(&[dev]).iter().any(|m| m.at == "/"));
    }
}
