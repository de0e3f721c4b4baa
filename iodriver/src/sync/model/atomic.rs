//! loom's atomics under the names and calls of the standard library's.
//!
//! loom takes a sequentially consistent access for one of acquire and release: it would
//! find errors where there are none. So each atomic has a companion here, through which
//! such an access to one location happens after the last such store to it, in the order
//! of the execution; loom tries all of those. Another order than SeqCst has no part in
//! it, so an access that is weakened may miss the other side's.
//!
//! A store and its companion are one step to the model. A load asks the companion first:
//! what it reads is not older than the last sequentially consistent store that came
//! before, and may be newer. Not modelled: that such an access is ordered with a fence in
//! another thread. A protocol that needs it fails here and is right; none is missed.

use loom::sync::atomic as inner;
pub use std::sync::atomic::Ordering;

use std::sync::OnceLock;

/// What this process is to leave out, if anything: the variable `GAUR_WEAKEN`, a name, or
/// `name=relaxed`.
fn is_left_out(name: &'static str) -> bool {
    left_out().is_some_and(|w| w.0 == name)
}

fn left_out() -> Option<(&'static str, &'static str)> {
    static LEFT_OUT: OnceLock<Option<String>> = OnceLock::new();
    let left_out = LEFT_OUT.get_or_init(|| std::env::var("GAUR_WEAKEN").ok());
    let left_out = left_out.as_deref()?;
    Some(left_out.split_once('=').unwrap_or((left_out, "")))
}

/// The memory order `order`, or the next weaker one if `name` is to be weakened: acquire
/// and release in place of sequentially consistent, relaxed in place of the others, and
/// at once if that is asked for.
pub fn order(name: &'static str, order: Ordering) -> Ordering {
    match (left_out(), order) {
        (Some((n, "")), Ordering::SeqCst) if n == name => Ordering::AcqRel,
        (Some((n, _)), _) if n == name => Ordering::Relaxed,
        _ => order,
    }
}

/// A fence, unless `name` is to be left out.
pub fn fence(name: &'static str, order: Ordering) {
    if !is_left_out(name) {
        inner::fence(order);
    }
}

/// Whether to do a step that is not an atomic access.
pub fn step(name: &'static str) -> bool {
    !is_left_out(name)
}

/// An access that is part of the one before or behind it: nobody comes between.
fn at_once<T>(access: impl FnOnce() -> T) -> T {
    loom::stop_exploring();
    let out = access();
    loom::explore();
    out
}

/// What orders the sequentially consistent accesses to one location.
#[derive(Debug, Default)]
struct Companion(inner::AtomicUsize);

impl Companion {
    fn before(&self, order: Ordering) {
        if order == Ordering::SeqCst {
            at_once(|| self.0.fetch_add(0, Ordering::Acquire));
        }
    }

    fn behind(&self, order: Ordering) {
        if order == Ordering::SeqCst {
            at_once(|| self.0.fetch_add(1, Ordering::Release));
        }
    }
}

/// What loom takes for the order, in a load, a store, or both at once.
fn load(order: Ordering) -> Ordering {
    match order {
        Ordering::SeqCst | Ordering::AcqRel => Ordering::Acquire,
        other => other,
    }
}

fn store(order: Ordering) -> Ordering {
    match order {
        Ordering::SeqCst | Ordering::AcqRel => Ordering::Release,
        other => other,
    }
}

fn both(order: Ordering) -> Ordering {
    match order {
        Ordering::SeqCst => Ordering::AcqRel,
        other => other,
    }
}

macro_rules! atomics {
    ($($name:ident: $t:ty { $($call:ident),* })*) => {$(
        /// As the standard library's.
        #[derive(Debug, Default)]
        pub struct $name {
            value: inner::$name,
            companion: Companion,
        }

        #[allow(missing_docs)]
        impl $name {
            #[track_caller]
            pub fn new(value: $t) -> Self {
                Self { value: inner::$name::new(value), companion: Companion::default() }
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $t {
                self.companion.before(order);
                self.value.load(load(order))
            }

            #[track_caller]
            pub fn store(&self, value: $t, order: Ordering) {
                self.value.store(value, store(order));
                self.companion.behind(order);
            }

            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $t,
                new: $t,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$t, $t> {
                self.companion.before(success);
                let out = self.value.compare_exchange(current, new, both(success), load(failure));
                self.companion.behind(success);
                out
            }

            pub fn into_inner(self) -> $t {
                self.value.into_inner()
            }

            $(
                #[track_caller]
                pub fn $call(&self, value: $t, order: Ordering) -> $t {
                    self.companion.before(order);
                    let out = self.value.$call(value, both(order));
                    self.companion.behind(order);
                    out
                }
            )*
        }
    )*};
}

atomics! {
    AtomicBool: bool { swap }
    AtomicU32: u32 { swap, fetch_or }
    AtomicU64: u64 { swap, fetch_add, fetch_sub, fetch_max, fetch_min }
    AtomicUsize: usize { swap, fetch_add, fetch_sub }
}
