//! Running the tool as its users do, and loop devices to run it on.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The tool's outcome.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A directory of its own, and the tool run in it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // Beside the build, not in /tmp, which may be memory without O_DIRECT.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Runs the tool here.
    pub(crate) fn gaur<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_gaur"))
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .expect("the tool starts");
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        Said {
            code: status.code().expect("an exit code"),
            out: String::from_utf8(stdout).expect("text"),
            err: String::from_utf8(stderr).expect("text"),
        }
    }

    /// Starts the tool here; its output goes to `log`.
    pub(crate) fn start(&self, line: &str, log: &str) -> std::process::Child {
        let log = File::create(self.path(log)).expect("a log");
        Command::new(env!("CARGO_BIN_EXE_gaur"))
            .args(line.split(' '))
            .current_dir(self.dir.path())
            .stderr(log.try_clone().expect("a log"))
            .stdout(log)
            .spawn()
            .expect("the tool starts")
    }

    /// Splits `line` at spaces and runs it, which must end well.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.gaur(line.split(' '));
        assert_eq!(said.code, 0, "gaur {line}: {}", said.err);
        said.out
    }

    /// The same, with JSON on standard output.
    pub(crate) fn json(&self, line: &str) -> Value {
        let out = self.ok(line);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("gaur {line}: {e}\n{out}"))
    }

    /// Runs it, which must be refused: exit code 2, one line, nothing on
    /// standard output.
    pub(crate) fn refused(&self, line: &str) -> String {
        let said = self.gaur(line.split(' '));
        assert_eq!(said.code, 2, "gaur {line}: {} {}", said.out, said.err);
        assert_eq!(said.err.lines().count(), 1, "gaur {line}: {}", said.err);
        assert!(said.err.starts_with("gaur: "), "{}", said.err);
        assert_eq!(said.out, "", "gaur {line}");
        said.err
    }
}

/// An attached loop device, detached in the end.
pub(crate) struct LoopDevice {
    path: PathBuf,
    image: PathBuf,
}

impl LoopDevice {
    /// A loop device of `bytes` with direct I/O in `place`; none, and the reason
    /// printed, where there is no way.
    pub(crate) fn attach(place: &Place, sector: u32, bytes: u64) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: loop devices need root");
            return None;
        }
        let image = place.path(&format!("image-{sector}"));
        File::create(&image)
            .and_then(|f| f.set_len(bytes))
            .expect("an image");
        let mut last = String::new();
        // Finding a free device and taking it are two steps: others may be between.
        for _ in 0..20 {
            let output = Command::new("losetup")
                .args(["--find", "--show", "--direct-io=on", "--sector-size"])
                .arg(sector.to_string())
                .arg(&image)
                .output();
            match output {
                Err(e) => {
                    println!("skipped: no losetup: {e}");
                    return None;
                }
                Ok(o) if o.status.success() => {
                    let path = String::from_utf8_lossy(&o.stdout).trim().to_owned();
                    return Some(Self {
                        path: path.into(),
                        image,
                    });
                }
                Ok(o) => last = String::from_utf8_lossy(&o.stderr).trim().to_owned(),
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        println!("skipped: losetup refused: {last}");
        None
    }

    /// Makes the device larger, whoever has it open.
    pub(crate) fn enlarge(&self, bytes: u64) {
        let image = File::options().write(true).open(&self.image);
        image
            .and_then(|f| f.set_len(bytes))
            .expect("a longer image");
        let status = Command::new("losetup").arg("-c").arg(&self.path).status();
        assert!(status.expect("losetup").success());
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// As the command line takes it.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
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
