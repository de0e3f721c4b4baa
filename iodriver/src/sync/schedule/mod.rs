//! A seeded scheduler in the place of the operating system's (feature `simulation`).
//!
//! Threads of a simulation are threads of the system, but only the one that holds the
//! *baton* runs. It hands the baton on at *points*: before and after every lock, latch,
//! channel operation, event and parking. Who runs next, and when, is drawn from the
//! seed; so is which of several waiters is woken. Time is a number that each point
//! moves on a little, and that jumps to the next deadline when nobody can run. The same
//! seed and the same program therefore give the same run, which [`Report::trace`] shows.
//!
//! What must hold for that: the program blocks and asks for the time through
//! [`sync`](super) only, and takes no decision by an address, by the order of a hash
//! table or by the real time.
//!
//! A thread keeps the baton until the destructors of its thread-local variables have
//! run: [`ME`] is the first such variable that a thread sets and so the last that is
//! destroyed, which hands the baton on.
//!
//! Outside [`run`] everything works as without the feature. Several simulations run
//! side by side and know nothing of each other.

mod baton;
pub(super) mod clock;
mod policy;
pub(super) mod seam;
mod state;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub use policy::Policy;
use state::{Shared, Woken};

/// What decides a simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything random comes from this, [`rng::fresh_seed`](super::rng::fresh_seed) too.
    pub seed: u64,
    /// Who runs next.
    pub policy: Policy,
    /// After so many points it is taken for granted that it will not end.
    pub max_points: u64,
    /// How much time passes between two points.
    pub tick: Duration,
    /// What fails on purpose.
    pub failing: Option<Failing>,
}

/// Calls that fail on purpose, where the program asks [`fails`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Of this name.
    pub name: &'static str,
    /// From this one on, the first being 0.
    pub at: u64,
    /// So many.
    pub times: u64,
}

impl Plan {
    /// The policy drawn from the seed, and bounds that a run of a second keeps.
    pub fn from_seed(seed: u64) -> Self {
        Self {
            seed,
            policy: Policy::draw(seed),
            max_points: 200_000_000,
            tick: Duration::from_nanos(200),
            failing: None,
        }
    }
}

/// Where a thread of a simulation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The thread's name.
    pub thread: String,
    /// What it waits for; "to run" if nothing.
    pub waits_for: &'static str,
    /// Where in the code.
    pub at: String,
    /// In which part of the engine, as [`within`] says.
    pub site: &'static str,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} waits for {} at {}",
            self.thread, self.waits_for, self.at
        )?;
        if !self.site.is_empty() {
            write!(f, " (in {})", self.site)?;
        }
        Ok(())
    }
}

/// How a simulation ended.
#[derive(Debug)]
pub enum End<T> {
    /// All threads ended; what the body returned.
    Done(T),
    /// The body panicked, with this message.
    Panicked(String),
    /// Nobody can ever run again. The threads are left as they are, with their memory.
    Deadlock(Vec<Standing>),
    /// More than [`Plan::max_points`]. The threads are left as they are.
    TooLong(Vec<Standing>),
}

/// Switches from one thread to another while the first was in one part of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// It could have gone on.
    pub preempted: u64,
    /// It waited for something.
    pub waited: u64,
}

/// What a simulation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Points passed.
    pub points: u64,
    /// Times the baton went to another thread.
    pub switches: u64,
    /// Simulated time that passed.
    pub time: Duration,
    /// A number that two runs share only if they made the same decisions in the same
    /// order, and noted the same with [`note`].
    pub trace: u64,
    /// Threads there were.
    pub threads: usize,
    /// Switches by the part of the engine.
    pub sites: BTreeMap<&'static str, Switches>,
    /// How often the program asked [`fails`], by name.
    pub asked: BTreeMap<&'static str, u64>,
}

/// A thread's place in its simulation.
struct Me {
    shared: Arc<Shared>,
    id: usize,
    site: Cell<&'static str>,
}

thread_local! {
    static ME: RefCell<Option<Me>> = const { RefCell::new(None) };
}

impl Drop for Me {
    fn drop(&mut self) {
        self.shared.finish(self.id);
    }
}

/// Calls `f` with the calling thread's place, if it is in a simulation.
#[inline]
fn with<T>(f: impl FnOnce(&Me) -> T) -> Option<T> {
    ME.try_with(|me| me.borrow().as_ref().map(f)).ok().flatten()
}

/// Runs `body` and all threads that it starts under the plan.
pub fn run<T: Send + 'static>(
    plan: &Plan,
    body: impl FnOnce() -> T + Send + 'static,
) -> (End<T>, Report) {
    let shared = Arc::new(Shared::new(plan));
    let start = Start::new(&shared, "main");
    let root = std::thread::Builder::new()
        .name("sim-main".into())
        .spawn(move || {
            start.begin();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
        })
        .expect("the system gives a thread");
    shared.hand_to_first();
    let over = shared.wait_until_over();
    let report = shared.report();
    let end = match over {
        state::Over::Ended => match root.join() {
            Ok(Ok(value)) => End::Done(value),
            Ok(Err(panic)) | Err(panic) => End::Panicked(message(panic.as_ref())),
        },
        state::Over::Deadlock(all) => End::Deadlock(all),
        state::Over::TooLong(all) => End::TooLong(all),
    };
    (end, report)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else {
        "a panic without a message".to_owned()
    }
}

