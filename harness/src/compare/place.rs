//! Where the engines work: a device that each has in turn, or a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use gaur::{FormatOptions, Store};

use super::plan::Engine;
use crate::failure::Failure;

/// What is made is called this, and the process's number.
const DIRECTORY: &str = "gaur-compare";
/// Both superblocks of a store lie in the first bytes.
const SUPERBLOCKS: usize = 2 << 20;

/// Where the engines work.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A block device: ours has it raw, the others a file system made on it.
    Device { device: PathBuf, mount: PathBuf },
    /// A directory, which is not comparable.
    Dir { dir: PathBuf },
}

/// The place, made ready for one engine.
#[derive(Debug)]
pub(super) struct Ready {
    path: PathBuf,
    mounted: Option<PathBuf>,
    remove: Option<PathBuf>,
}

impl Place {
    /// A device. All on it is lost; what is in use is refused, and what is not empty
    /// too, unless `force`.
    pub(crate) fn of_device(device: &Path, force: bool) -> Result<Self, Failure> {
        use std::os::unix::fs::FileTypeExt as _;
        let meta = std::fs::metadata(device).map_err(|e| Failure::file("look at", device, &e))?;
        if !meta.file_type().is_block_device() {
            return Err(Failure::refused(format!(
                "{}: is no block device; name one, or a directory by --dir",
                device.display()
            )));
        }
        let options = FormatOptions {
            force,
            ..FormatOptions::default()
        };
        // All refusals of a format, and it writes nothing.
        Store::plan_format(device, &options)?;
        for tool in ["mkfs.ext4", "wipefs", "mount", "umount"] {
            if !found(tool) {
                return Err(Failure::refused(format!(
                    "{tool} is not to be found; install e2fsprogs and util-linux, or use --dir"
                )));
            }
        }
        let mount = std::env::temp_dir().join(format!("{DIRECTORY}-{}", std::process::id()));
        Ok(Self::Device {
            device: device.to_path_buf(),
            mount,
        })
    }

    /// Gives this process and its children mounts of their own: however they end, the
    /// kernel then unmounts what they mounted. To be called before there are threads.
    pub(crate) fn seclude(&self) -> Result<(), Failure> {
        use nix::mount::{MsFlags, mount};
        if matches!(self, Self::Dir { .. }) {
            return Ok(());
        }
        let none = None::<&str>;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
            .map_err(|e| {
                Failure::refused(format!(
                    "cannot mount for itself alone: {e}; run as root, or use --dir"
                ))
            })
    }

    /// A directory, in which one is made and removed.
    pub(crate) fn of_dir(dir: &Path) -> Result<Self, Failure> {
        let meta = std::fs::metadata(dir).map_err(|e| Failure::file("look at", dir, &e))?;
        if !meta.is_dir() {
            return Err(Failure::refused(format!(
                "{}: is no directory; name one",
                dir.display()
            )));
        }
        Ok(Self::Dir {
            dir: dir.join(format!("{DIRECTORY}-{}", std::process::id())),
        })
    }

    /// The device whose counters tell of flushes.
    pub(super) fn device(&self) -> Option<&Path> {
        match self {
            Self::Device { device, .. } => Some(device),
            Self::Dir { .. } => None,
        }
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Device { device, .. } => format!(
                "{}: gaur on it raw, the others on ext4 made on it each time",
                device.display()
            ),
            Self::Dir { dir } => format!(
                "files in {}: NOT COMPARABLE, gaur is made for a device",
                dir.parent().unwrap_or(dir).display()
            ),
        }
    }

    /// What makes the figures of less worth.
    pub(super) fn notes(&self) -> Vec<String> {
        let Self::Device { device, .. } = self else {
            return Vec::new();
        };
        let Some(name) = device
            .file_name()
            .map(|n| n.to_string_lossy())
            .filter(|n| n.starts_with("loop"))
        else {
            return Vec::new();
        };
        let dio = std::fs::read_to_string(format!("/sys/block/{name}/loop/dio"));
        match dio.is_ok_and(|d| d.trim() == "1") {
            true => Vec::new(),
            false => vec![
                "this loop device goes through the page cache; attach it by losetup --direct-io=on"
                    .into(),
            ],
        }
    }

    /// Makes it ready for this engine, empty.
    pub(super) fn prepare(&self, engine: Engine) -> Result<Ready, Failure> {
        let (device, mount) = match self {
            Self::Device { device, mount } => (device, mount),
            Self::Dir { dir } => {
                make(dir)?;
                let path = dir.join(engine.name());
                if engine != Engine::Gaur {
                    make(&path)?;
                }
                return Ok(Ready {
                    path: path.clone(),
                    mounted: None,
                    remove: Some(path),
                });
            }
        };
        if engine == Engine::Gaur {
            return Ok(Ready {
                path: device.clone(),
                mounted: None,
                remove: None,
            });
        }
        // All is made now, so that nothing of it runs beside what is measured; and no
        // discard, so that the blocks stay as warm as they are.
        tool(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-E"])
                .arg("nodiscard,lazy_itable_init=0,lazy_journal_init=0")
                .arg(device),
        )?;
        make(mount)?;
        tool(
            Command::new("mount")
                .args(["-t", "ext4", "-o", "noatime"])
                .args([device, mount]),
        )?;
        let mut ready = Ready {
            path: mount.join(engine.name()),
            mounted: Some(mount.clone()),
            remove: None,
        };
        if let Err(e) = make(&ready.path) {
            ready.unmount()?;
            return Err(e);
        }
        Ok(ready)
    }

    /// Leaves nothing behind.
    pub(super) fn clean(&self) -> Result<(), Failure> {
        match self {
            Self::Device { device, mount } => {
                remove(mount)?;
                tool(Command::new("wipefs").args(["-q", "-a"]).arg(device))?;
                superblocks_off(device)
            }
            Self::Dir { dir } => remove(dir),
        }
    }
}

impl Ready {
    /// The device or file of our store, or the directory of another's.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the use of it.
    pub(super) fn give_back(mut self) -> Result<(), Failure> {
        self.unmount()?;
        match self.remove.take() {
            Some(path) => remove(&path),
            None => Ok(()),
        }
    }

    fn unmount(&mut self) -> Result<(), Failure> {
        match self.mounted.take() {
            Some(mount) => tool(Command::new("umount").arg(mount)),
            None => Ok(()),
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // Reached with something mounted only on the way out of a failure, which is
        // what is told.
        let _ = self.unmount();
    }
}

/// Has the kernel forget what it holds of files; without root nothing happens.
pub(super) fn drop_caches() {
    // What is dirty cannot be dropped.
    nix::unistd::sync();
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
}

fn make(dir: &Path) -> Result<(), Failure> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Failure::file("make", dir, &e))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let done = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    match done {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file("remove", path, &e))
        }
        _ => Ok(()),
    }
}

/// Writes zeros over both superblocks of a store of ours, which `wipefs` does not know.
fn superblocks_off(device: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::FileExt as _;
    let wrong = |e: std::io::Error| Failure::file("write", device, &e);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(device)
        .map_err(wrong)?;
    file.write_all_at(&vec![0; SUPERBLOCKS], 0).map_err(wrong)?;
    file.sync_all().map_err(wrong)
}

fn found(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .any(|dir| dir.join(program).is_file())
    })
}

/// Runs a program of the system.
fn tool(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let out = command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .map_err(|e| Failure::refused(format!("cannot run {name}: {e}")))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(Failure::refused(format!(
        "{name}: {}; run as root",
        said.trim()
    )))
}
