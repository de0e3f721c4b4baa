//! The threads of one simulation and who of them runs.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rand::RngExt;

use super::baton::Baton;
use super::policy::Chooser;
use super::{Failing, Plan, Report, Standing, Switches};
use crate::sync::rng::{Rng, seeded};

/// Why a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Woken {
    ByAnother,
    ByTime,
}

/// What became of a simulation.
#[derive(Debug)]
pub(super) enum Over {
    Ended,
    Deadlock(Vec<Standing>),
    TooLong(Vec<Standing>),
}

#[derive(Debug)]
enum Status {
    CanRun,
    Blocked {
        key: usize,
        /// In nanoseconds of simulated time.
        until: Option<u64>,
    },
    Finished,
}

#[derive(Debug)]
struct Task {
    name: String,
    status: Status,
    woken: Woken,
    priority: i64,
    baton: Arc<Baton>,
    /// What it last waited for, and where it was then.
    what: &'static str,
    at: Option<&'static Location<'static>>,
    site: &'static str,
}

#[derive(Debug)]
struct State {
    tasks: Vec<Task>,
    rng: Rng,
    chooser: Chooser,
    switches: u64,
    trace: u64,
    sites: BTreeMap<&'static str, Switches>,
    failing: Option<Failing>,
    asked: BTreeMap<&'static str, u64>,
    over: Option<Over>,
    /// It is over, and what is left of it stands still.
    dead: bool,
}

/// What the threads of a simulation share. Only who holds the baton uses it, except
/// for the end.
#[derive(Debug)]
pub(super) struct Shared {
    /// Nanoseconds of simulated time; moved by who holds the baton.
    now: AtomicU64,
    points: AtomicU64,
    /// The point at which there is something to decide.
    decide_at: AtomicU64,
    tick: u64,
    max_points: u64,
    state: Mutex<State>,
    ended: Condvar,
}

/// Ends of threads are waited for under keys that are no addresses.
const END_KEYS: usize = 1 << 62;

/// In nanoseconds.
const BEGINNING: u64 = 3_600_000_000_000;

fn mix(hash: u64, word: u64) -> u64 {
    let mut x = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x.wrapping_mul(0xd6e8_feb8_6659_fd93)
}