/// A thread of a simulation that is about to be started.
pub(super) struct Start {
    shared: Arc<Shared>,
    id: usize,
}

impl Start {
    fn new(shared: &Arc<Shared>, name: &str) -> Self {
        Self {
            shared: shared.clone(),
            id: shared.add(name),
        }
    }

    /// For a thread that the calling one starts; `None` outside a simulation.
    pub(super) fn here(name: &str) -> Option<Self> {
        with(|me| Self::new(&me.shared, name))
    }

    /// Who waits for the thread's end.
    pub(super) fn handle(&self) -> Task {
        Task {
            shared: self.shared.clone(),
            id: self.id,
        }
    }

    /// Called by the new thread before anything else: waits for its turn.
    pub(super) fn begin(self) {
        let me = Me {
            shared: self.shared.clone(),
            id: self.id,
            site: Cell::new(""),
        };
        ME.with(|slot| *slot.borrow_mut() = Some(me));
        self.shared.wait_for_turn(self.id);
    }

    /// The same, for who starts it.
    pub(super) fn again(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            id: self.id,
        }
    }

    /// The thread could not be started.
    pub(super) fn never(self) {
        self.shared.forget(self.id);
    }
}

/// A started thread of a simulation.
#[derive(Debug)]
pub(super) struct Task {
    shared: Arc<Shared>,
    id: usize,
}

impl Task {
    #[track_caller]
    pub(super) fn join(&self) {
        let at = Location::caller();
        with(|me| {
            while !self.shared.has_finished(self.id) {
                me.shared.block(
                    me.id,
                    Shared::end_key(self.id),
                    "a thread's end",
                    at,
                    me.site.get(),
                    None,
                );
            }
        });
    }

    pub(super) fn is_finished(&self) -> bool {
        point();
        self.shared.has_finished(self.id)
    }
}

/// Whether the calling thread belongs to a simulation.
#[inline]
pub fn is_simulated() -> bool {
    with(|_| ()).is_some()
}

/// Another thread may run now.
#[inline]
pub(crate) fn point() {
    with(|me| me.shared.point(me.id, me.site.get()));
}

/// Another thread runs now, if any can. False outside a simulation.
#[inline]
pub(super) fn give_way() -> bool {
    with(|me| me.shared.give_way(me.id, me.site.get())).is_some()
}

/// Waits until `key` is woken or the time is over. The caller looks again afterwards:
/// it may be woken for nothing.
pub(super) fn block(
    key: usize,
    what: &'static str,
    at: &'static Location<'static>,
    timeout: Option<Duration>,
) -> Woken {
    with(|me| {
        me.shared
            .block(me.id, key, what, at, me.site.get(), timeout)
    })
    .unwrap_or(Woken::ByAnother)
}

/// Lets all that wait for `key` run again; how many those are.
pub(super) fn wake_all(key: usize) -> usize {
    with(|me| me.shared.wake(key, usize::MAX)).unwrap_or(0)
}

/// Lets one of those that wait for `key` run again.
pub(super) fn wake_one(key: usize) {
    with(|me| me.shared.wake(key, 1));
}

/// The simulated time since the beginning; `None` outside a simulation.
#[inline]
pub(super) fn time() -> Option<Duration> {
    with(|me| me.shared.now())
}

/// A number drawn from the seed; `None` outside a simulation.
pub(super) fn random() -> Option<u64> {
    with(|me| me.shared.random())
}

/// Notes something in the trace: what the program did, beside when.
pub fn note(what: u64) {
    with(|me| me.shared.note(what));
}

/// Whether what is called `name` fails here, because the [`Plan`] says so.
pub(super) fn fails(name: &'static str) -> bool {
    with(|me| me.shared.fails(name)).unwrap_or(false)
}

/// The part of the engine that the calling thread is in; empty if none was named.
pub fn site() -> &'static str {
    with(|me| me.site.get()).unwrap_or("")
}

/// The calling thread is in a part of the engine until this is dropped.
#[derive(Debug)]
pub struct Within(Option<&'static str>);

/// The calling thread is in part `name` of the engine from now on.
pub fn within(name: &'static str) -> Within {
    let before = with(|me| {
        let before = me.site.replace(name);
        me.shared.point(me.id, name);
        before
    });
    Within(before)
}

impl Drop for Within {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            with(|me| me.site.set(before));
        }
    }
}

/// The trace so far; 0 outside a simulation.
pub fn trace() -> u64 {
    with(|me| me.shared.report().trace).unwrap_or(0)
}

#[cfg(test)]
mod tests;
