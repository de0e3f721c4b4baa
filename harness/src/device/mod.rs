//! What `gaur device` tells: what a device is, who holds it, what is on it, and
//! what the engine will use on it.

mod data;
mod engine;
mod text;

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use gaur_iodriver::look::{self, FileFacts, Hardware, Users};
use gaur_iodriver::{Description, describe};

pub(crate) use data::{as_json, facts};
pub(crate) use engine::Engine;
pub(crate) use text::as_text;

use crate::blockdev::Counters;
use crate::cli::contents::{Contents, contents};
use crate::failure::Failure;

/// Everything that is known of a device or file.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) description: Description,
    pub(crate) counters: Option<Counters>,
    pub(crate) hardware: Option<Hardware>,
    pub(crate) file: Option<FileFacts>,
    pub(crate) users: Users,
    pub(crate) contents: Contents,
    pub(crate) engine: Engine,
}

/// Looks. Opens for reading at most, takes no lock and writes nothing, so that a
/// device in use can be looked at too.
pub(crate) fn look(path: &Path) -> Result<Report, Failure> {
    let wrong = |e: gaur_iodriver::IoError| {
        Failure::refused(format!("{}; name a block device or a file", e.detail))
    };
    if let Ok(m) = std::fs::metadata(path)
        && !m.is_file()
        && !m.file_type().is_block_device()
    {
        return Err(Failure::refused(format!(
            "{}: is neither a block device nor a file; name one",
            path.display()
        )));
    }
    let description = describe(path).map_err(wrong)?;
    let users = look::users(path).map_err(wrong)?;
    let hardware = look::hardware(path);
    Ok(Report {
        counters: Counters::read(path),
        file: look::file(path),
        contents: contents(path),
        engine: engine::look(path, &description, hardware.as_ref(), &users),
        hardware,
        users,
        description,
    })
}
