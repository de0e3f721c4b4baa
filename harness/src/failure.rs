//! What ends a command early, and the exit code it ends with.

use std::fmt;

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
}

/// What commands return: the exit code, or why they ended early.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// Wrong usage, or something that cannot be done as asked.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            code: REFUSED,
            message: message.into(),
        }
    }

    /// Data is not what it must be, or a bound was missed.
    pub(crate) fn found(message: impl Into<String>) -> Self {
        Self {
            code: FOUND,
            message: message.into(),
        }
    }

    /// The engine said no while `doing`.
    pub(crate) fn engine(doing: &str, error: Error) -> Self {
        Self {
            code: code_of(&error),
            message: format!("{doing}: {error}"),
        }
    }

    /// A file could not be read or written.
    pub(crate) fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::refused(format!("cannot {doing} {}: {error}", path.display()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: code_of(&error),
            message: error.to_string(),
        }
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a lower layer put into its message.
        let mut lines = self
            .message
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty());
        f.write_str(lines.next().unwrap_or("failed"))?;
        lines.try_for_each(|line| write!(f, "; {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let f = Failure::refused("first\n  second\n\nthird");
        assert_eq!(f.to_string(), "first; second; third");
    }
}
