//! Symbolic links to a device or a file.
//!
//! `/dev/disk/by-id` and its kin are links, so they are followed; but what is
//! checked, opened and named in messages is what they lead to. A link that leads
//! nowhere is an error, also where a file is to be made: whoever gave the link's
//! name may not know where the file would come to be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{IoError, IoErrorKind};

use super::{open_error, open_os_error};

/// A path, and what it leads to.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// What is opened: no link itself.
    pub(crate) target: PathBuf,
    /// The link that was given, if it was one.
    pub(crate) link: Option<PathBuf>,
}

impl Resolved {
    /// As messages call it: `/dev/disk/by-id/x → /dev/sda`.
    pub(crate) fn name(&self) -> String {
        match &self.link {
            Some(link) => format!("{} → {}", link.display(), self.target.display()),
            None => self.target.display().to_string(),
        }
    }

    /// Puts the link into a message that begins with its target.
    pub(crate) fn named(&self, e: IoError) -> IoError {
        let target = self.target.display().to_string();
        match e.detail.strip_prefix(&target) {
            Some(rest) if self.link.is_some() => IoError {
                detail: format!("{}{rest}", self.name()),
                ..e
            },
            _ => e,
        }
    }
}

/// Follows a link.
pub(crate) fn resolve(path: &Path) -> Result<Resolved, IoError> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
    if !is_link {
        return Ok(Resolved {
            target: path.to_owned(),
            link: None,
        });
    }
    match fs::canonicalize(path) {
        Ok(target) => Ok(Resolved {
            target,
            link: Some(path.to_owned()),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let to = fs::read_link(path).map_err(|e| open_os_error(path, &e))?;
            Err(open_error(
                path,
                IoErrorKind::NotFound,
                format!(
                    "is a symbolic link to {}, which does not exist; nothing was made. \
                     Name the device or file itself",
                    to.display()
                ),
            ))
        }
        Err(e) => Err(open_os_error(path, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_with_their_targets() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().canonicalize().expect("its name");
        let (file, link) = (dir.join("file"), dir.join("link"));
        assert!(resolve(&file).expect("may be made").link.is_none());
        std::os::unix::fs::symlink("file", &link).expect("a link");
        let e = resolve(&link).expect_err("leads nowhere");
        assert_eq!(e.kind, IoErrorKind::NotFound);
        assert!(e.detail.contains("link to file"), "{e}");
        fs::write(&file, b"").expect("a file");
        let resolved = resolve(&link).expect("leads there");
        assert_eq!(resolved.target, file);
        let name = format!("{} → {}", link.display(), file.display());
        assert_eq!(resolved.name(), name);
        let e = resolved.named(open_error(&file, IoErrorKind::Busy, "is in use"));
        assert_eq!(e.detail, format!("{name}: is in use"));
        // In a circle.
        fs::remove_file(&file).expect("removed");
        std::os::unix::fs::symlink("link", &file).expect("a link");
        assert!(resolve(&link).is_err());
    }
}
