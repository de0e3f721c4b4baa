//! Running a transaction again when it met others.

use gaur_iodriver::sync::rng::{self, Rng};
use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::Duration;
use rand::RngExt;

use super::{Transaction, TransactionOptions};
use crate::error::Error;
use crate::format::Csn;
use crate::options::Durability;
use crate::store::Store;

/// How often, and after which pauses, a transaction is run again.
///
/// Before the *n*-th repetition it waits for a random time up to
/// `first` × 2^(*n* - 1), at most `most`: exponential back-off with full jitter
/// (M. Brooker, "Exponential Backoff And Jitter", 2015).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it is run in all; at least once.
    pub attempts: u32,
    /// The longest first pause.
    pub first: Duration,
    /// The longest of all pauses.
    pub most: Duration,
    /// The seed of the pauses; `None`: a fresh one.
    pub seed: Option<u64>,
}

impl Default for Retry {
    /// 20 attempts; pauses up to 50 µs at first and never above 20 ms.
    fn default() -> Self {
        Self {
            attempts: 20,
            first: Duration::from_micros(50),
            most: Duration::from_millis(20),
            seed: None,
        }
    }
}

impl Retry {
    fn pause(&self, repetition: u32, r: &mut Rng) -> Duration {
        let doubled = 1u32.checked_shl(repetition - 1).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(doubled).min(self.most);
        longest.mul_f64(r.random())
    }
}

/// What came of a transaction that was run until it committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transacted<T> {
    /// What the closure returned.
    pub value: T,
    /// Its commit; if it wrote nothing, the commit that it looked at.
    pub csn: Csn,
    /// How often it was run.
    pub attempts: u32,
}

impl Store {
    /// Runs a serializable transaction, durably, and again if it meets others: see
    /// [`Store::transact_with`].
    ///
    /// # Errors
    /// As [`Store::transact_with`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("transact.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let accounts = store.tree("accounts")?;
    /// accounts.put(b"alice", &100u64.to_be_bytes())?;
    /// let amount = |value: Option<Vec<u8>>| {
    ///     value.map_or(0, |v| u64::from_be_bytes(v.try_into().unwrap()))
    /// };
    /// let done = store.transact(|t| {
    ///     let alice = amount(t.get(&accounts, b"alice")?);
    ///     let bob = amount(t.get(&accounts, b"bob")?);
    ///     t.put(&accounts, b"alice", &(alice - 10).to_be_bytes())?;
    ///     t.put(&accounts, b"bob", &(bob + 10).to_be_bytes())?;
    ///     Ok::<_, gaur::Error>(bob + 10)
    /// })?;
    /// assert_eq!((done.value, done.attempts), (10, 1));
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn transact<T, E: From<Error>>(
        &self,
        body: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<Transacted<T>, E> {
        let options = TransactionOptions::default();
        self.transact_with(&options, Durability::Sync, &Retry::default(), body)
    }

    /// Begins a transaction, calls `body` with it, and commits it; all that again, after
    /// a pause, if it fails by conflict or took too long. `body` may run any number of
    /// times and should have no effect outside of the transaction. If it returns an error
    /// of its own, the transaction is rolled back and the error returned.
    ///
    /// # Errors
    /// What `body` returns; [`Error::Conflict`] or [`Error::ViewTooOld`] of the last
    /// attempt; what [`Store::begin`] and [`Transaction::commit`] can fail with else.
    pub fn transact_with<T, E: From<Error>>(
        &self,
        options: &TransactionOptions,
        durability: Durability,
        retry: &Retry,
        mut body: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<Transacted<T>, E> {
        let mut pauses: Option<Rng> = None;
        for attempts in 1.. {
            let mut transaction = self.begin(options)?;
            let failed = match body(&mut transaction) {
                Ok(value) => match transaction.commit(durability) {
                    Ok(csn) => {
                        return Ok(Transacted {
                            value,
                            csn,
                            attempts,
                        });
                    }
                    Err(e) if e.is_retryable() => e.into(),
                    Err(e) => return Err(e.into()),
                },
                Err(e) if transaction.lost.get() => e,
                Err(e) => return Err(e),
            };
            if attempts >= retry.attempts {
                return Err(failed);
            }
            let seed = || rng::seeded(retry.seed.unwrap_or_else(rng::fresh_seed));
            let pauses = pauses.get_or_insert_with(seed);
            thread::sleep(retry.pause(attempts, pauses));
        }
        unreachable!("the attempts are bounded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_bounded_and_follow_the_seed() {
        let retry = Retry::default();
        let pauses = |seed| {
            let mut r = rng::seeded(seed);
            (1..100).map(|n| retry.pause(n, &mut r)).collect::<Vec<_>>()
        };
        assert_eq!(pauses(3), pauses(3));
        assert_ne!(pauses(3), pauses(4));
        let all: Vec<_> = (0..200).map(pauses).collect();
        let longest = |n: usize| all.iter().map(|p| p[n]).max().unwrap();
        assert!(longest(0) <= retry.first && longest(0) > retry.first / 2);
        assert!(longest(3) > retry.first * 4 && longest(3) <= retry.first * 8);
        assert!(longest(98) <= retry.most && longest(98) > retry.most / 2);
    }
}
