//! How the child tells its parent what was acknowledged: small records through a
//! pipe, each by one write(2), so that what was told survives the child.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Bytes of a record: below PIPE_BUF, so that writers' records never mix.
const BYTES: usize = 32;

/// An acknowledged commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) thread: u16,
    pub(crate) sync: bool,
    pub(crate) seq: u64,
    pub(crate) csn: u64,
    /// When, by the machine's monotonic clock.
    pub(crate) at: Duration,
}

/// What the child tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The store is open and the writers start.
    Ready,
    /// A commit was acknowledged.
    Ack(Ack),
}

/// The monotonic clock, which parent and child share.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// This process's standard output, without the standard library's buffer.
pub(crate) fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

impl Message {
    /// Tells it.
    pub(crate) fn send(self, mut pipe: &File) -> io::Result<()> {
        let mut b = [0_u8; BYTES];
        if let Self::Ack(a) = self {
            b[0] = 1;
            b[1] = u8::from(a.sync);
            b[2..4].copy_from_slice(&a.thread.to_le_bytes());
            b[8..16].copy_from_slice(&a.seq.to_le_bytes());
            b[16..24].copy_from_slice(&a.csn.to_le_bytes());
            b[24..32].copy_from_slice(&(a.at.as_nanos() as u64).to_le_bytes());
        }
        pipe.write_all(&b)
    }

    /// The next message; none at the end. A record cut short by the end is none.
    pub(crate) fn receive(pipe: &mut impl Read) -> io::Result<Option<Self>> {
        let mut b = [0_u8; BYTES];
        match pipe.read_exact(&mut b) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| b[at + i]));
        Ok(Some(match b[0] {
            0 => Self::Ready,
            _ => Self::Ack(Ack {
                sync: b[1] != 0,
                thread: u16::from_le_bytes([b[2], b[3]]),
                seq: word(8),
                csn: word(16),
                at: Duration::from_nanos(word(24)),
            }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn messages_arrive_and_a_cut_one_is_none() {
        let ack = Message::Ack(Ack {
            thread: 700,
            sync: true,
            seq: 1 << 50,
            csn: 99,
            at: Duration::from_nanos(1_000_000_007),
        });
        let mut file = tempfile::tempfile().unwrap();
        Message::Ready.send(&file).unwrap();
        ack.send(&file).unwrap();
        file.write_all(&[1; 5]).unwrap();
        file.rewind().unwrap();
        assert_eq!(Message::receive(&mut file).unwrap(), Some(Message::Ready));
        assert_eq!(Message::receive(&mut file).unwrap(), Some(ack));
        assert_eq!(Message::receive(&mut file).unwrap(), None);
    }
}
