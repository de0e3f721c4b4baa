//! One transfer until all of it is done.
//!
//! The kernel, and the simulator at will, may do part of a transfer, or none
//! with EAGAIN or EINTR. The contract promises all of it or an error, so each
//! driver feeds every result to a [`Transfer`] and does what it says next.

use crate::error::{IoError, IoErrorKind};

/// The largest piece handed to the kernel at once. It takes at most 2 GiB less
/// a page; a round number below keeps every piece aligned.
const MAX_PIECE: u64 = 1 << 30;

/// EAGAIN is retried this often without progress before it becomes an error: a
/// device that never has resources must not hang its caller for ever.
const MAX_RETRIES: u32 = 10_000;

/// What to do after a result.
#[derive(Debug)]
pub(crate) enum Step {
    /// All is transferred.
    Done,
    /// Issue [`Transfer::piece`] next: the last one was short.
    More,
    /// Issue the same piece again: nothing was transferred this time.
    Again,
    /// It failed.
    Fail(IoError),
}

/// The state of one read or write.
#[derive(Debug)]
pub(crate) struct Transfer {
    what: &'static str,
    offset: u64,
    len: u64,
    done: u64,
    align: u64,
    retries: u32,
}

impl Transfer {
    pub(crate) fn new(what: &'static str, offset: u64, len: u64, align: u32) -> Self {
        Self {
            what,
            offset,
            len,
            done: 0,
            align: u64::from(align.max(1)),
            retries: 0,
        }
    }

    /// The next piece: device offset, position in the buffer, length.
    pub(crate) fn piece(&self) -> (u64, usize, usize) {
        let len = (self.len - self.done).min(MAX_PIECE);
        (self.offset + self.done, self.done as usize, len as usize)
    }

    /// The whole range: offset and length.
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.offset, self.len)
    }

    /// Takes the result of the last piece: bytes done, or an error number.
    pub(crate) fn step(&mut self, result: Result<u64, i32>) -> Step {
        match result {
            Ok(n) if n >= self.len - self.done => {
                self.done = self.len;
                Step::Done
            }
            Ok(0) if self.what == "read" => self.fail(
                IoErrorKind::OutOfRange,
                "the device ended before the range; it has shrunk",
            ),
            Ok(n) => {
                // The rest must start aligned; what was done past the last
                // boundary is done again.
                let end = self.done + n;
                let kept = end - end % self.align;
                if kept > self.done {
                    self.done = kept;
                    self.retries = 0;
                    return Step::More;
                }
                self.retry(libc::EIO)
            }
            Err(errno @ (libc::EAGAIN | libc::EINTR)) => self.retry(errno),
            Err(errno) => Step::Fail(IoError::from_errno(self.what, self.offset, self.len, errno)),
        }
    }

    fn retry(&mut self, errno: i32) -> Step {
        self.retries += 1;
        if self.retries <= MAX_RETRIES {
            return Step::Again;
        }
        Step::Fail(IoError::with_errno(
            IoErrorKind::Failed,
            self.what,
            self.offset,
            self.len,
            errno,
            format!("no progress after {MAX_RETRIES} tries"),
        ))
    }

    fn fail(&self, kind: IoErrorKind, detail: &str) -> Step {
        Step::Fail(IoError::new(kind, self.what, self.offset, self.len, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_results_go_on_from_an_aligned_place() {
        let mut t = Transfer::new("write", 4096, 4096, 512);
        assert!(matches!(t.step(Ok(1000)), Step::More));
        assert_eq!(t.piece(), (4096 + 512, 512, 4096 - 512));
        assert!(matches!(t.step(Err(libc::EAGAIN)), Step::Again));
        assert!(matches!(t.step(Ok(4096 - 512)), Step::Done));
    }

    #[test]
    fn the_end_of_the_device_is_an_error() {
        let mut t = Transfer::new("read", 0, 1024, 512);
        assert!(matches!(t.step(Ok(512)), Step::More));
        match t.step(Ok(0)) {
            Step::Fail(e) => assert_eq!(e.kind, IoErrorKind::OutOfRange),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn retries_end() {
        let mut t = Transfer::new("write", 0, 512, 512);
        let mut tries = 0;
        loop {
            match t.step(Err(libc::EAGAIN)) {
                Step::Again => tries += 1,
                Step::Fail(e) => {
                    assert_eq!(e.kind, IoErrorKind::Failed);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(tries, MAX_RETRIES);
    }

    #[test]
    fn less_than_a_block_is_no_progress() {
        let mut t = Transfer::new("write", 0, 1024, 512);
        for _ in 0..MAX_RETRIES {
            assert!(matches!(t.step(Ok(511)), Step::Again));
        }
        match t.step(Ok(511)) {
            Step::Fail(e) => assert_eq!((e.kind, e.os), (IoErrorKind::Failed, Some(libc::EIO))),
            other => panic!("{other:?}"),
        }
        assert_eq!(t.piece(), (0, 0, 1024));
        match t.step(Err(libc::ENOSPC)) {
            Step::Fail(e) => assert_eq!(e.kind, IoErrorKind::NoSpace),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn huge_transfers_are_cut() {
        let mut t = Transfer::new("write", 0, 5 << 30, 512);
        let mut pieces = 0;
        loop {
            let (_, _, len) = t.piece();
            pieces += 1;
            match t.step(Ok(len as u64)) {
                Step::More => {}
                Step::Done => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pieces, 5);
    }
}
