//! What is on a device, for `gaur device`.

use std::path::Path;

use gaur::Error;
use gaur::inspect::{self, InspectOptions};
use gaur_iodriver::signature::in_words;
use gaur_iodriver::{DriverChoice, OpenOptions, Signature};
use serde_json::{Value, json};

/// What a look at it gave.
#[derive(Debug)]
pub(crate) enum Contents {
    /// A store, with its id.
    Store(String),
    /// A store that cannot be used, and why.
    Broken(String),
    /// What was recognised; nothing, if it is empty or of an unknown kind.
    Other(Vec<Signature>),
    /// It could not be looked at.
    Unread(String),
}

/// Looks at what is on a device or in a file. Opens it for reading, takes no lock
/// and writes nothing, so that one in use can be looked at too.
pub(crate) fn contents(path: &Path) -> Contents {
    let o = OpenOptions {
        read_only: true,
        exclusive: false,
        driver: DriverChoice::Psync,
        ..OpenOptions::default()
    };
    let device = match gaur_iodriver::open(path, &o) {
        Ok(opened) => opened.device,
        Err(e) => return Contents::Unread(e.detail),
    };
    match inspect::superblock_device(device, &InspectOptions::default()) {
        Ok(found) => Contents::Store(
            found
                .title
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
        Err(Error::NotAStore { signatures, .. }) => Contents::Other(signatures),
        Err(Error::Io(e)) => Contents::Unread(e.to_string()),
        Err(e) => Contents::Broken(e.to_string()),
    }
}

impl Contents {
    /// For people.
    pub(crate) fn as_text(&self) -> String {
        match self {
            Self::Store(id) => format!("a gaur store (id {id})"),
            Self::Broken(why) => format!("a gaur store: {why}"),
            Self::Other(found) if found.is_empty() => "nothing that is known".to_owned(),
            Self::Other(found) => in_words(found),
            Self::Unread(why) => format!("not read: {why}"),
        }
    }

    /// For programs.
    pub(crate) fn as_json(&self) -> Value {
        match self {
            Self::Store(id) => json!({ "store_id": id }),
            Self::Broken(why) => json!({ "broken_store": why }),
            Self::Unread(why) => json!({ "unread": why }),
            Self::Other(found) => json!({
                "signatures": found.iter().map(|s| json!({
                    "kind": s.kind.to_string(),
                    "name": s.name,
                    "offset": s.offset,
                })).collect::<Vec<_>>(),
            }),
        }
    }
}
