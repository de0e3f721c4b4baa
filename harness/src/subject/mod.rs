//! What a workload runs on, behind one interface, so that each is driven and
//! measured by the same code.

mod gaur;
mod null;
pub(crate) mod peers;
mod stall;

pub(crate) use self::gaur::Gaur;
pub(crate) use self::null::Null;
pub(crate) use self::stall::{Stall, Stalled};

use crate::failure::Failure;
use crate::run::config::Durable;

/// A store that is open.
pub(crate) trait Subject: Send + Sync {
    /// One thread's access to it.
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure>;

    /// Returns when all that was committed is durable.
    fn flush(&self) -> Result<(), Failure>;

    /// Says what the next sessions will do, while there is none.
    ///
    /// An engine whose reads belong to a transaction may then hold one for as long as
    /// a session only reads, as its users would.
    fn expect(&self, _work: Work) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether what was committed without waiting becomes durable by itself, after
    /// an interval that it was opened with.
    fn flushes_itself(&self) -> bool {
        true
    }

    /// How many records there are, if the engine has a call for it.
    fn len(&self) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    /// Gives space back to the file system; false if the engine cannot.
    fn compact(&mut self) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Bytes of the device that records and all that leads to them take; none if the
    /// file system tells better.
    fn stored_bytes(&self) -> Option<u64> {
        None
    }

    /// The engine's own counters, where it is ours.
    fn stats(&self) -> Option<::gaur::Stats> {
        None
    }

    /// Bytes it has for what is put in, where it knows them.
    fn capacity(&self) -> Option<u64> {
        None
    }

    /// The store that is ours, to measure the device below it.
    fn store(&self) -> Option<&::gaur::Store> {
        None
    }

    /// Closes it in good order.
    fn close(self: Box<Self>) -> Result<(), Failure>;
}

/// What sessions will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Nobody writes.
    pub(crate) reads_only: bool,
    /// What most commits wait for. Each says so itself, and that counts.
    pub(crate) durability: Durable,
}

/// What one thread does with a [`Subject`].
///
/// A value is lent to a closure rather than given, so that an engine that can
/// read without a copy is measured without one.
pub(crate) trait Session {
    /// Lends the value of `key` to `found`; whether there is one.
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure>;

    /// Lends up to `limit` records to `each`, in ascending order from `from` on,
    /// or in descending order from `from` down, `from` included; how many.
    fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize, Failure>;

    /// Makes all the changes as one commit.
    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure>;
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To higher keys.
    Forward,
    /// To lower keys.
    Backward,
}

/// One change of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A record is put, over what is there.
    Put(&'a [u8], &'a [u8]),
    /// A record is deleted, if it is there.
    Delete(&'a [u8]),
}

impl Change<'_> {
    /// Bytes of its key and value.
    pub(crate) fn bytes(&self) -> u64 {
        let (key, value): (&[u8], &[u8]) = match self {
            Self::Put(key, value) => (key, value),
            Self::Delete(key) => (key, &[]),
        };
        (key.len() + value.len()) as u64
    }
}
