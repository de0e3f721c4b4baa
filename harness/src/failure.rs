//! What ends a command early, and the exit code it ends with.

use std::fmt;
use std::io::ErrorKind;

use gaur::Error;
use gaur_iodriver::IoErrorKind;

/// How a command that found nothing wrong ends.
pub(crate) const FINE: u8 = 0;
/// Damage was found, or a bound was missed.
pub(crate) const FOUND: u8 = 1;
/// The command line or configuration is wrong, or the request was refused.
pub(crate) const REFUSED: u8 = 2;

/// One line for standard error, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// [`FOUND`] or [`REFUSED`].
    pub(crate) code: u8,
    message: String,
    /// Further lines, if several things are wrong.
    more: Vec<String>,
}

/// What commands return: the exit code, or why they ended early.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// Wrong usage, or something that cannot be done as asked.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            code: REFUSED,
            message: message.into(),
            more: Vec::new(),
        }
    }

    /// Several things are wrong: a line for each.
    pub(crate) fn several(messages: impl IntoIterator<Item = String>) -> Self {
        let mut messages = messages.into_iter();
        Self {
            code: REFUSED,
            message: messages.next().unwrap_or_default(),
            more: messages.collect(),
        }
    }

    /// The same, with more said.
    pub(crate) fn adding(mut self, what: &str) -> Self {
        self.message = format!("{}; {what}", self.message);
        self
    }

    /// The lines for standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        let more = self.more.iter().map(|m| one_line(m));
        std::iter::once(one_line(&self.message))
            .chain(more)
            .collect()
    }

    /// Data is not what it must be, or a bound was missed.
    pub(crate) fn found(message: impl Into<String>) -> Self {
        Self {
            code: FOUND,
            message: message.into(),
            more: Vec::new(),
        }
    }

    /// The engine said no while `doing`.
    pub(crate) fn engine(doing: &str, error: Error) -> Self {
        Self {
            code: code_of(&error),
            message: format!("{doing}: {}", told(&error)),
            more: Vec::new(),
        }
    }

    /// A file could not be read or written.
    pub(crate) fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let next = match error.kind() {
            ErrorKind::NotFound => "; check the path",
            ErrorKind::PermissionDenied => "; change its permissions, or run as another user",
            ErrorKind::NotADirectory => "; name another place",
            ErrorKind::AlreadyExists => "; name another, or remove it",
            ErrorKind::IsADirectory => "; name a file",
            ErrorKind::StorageFull => "; make room there",
            _ => "",
        };
        Self::refused(format!("cannot {doing} {}: {error}{next}", path.display()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: code_of(&error),
            message: told(&error),
            more: Vec::new(),
        }
    }
}

/// The error, and what to do next where it does not say so itself.
fn told(error: &Error) -> String {
    let e = match error {
        Error::Io(e) => e,
        Error::NoSuchTree(name) => {
            return format!("no tree named {name:?}; gaur stat lists the trees");
        }
        Error::BadOption { name, detail } => return format!("{}: {detail}", as_given(name)),
        _ => return error.to_string(),
    };
    if e.what != "open" {
        return error.to_string();
    }
    // Nothing was transferred yet: what failed is the opening of a path.
    let next = match e.kind {
        _ if e.detail.contains(';') => "",
        IoErrorKind::NotFound => "; check the path, or make a store with gaur format",
        IoErrorKind::Denied => "; run as root, or change its permissions",
        IoErrorKind::Unsupported => "; name a block device or a file",
        IoErrorKind::Misaligned => "; give a size as in 1GiB",
        _ => "; gaur device tells more",
    };
    format!("{}{next}", e.detail)
}

/// An option of the engine as users give it: on the command line, or to a run.
fn as_given(name: &str) -> String {
    let in_run = |key: &str| format!("--{}, or store.{key} of a run", key.replace('_', "-"));
    match name {
        "cache_bytes" => in_run("cache"),
        "size" | "log_size" | "block_size" | "sparse" | "buffered_interval" => in_run(name),
        "tree name" => "--tree, or store.tree of a run".to_owned(),
        "threads" => "cannot go on".to_owned(),
        // Set by nobody but the tool itself.
        other => other.replace('_', " "),
    }
}

/// Lost or doubtful data is a finding; everything else is a refusal.
fn code_of(error: &Error) -> u8 {
    match error {
        Error::Damaged(_)
        | Error::Shrunk { .. }
        | Error::Stopped(_)
        | Error::OutcomeUnknown { .. } => FOUND,
        Error::Io(e) if matches!(e.kind, IoErrorKind::Failed | IoErrorKind::OutOfRange) => FOUND,
        _ => REFUSED,
    }
}

/// One line, whatever a lower layer put into its message.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    if lines.is_empty() {
        return "failed".to_owned();
    }
    lines.join("; ")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let f = Failure::refused("first\n  second\n\nthird");
        assert_eq!(f.to_string(), "first; second; third");
        let f = Failure::several(["a\nb".to_owned(), "c".to_owned()]);
        assert_eq!(f.lines(), ["a; b", "c"]);
    }
}
