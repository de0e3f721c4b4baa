//! An engine that does nothing: what is left is the cost of measuring.

use super::{Change, Direction, Session, Subject};
use crate::failure::Failure;
use crate::run::config::Durable;

/// Finds every key, each with the same value, and keeps nothing.
pub(crate) struct Null {
    value: Vec<u8>,
}

impl Null {
    /// One that finds this value under every key.
    pub(crate) fn new(value: Vec<u8>) -> Self {
        Self { value }
    }
}

impl Subject for Null {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(self))
    }

    fn flush(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}

impl Session for &Null {
    fn get(&mut self, _key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        found(&self.value);
        Ok(true)
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        _direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize, Failure> {
        for _ in 0..limit {
            each(from, &self.value);
        }
        Ok(limit)
    }

    fn commit(&mut self, _changes: &[Change<'_>], _durability: Durable) -> Result<(), Failure> {
        Ok(())
    }
}
