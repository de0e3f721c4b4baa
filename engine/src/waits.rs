//! What the calling thread waited for in the engine: to explain a slow call.
//!
//! A store's [`Stats`](crate::Stats) add up all threads. Here a thread reads its own
//! waits, at a cost that can be borne around every call: [`count`] is one load, and
//! as long as it has not moved, [`of_this_thread`] has not either.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("waits.store");
//! # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
//! # gaur::Store::format(&path, &format).unwrap();
//! # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
//! let tree = store.tree("t")?;
//! let before = gaur::waits::of_this_thread();
//! tree.put_with(b"k", b"v", gaur::Durability::Sync)?;
//! let waits = gaur::waits::of_this_thread().since(&before);
//! assert!(waits.each().any(|(kind, nanos)| kind == "durable" && nanos > 0));
//! # Ok::<(), gaur::Error>(())
//! ```

use std::cell::Cell;

use crate::stats::WAITS;

/// Beside what [`WAITS`] names: a pause of the throttle, and a gate that is closed
/// while a generation is frozen.
pub(crate) const THROTTLE: usize = WAITS.len();
pub(crate) const GATE: usize = WAITS.len() + 1;
const KINDS: usize = WAITS.len() + 2;

thread_local! {
    static NANOS: [Cell<u64>; KINDS] = const { [const { Cell::new(0) }; KINDS] };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// How long one thread waited, by kind, in all stores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    nanos: [u64; KINDS],
}

/// The waits of the calling thread since it began. No wait lies within another, so
/// that they add up.
pub fn of_this_thread() -> Waits {
    Waits {
        nanos: NANOS.with(|all| std::array::from_fn(|kind| all[kind].get())),
    }
}

/// How many waits the calling thread has had since it began.
#[inline]
pub fn count() -> u64 {
    COUNT.get()
}

impl Waits {
    /// What was added since `earlier`, which the same thread read.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            nanos: std::array::from_fn(|kind| self.nanos[kind].saturating_sub(earlier.nanos[kind])),
        }
    }

    /// The kinds that were waited for, and for how many nanoseconds. The names are
    /// those of the group `waits` of [`Stats`](crate::Stats), and `throttle` and `gate`.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = WAITS.into_iter().chain(["throttle", "gate"]);
        names.zip(self.nanos).filter(|(_, nanos)| *nanos > 0)
    }
}

/// Notes a wait of the calling thread.
pub(crate) fn note(kind: usize, nanos: u64) {
    NANOS.with(|all| all[kind].set(all[kind].get() + nanos));
    COUNT.set(COUNT.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Wait, WorkerCounters};

    #[test]
    fn a_thread_sees_its_own_waits_alone() {
        let pause = || std::thread::sleep(std::time::Duration::from_millis(2));
        let counters = WorkerCounters::default();
        let (before, count_before) = (of_this_thread(), count());
        std::thread::scope(|s| {
            s.spawn(|| WorkerCounters::default().waiting(Wait::Read, pause));
        });
        assert_eq!((of_this_thread(), count()), (before, count_before));

        counters.waiting(Wait::LogSpace, pause);
        note(GATE, 7);
        let waits: Vec<_> = of_this_thread().since(&before).each().collect();
        assert_eq!(waits[0].0, "log_space");
        assert_eq!(waits[0].1, counters.waits[Wait::LogSpace as usize].1.get());
        assert_eq!(waits[1..], [("gate", 7)]);
        assert_eq!(count(), count_before + 2);
    }
}
