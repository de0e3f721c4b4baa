//! What writers put into a store until it is full, and take out again.
//!
//! The n-th record follows from the seed alone, so that whoever knows its number knows
//! what must be there. Writers draw the numbers in turn.

use std::sync::atomic::{AtomicU64, Ordering};

use gaur::{Durability, Error, Tree};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::failure::Failure;
use crate::interrupt;

/// One in so many operations is Sync, and with it all before it.
const SYNC_EVERY: u64 = 64;
/// Values up to this size are small: if one is refused the store is full.
const SMALL: usize = 1000;

/// What a writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// Put record n.
    Put(u64),
    /// Deleted it.
    Deleted(u64),
}

/// How far a writer came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    /// The records it put.
    pub(crate) put: Vec<u64>,
    pub(crate) bytes: u64,
    /// Puts refused because the store was full.
    pub(crate) refused: u64,
}

/// The key of record n, mixed so that neighbours lie apart.
pub(crate) fn key(n: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[..2]);
    key[2..].copy_from_slice(&n.to_be_bytes());
    key
}

/// The number of the record with this key.
pub(crate) fn of_key(bytes: &[u8]) -> Option<u64> {
    let n = u64::from_be_bytes(bytes.get(2..)?.try_into().ok()?);
    (key(n) == bytes).then_some(n)
}

/// The value of a record: 16 bytes to 1 MiB, most of them small. Large ones come at
/// even steps, in turn smaller and larger: so any number of
/// records takes about the same space.
pub(crate) fn value(seed: u64, n: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(n);
    let step = |every: u64, most: u64| most * (1 + n / every * 5 % 8) / 8;
    let len = match n {
        n if n % 2048 == 1024 => step(2048, 1 << 20) as usize,
        n if n % 64 == 32 => step(64, 64 << 10) as usize,
        _ => rng.random_range(16..=SMALL),
    };
    let start: u64 = rng.random();
    let word = |i: usize| start.wrapping_mul(i as u64 / 8 + 1).to_le_bytes()[i % 8];
    (0..len).map(word).collect()
}

fn durability(n: u64) -> Durability {
    if n.is_multiple_of(SYNC_EVERY) {
        Durability::Sync
    } else {
        Durability::Buffered
    }
}

/// Whether operation `n` of a writer makes all before it durable.
pub(crate) fn is_sync(n: u64) -> bool {
    durability(n) == Durability::Sync
}

/// Puts records, with numbers from `next`, until a small one is refused. `tell` hears of each that was
/// acknowledged, in order.
pub(crate) fn fill(
    tree: &Tree,
    seed: u64,
    next: &AtomicU64,
    mut tell: impl FnMut(Did, u64) -> Result<(), Failure>,
) -> Result<Filled, Failure> {
    let mut filled = Filled::default();
    loop {
        interrupt::check()?;
        let n = next.fetch_add(1, Ordering::Relaxed);
        let value = value(seed, n);
        match tree.put_with(&key(n), &value, durability(n)) {
            Ok(csn) => {
                filled.put.push(n);
                filled.bytes += value.len() as u64;
                tell(Did::Put(n), csn)?;
            }
            Err(Error::Full { .. }) => {
                filled.refused += 1;
                if value.len() <= SMALL {
                    break;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(filled)
}

/// Deletes records; none may be refused.
pub(crate) fn empty(
    tree: &Tree,
    put: &[u64],
    mut tell: impl FnMut(Did, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for &n in put {
        interrupt::check()?;
        match tree.delete_with(&key(n), durability(n)) {
            Ok(csn) => tell(Did::Deleted(n), csn)?,
            Err(e @ Error::Full { .. }) => {
                return Err(Failure::found(format!("a delete was refused: {e}")));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_which_they_are() {
        for n in [0, 1, 7, 1 << 40] {
            assert_eq!(of_key(&key(n)), Some(n));
        }
        assert_eq!(of_key(b"something!"), None);
        assert_eq!(of_key(b""), None);
    }
}
