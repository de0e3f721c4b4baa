//! A loop device that is always detached again.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An attached loop device.
pub(crate) struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `image`, with `more` arguments to losetup, or says why it cannot.
    pub(crate) fn attach(image: &Path, sector: u32, more: &[&str]) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("loop devices need root".into());
        }
        // Finding a free device and taking it are two steps, which parallel
        // tests do at once: a few tries are not a failure.
        let mut last = String::new();
        for _ in 0..20 {
            let output = Command::new("losetup")
                .args(["--find", "--show", "--sector-size", &sector.to_string()])
                .args(more)
                .arg(image)
                .output()
                .map_err(|e| format!("no losetup: {e}"))?;
            if output.status.success() {
                let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                return Ok(Self { path: path.into() });
            }
            last = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Err(format!("losetup refused: {last}"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.path)
            .status();
    }
}
