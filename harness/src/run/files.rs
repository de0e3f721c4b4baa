//! The files of a run that are written at its end, each replaced whole: `.hgrm`
//! histograms, `summary.json`, `run.toml`. `record` writes those that grow.

use std::fs;
use std::path::Path;

use super::config::Config;
use super::hgrm;
use super::measure::{Measured, Op};
use super::summary::Summary;
use crate::failure::Failure;
use crate::output;

/// Makes the directory, so that a run does not fail for it at its end. What an
/// earlier run left there goes: two runs' results must not stand side by side.
pub(crate) fn prepare(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|e| Failure::file("make the directory", dir, &e))?;
    let histograms = Op::ALL
        .into_iter()
        .flat_map(|op| ["hgrm", "service.hgrm"].map(|end| format!("{}.{end}", op.name())));
    let others = ["summary.json", "series.jsonl", "run.hlog", "report.html"];
    for name in histograms.chain(others.map(str::to_owned)) {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file("remove", &path, &e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes one histogram per operation, and per open-loop operation one more from
/// the real start.
pub(crate) fn histograms(dir: &Path, measured: &Measured) -> Result<(), Failure> {
    for (op, seen) in measured.each() {
        let write = |name: String, h| {
            let path = dir.join(name);
            let mut out = Vec::new();
            hgrm::write(h, &mut out).map_err(|e| Failure::file("write", &path, &e))?;
            replace(&path, &out)
        };
        write(format!("{}.hgrm", op.name()), &seen.latency)?;
        if let Some(service) = &seen.service {
            write(format!("{}.service.hgrm", op.name()), service)?;
        }
    }
    Ok(())
}

/// Writes the summary.
pub(crate) fn summary(path: &Path, summary: &Summary) -> Result<(), Failure> {
    let body = output::to_json(summary)? + "\n";
    if (path.is_file() || !path.exists()) && replace(path, body.as_bytes()).is_ok() {
        return Ok(());
    }
    // A device or a pipe cannot be replaced, nor what lies in another's directory.
    fs::write(path, body).map_err(|e| Failure::file("write", path, &e))
}

/// Writes the effective configuration, which repeats the run.
pub(crate) fn config(path: &Path, config: &Config) -> Result<(), Failure> {
    let body = toml::to_string_pretty(config)
        .map_err(|e| Failure::refused(format!("cannot write the configuration: {e}")))?;
    replace(path, body.as_bytes())
}

/// Writes a file beside and puts it into place: at no moment is a part of it there.
fn replace(path: &Path, body: &[u8]) -> Result<(), Failure> {
    // A link stays: what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(".part");
    let beside = Path::new(&beside);
    let done = fs::write(beside, body).and_then(|()| fs::rename(beside, path));
    done.map_err(|e| {
        // As much as can be done about it.
        let _ = fs::remove_file(beside);
        Failure::file("write", path, &e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("f"), dir.path().join("l"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&path, b"old").unwrap();
        // The place beside is taken: nothing can be written.
        fs::create_dir(dir.path().join("f.part")).unwrap();
        replace(&path, b"new").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_dir(dir.path().join("f.part")).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(link.is_symlink() && !dir.path().join("f.part").exists());
    }
}