impl Shared {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut rng = seeded(plan.seed);
        let chooser = Chooser::new(plan.policy, &mut rng);
        Self {
            // Not 0: what subtracts a little from the first moment gets a time, too.
            now: AtomicU64::new(BEGINNING),
            points: AtomicU64::new(0),
            decide_at: AtomicU64::new(1),
            tick: u64::try_from(plan.tick.as_nanos()).unwrap_or(u64::MAX),
            max_points: plan.max_points,
            state: Mutex::new(State {
                tasks: Vec::new(),
                rng,
                chooser,
                switches: 0,
                trace: plan.seed,
                sites: BTreeMap::new(),
                failing: plan.failing,
                asked: BTreeMap::new(),
                over: None,
                dead: false,
            }),
            ended: Condvar::new(),
        }
    }

    pub(super) fn end_key(id: usize) -> usize {
        END_KEYS + id
    }

    pub(super) fn add(&self, name: &str) -> usize {
        let s = &mut *self.state.lock();
        let priority = s.chooser.priority(&mut s.rng);
        s.tasks.push(Task {
            name: name.to_owned(),
            status: Status::CanRun,
            woken: Woken::ByAnother,
            priority,
            baton: Arc::default(),
            what: "to run",
            at: None,
            site: "",
        });
        s.tasks.len() - 1
    }

    pub(super) fn forget(&self, id: usize) {
        self.state.lock().tasks[id].status = Status::Finished;
    }

    pub(super) fn hand_to_first(&self) {
        let baton = self.state.lock().tasks[0].baton.clone();
        baton.give();
    }

    pub(super) fn wait_for_turn(&self, id: usize) {
        let baton = self.state.lock().tasks[id].baton.clone();
        baton.wait();
    }

    pub(super) fn wait_until_over(&self) -> Over {
        let mut s = self.state.lock();
        loop {
            if let Some(over) = s.over.take() {
                return over;
            }
            self.ended.wait(&mut s);
        }
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    pub(super) fn random(&self) -> u64 {
        self.state.lock().rng.random()
    }

    pub(super) fn fails(&self, name: &'static str) -> bool {
        let s = &mut *self.state.lock();
        let asked = s.asked.entry(name).or_default();
        *asked += 1;
        let index = *asked - 1;
        s.failing
            .is_some_and(|f| f.name == name && index >= f.at && index - f.at < f.times)
    }

    pub(super) fn note(&self, what: u64) {
        let s = &mut *self.state.lock();
        s.trace = mix(s.trace, what);
    }

    pub(super) fn has_finished(&self, id: usize) -> bool {
        matches!(self.state.lock().tasks[id].status, Status::Finished)
    }

    pub(super) fn report(&self) -> Report {
        let s = self.state.lock();
        let points = self.points.load(Ordering::Relaxed);
        let time = self.now.load(Ordering::Relaxed);
        Report {
            points,
            switches: s.switches,
            time: Duration::from_nanos(time - BEGINNING),
            trace: mix(mix(s.trace, points), time),
            threads: s.tasks.len(),
            sites: s.sites.clone(),
            asked: s.asked.clone(),
        }
    }

    /// Moves the time on and counts; whether there is something to decide.
    #[inline]
    fn step(&self) -> bool {
        let now = self.now.load(Ordering::Relaxed) + self.tick;
        self.now.store(now, Ordering::Relaxed);
        let points = self.points.load(Ordering::Relaxed) + 1;
        self.points.store(points, Ordering::Relaxed);
        points >= self.decide_at.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn point(&self, me: usize, site: &'static str) {
        if self.step() {
            self.decide(me, site);
        }
    }

    #[cold]
    fn decide(&self, me: usize, site: &'static str) {
        let mut guard = self.state.lock();
        let s = &mut *guard;
        let points = self.points.load(Ordering::Relaxed);
        if s.chooser.falls_behind(points) {
            s.tasks[me].priority = s.chooser.behind_all();
        }
        self.wake_by_time(s);
        let next = self.choose(s, None);
        s.tasks[me].site = site;
        self.switch(guard, me, next, site, true);
    }

    pub(super) fn give_way(&self, me: usize, site: &'static str) {
        self.step();
        let mut guard = self.state.lock();
        let s = &mut *guard;
        s.tasks[me].priority = s.chooser.behind_all();
        self.wake_by_time(s);
        if !s.others_can_run(me) {
            // Whoever gives way waits for something: let its time come.
            self.jump(s, false);
        }
        let next = match s.others_can_run(me) {
            true => self.choose(s, Some(me)),
            false => me,
        };
        s.tasks[me].site = site;
        self.switch(guard, me, next, site, true);
    }

    pub(super) fn block(
        &self,
        me: usize,
        key: usize,
        what: &'static str,
        at: &'static Location<'static>,
        site: &'static str,
        timeout: Option<Duration>,
    ) -> Woken {
        self.step();
        let mut guard = self.state.lock();
        let s = &mut *guard;
        let until = timeout.map(|t| {
            let nanos = u64::try_from(t.as_nanos()).unwrap_or(u64::MAX);
            self.now.load(Ordering::Relaxed).saturating_add(nanos)
        });
        let task = &mut s.tasks[me];
        task.status = Status::Blocked { key, until };
        (task.what, task.at, task.site) = (what, Some(at), site);
        self.wake_by_time(s);
        if !s.anybody_can_run() && !self.jump(s, true) {
            let all = s.standing();
            self.die(guard, Over::Deadlock(all));
        }
        let next = self.choose(s, None);
        self.switch(guard, me, next, site, false);
        let mut s = self.state.lock();
        let task = &mut s.tasks[me];
        (task.what, task.at) = ("to run", None);
        task.woken
    }

    pub(super) fn wake(&self, key: usize, at_most: usize) -> usize {
        let s = &mut *self.state.lock();
        let waits = |t: &Task| matches!(t.status, Status::Blocked { key: k, .. } if k == key);
        let mut waiting: Vec<usize> = Vec::new();
        for (i, t) in s.tasks.iter().enumerate() {
            if waits(t) {
                waiting.push(i);
            }
        }
        while waiting.len() > at_most {
            let out = s.rng.random_range(0..waiting.len());
            waiting.remove(out);
        }
        for &i in &waiting {
            s.tasks[i].status = Status::CanRun;
            s.tasks[i].woken = Woken::ByAnother;
        }
        if !waiting.is_empty() && s.chooser.minds_wakes() {
            self.decide_at.store(0, Ordering::Relaxed);
        }
        waiting.len()
    }

    /// The calling thread has ended: its last act.
    pub(super) fn finish(&self, me: usize) {
        self.wake(Self::end_key(me), usize::MAX);
        let mut guard = self.state.lock();
        let s = &mut *guard;
        if s.dead {
            return;
        }
        s.tasks[me].status = Status::Finished;
        s.trace = mix(s.trace, 0xf1 + me as u64);
        self.wake_by_time(s);
        if !s.anybody_can_run() && !self.jump(s, true) {
            let left = s.standing();
            s.over = Some(match left.is_empty() {
                true => Over::Ended,
                false => Over::Deadlock(left),
            });
            s.dead = true;
            self.ended.notify_all();
            return;
        }
        let next = self.choose(s, None);
        s.switches += 1;
        let baton = s.tasks[next].baton.clone();
        drop(guard);
        baton.give();
    }

    /// Those whose time has come can run.
    fn wake_by_time(&self, s: &mut State) {
        let now = self.now.load(Ordering::Relaxed);
        for t in &mut s.tasks {
            if matches!(t.status, Status::Blocked { until: Some(at), .. } if at <= now) {
                t.status = Status::CanRun;
                t.woken = Woken::ByTime;
            }
        }
    }

    /// Nobody can run: the time of the first that waits for it comes. `far`: however
    /// far that is. Returns whether there is one.
    fn jump(&self, s: &mut State, far: bool) -> bool {
        let until = |t: &Task| match t.status {
            Status::Blocked { until, .. } => until,
            _ => None,
        };
        let Some(first) = s.tasks.iter().filter_map(until).min() else {
            return false;
        };
        let now = self.now.load(Ordering::Relaxed);
        // Who gives way polls: its own time should pass too, but not in one leap.
        let to = if far { first } else { first.min(now + 20_000) };
        self.now.store(now.max(to), Ordering::Relaxed);
        self.wake_by_time(s);
        true
    }

    fn choose(&self, s: &mut State, not: Option<usize>) -> usize {
        let points = self.points.load(Ordering::Relaxed);
        let can_run = |(i, t): (usize, &Task)| {
            (matches!(t.status, Status::CanRun) && Some(i) != not).then_some((i, t.priority))
        };
        let all: Vec<(usize, i64)> = s.tasks.iter().enumerate().filter_map(can_run).collect();
        let next = s.chooser.choose(&all, &mut s.rng);
        let stretch = s.chooser.stretch(points, &mut s.rng);
        self.decide_at.store(points + stretch, Ordering::Relaxed);
        s.trace = mix(s.trace, points << 8 | next as u64);
        next
    }

    /// Lets `next` run and waits for the caller's turn.
    fn switch(
        &self,
        mut guard: parking_lot::MutexGuard<'_, State>,
        me: usize,
        next: usize,
        site: &'static str,
        preempted: bool,
    ) {
        let s = &mut *guard;
        if self.points.load(Ordering::Relaxed) > self.max_points {
            let all = s.standing();
            self.die(guard, Over::TooLong(all));
        }
        if next == me {
            return;
        }
        s.switches += 1;
        let at = s.sites.entry(site).or_default();
        match preempted {
            true => at.preempted += 1,
            false => at.waited += 1,
        }
        let theirs = s.tasks[next].baton.clone();
        let mine = s.tasks[me].baton.clone();
        drop(guard);
        theirs.give();
        mine.wait();
    }

    /// The simulation cannot go on: tells who waits for it, and stands still.
    fn die(&self, mut guard: parking_lot::MutexGuard<'_, State>, why: Over) -> ! {
        guard.over = Some(why);
        guard.dead = true;
        self.ended.notify_all();
        drop(guard);
        loop {
            std::thread::park();
        }
    }
}

impl State {
    fn anybody_can_run(&self) -> bool {
        let mut tasks = self.tasks.iter();
        tasks.any(|t| matches!(t.status, Status::CanRun))
    }

    fn others_can_run(&self, me: usize) -> bool {
        let mut tasks = self.tasks.iter().enumerate();
        tasks.any(|(i, t)| i != me && matches!(t.status, Status::CanRun))
    }

    /// The threads that have not ended.
    fn standing(&self) -> Vec<Standing> {
        let left = |t: &&Task| !matches!(t.status, Status::Finished);
        let all = self.tasks.iter().filter(left).map(|t| Standing {
            thread: t.name.clone(),
            waits_for: t.what,
            at: t.at.map_or_else(String::new, ToString::to_string),
            site: t.site,
        });
        all.collect()
    }
}
