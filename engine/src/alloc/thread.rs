//! The event loop. Each turn: messages, completions, the checkpoint, requests
//! that wait, the channel; then wait for any completion or any message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gaur_iodriver::sync::atomic::{Ordering, fence, order};
use gaur_iodriver::sync::channel::{Receiver, Sender};
use gaur_iodriver::sync::{thread, time};
use gaur_iodriver::{Completion, IoBuf, IoError, Op, Queue, Request as IoRequest};

use crate::error::{Damage, Result};
use crate::format::{Generation, Geometry, Run};

use super::change::Sorted;
use super::counters::{Stats, add};
use super::discard::Discards;
use super::freeze::Freezing;
use super::handle::Shared;
use super::pace::{DiscardRate, Pace};
use super::serve::{Reserved, Waiting};
use super::space::Space;
use super::trim::{Trim, Trimmed};
use super::{AllocConfig, MapRoot, Request, SpaceError};

/// Messages handled in a turn.
const MESSAGES: usize = 1024;
/// Groups that may stay in memory, however small the cap.
const MIN_LOADED: usize = 4;
/// Buffers kept for the next I/O.
const BUFFERS: usize = 64;

/// Tokens of the thread's I/O: what it was, and the group.
pub(super) mod token {
    const KIND: u32 = 62;
    pub(in crate::alloc) const INDEX_WRITE: u64 = 2 << KIND;
    /// With a number in the lower bits.
    pub(in crate::alloc) const DISCARD: u64 = 3 << KIND;

    pub(in crate::alloc) fn map_write(group: u64) -> u64 {
        (1 << KIND) | group
    }

    pub(in crate::alloc) fn map_read(group: u64) -> u64 {
        group
    }

    pub(in crate::alloc) fn kind(token: u64) -> u64 {
        token >> KIND
    }

    pub(in crate::alloc) fn group(token: u64) -> u64 {
        token & ((1 << KIND) - 1)
    }
}

/// What the thread is told. The channel has no bound of its own: senders either
/// wait for an answer, or give back what was handed out, which is bounded.
#[derive(Debug)]
pub(super) enum Msg {
    Mark(Vec<Run>, Sender<Result<()>>),
    Reserve(Request, Sender<Reserved>),
    GiveBack {
        runs: Vec<Run>,
        written: bool,
    },
    Freeze(
        Generation,
        Result<Sorted, Damage>,
        Option<Geometry>,
        Sender<Result<MapRoot>>,
    ),
    Release(Generation, Vec<Run>),
    Floor(u64),
    /// A group's free space is to be discarded, or only looked at.
    Trim(u64, u32, DiscardRate, bool, Sender<Result<Trimmed>>),
    Rebuild(u64, Vec<Run>, Sender<Result<()>>),
    DamagedGroups(Sender<Result<Vec<(u64, Damage)>>>),
    FreeSoon(Sender<Result<u64>>),
    Settle(Sender<Result<()>>),
    /// Every group is to be read.
    #[cfg(feature = "experiment-cow")]
    LoadAll(Sender<Result<()>>),
    Shutdown,
}

/// Extents of the log, by group, not marked yet.
pub(super) struct Marking {
    todo: BTreeMap<u64, Vec<Run>>,
    reply: Sender<Result<()>>,
}

/// Who turns the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turner {
    /// The allocator's own thread.
    Thread,
    /// A caller that wants blocks, where there is no thread.
    #[cfg(feature = "experiment-cow")]
    Taker,
    /// A caller that waits for anything else.
    #[cfg(feature = "experiment-cow")]
    Waiter,
}

#[cfg(not(feature = "experiment-cow"))]
impl Turner {
    fn steps_freeze(self) -> bool {
        true
    }

    fn fills_channel(self) -> bool {
        true
    }
}

/// Says so if the thread panics.
struct Fallen(Arc<Shared>);

impl Drop for Fallen {
    fn drop(&mut self) {
        if thread::is_panicking() {
            let _ = self.0.fallen.set("the allocator panicked".into());
        }
    }
}

/// The allocator thread.
pub(super) struct Worker {
    pub(super) config: AllocConfig,
    pub(super) space: Space,
    pub(super) shared: Arc<Shared>,
    pub(super) freezing: Option<Freezing>,
    /// Requests to hand to the device at the end of the turn.
    pub(super) submit: Vec<IoRequest>,
    queue: Box<dyn Queue>,
    inbox: Receiver<Msg>,
    pub(super) fill: Sender<Run>,
    pub(super) filled: Receiver<Run>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) marking: Vec<Marking>,
    rebuilds: Vec<(u64, Vec<Run>, Sender<Result<()>>)>,
    settling: Vec<Sender<Result<()>>>,
    /// Groups being read, and how often that failed.
    pub(super) loading: BTreeMap<u64, u32>,
    /// Those of them not submitted yet.
    to_load: VecDeque<u64>,
    pub(super) discards: Discards,
    pub(super) trims: VecDeque<Trim>,
    pub(super) trim_pace: Pace,
    buffers: Vec<IoBuf>,
    /// Something happened that waiting requests may wait for.
    pub(super) progress: bool,
    /// Something happened that may let groups go.
    pub(super) may_evict: bool,
    /// Look for groups to drop only when so many are in memory: if most are
    /// needed, looking at all of them again for every message would be dear.
    pub(super) evict_at: usize,
    /// The most groups that were in memory.
    loaded_most: usize,
    pub(super) extents_used: bool,
    /// It was told that space is low.
    pub(super) told_low: bool,
    pub(super) stop: bool,
    #[cfg(feature = "experiment-cow")]
    pub(super) loading_all: Vec<Sender<Result<()>>>,
}

impl Worker {
    pub(super) fn new(
        config: AllocConfig,
        space: Space,
        queue: Box<dyn Queue>,
        inbox: Receiver<Msg>,
        (fill, filled): (Sender<Run>, Receiver<Run>),
        shared: Arc<Shared>,
        discards: Discards,
    ) -> Self {
        Self {
            config,
            space,
            shared,
            freezing: None,
            submit: Vec::new(),
            queue,
            inbox,
            fill,
            filled,
            waiting: VecDeque::new(),
            marking: Vec::new(),
            rebuilds: Vec::new(),
            settling: Vec::new(),
            loading: BTreeMap::new(),
            to_load: VecDeque::new(),
            discards,
            trims: VecDeque::new(),
            trim_pace: Pace::default(),
            buffers: Vec::new(),
            progress: false,
            may_evict: false,
            evict_at: 0,
            loaded_most: 0,
            extents_used: false,
            told_low: false,
            stop: false,
            #[cfg(feature = "experiment-cow")]
            loading_all: Vec::new(),
        }
    }

    /// Runs until told to stop, or the queue breaks.
    pub(super) fn run(mut self) {
        let _fallen = Fallen(Arc::clone(&self.shared));
        let result = self.turns();
        if let Err(e) = &result {
            let _ = self.shared.fallen.set(e.to_string());
        }
        self.drop_discards();
        for w in self.waiting.drain(..) {
            let _ = w.reply.try_send(Err(SpaceError::Stopped));
        }
        if let (Err(e), Some(f)) = (result, self.freezing.take()) {
            let _ = f.reply.try_send(Err(e.into()));
        }
        // Everybody else sees the other end of the reply channel go.
    }

    fn turns(&mut self) -> Result<(), IoError> {
        let mut done = Vec::new();
        let mut busy = true;
        loop {
            let shared = Arc::clone(&self.shared);
            shared
                .idle
                .store(!busy, order("mailbox.idle", Ordering::SeqCst));
            fence("mailbox.idle_said", Ordering::SeqCst);
            let nudged = order("mailbox.look", Ordering::SeqCst);
            busy |= !self.inbox.is_empty() || shared.nudged.load(nudged);
            let at_least = if busy { 0 } else { usize::MAX };
            let due = self.discards.due;
            let timeout = due.map(|at| at.saturating_duration_since(time::now()));
            self.queue.wait(at_least, timeout, &mut done)?;
            shared.idle.store(false, Ordering::SeqCst);
            shared
                .nudged
                .store(false, order("mailbox.answered", Ordering::SeqCst));
            add(&shared.counters.turns, 1);
            busy = self.turn(&mut done, Turner::Thread);
            if !self.submit.is_empty() {
                self.queue.submit(&mut self.submit)?;
            }
            if self.stop {
                return Ok(());
            }
        }
    }

    /// One turn. True if there is more to do without waiting. The I/O it begins is in
    /// `submit`.
    pub(super) fn turn(&mut self, done: &mut Vec<Completion>, by: Turner) -> bool {
        for _ in 0..MESSAGES {
            match self.inbox.try_recv() {
                Ok(message) => self.handle(message),
                Err(_) => break,
            }
        }
        for completion in done.drain(..) {
            self.complete(completion);
        }
        self.mark();
        let mut more = by.steps_freeze() && self.step_freeze();
        if self.freezing.is_none() {
            for (group, used, reply) in std::mem::take(&mut self.rebuilds) {
                let done = self.space.rebuild(group, used);
                add(
                    &self.shared.counters.groups_rebuilt,
                    u64::from(done.is_ok()),
                );
                let _ = reply.try_send(done);
                self.progress = true;
            }
        }
        self.serve();
        if by.fills_channel() {
            self.refill();
        }
        self.step_discards();
        self.evict();
        self.submit_loads();
        self.publish();
        #[cfg(feature = "experiment-cow")]
        self.tell_loaded();
        if self.inbox.is_empty() {
            for reply in self.settling.drain(..) {
                let _ = reply.try_send(Ok(()));
            }
        } else {
            more = true;
        }
        more || self.progress
    }

    fn handle(&mut self, message: Msg) {
        match message {
            Msg::Mark(runs, reply) => {
                let mut todo: BTreeMap<u64, Vec<Run>> = BTreeMap::new();
                for run in runs {
                    let group = self.config.geometry.group_of(run.start);
                    todo.entry(group).or_default().push(run);
                }
                for &group in todo.keys() {
                    self.start_load(group);
                }
                self.marking.push(Marking { todo, reply });
            }
            Msg::Reserve(request, reply) => {
                self.progress = true;
                self.waiting.push_back(Waiting::new(request, reply));
            }
            Msg::GiveBack { runs, written } => {
                for run in runs {
                    add(&self.shared.counters.given_back_blocks, u64::from(run.len));
                    self.space.give_back(run);
                    self.free(run, written);
                }
            }
            Msg::Freeze(generation, sorted, grow, reply) => match sorted {
                Ok(sorted) => self.begin_freeze(generation, sorted, grow, reply),
                Err(damage) => {
                    let _ = reply.try_send(Err(damage.into()));
                }
            },
            Msg::Release(generation, keep) => {
                let new_from = self.grown();
                for &run in self.space.release(generation, keep).runs() {
                    self.free(run, run.start < new_from);
                }
            }
            Msg::Trim(group, from, rate, dry, reply) => {
                let trim = Trim::new(group, from, rate, dry, reply);
                self.trims.push_back(trim);
            }
            Msg::Floor(blocks) => self.space.floor = blocks,
            Msg::Rebuild(group, used, reply) => self.rebuilds.push((group, used, reply)),
            Msg::DamagedGroups(reply) => {
                let all = self.space.damaged.iter().map(|(&g, d)| (g, d.clone()));
                let _ = reply.try_send(Ok(all.collect()));
            }
            Msg::FreeSoon(reply) => {
                let channel = self.shared.channel_blocks.load(Ordering::Relaxed);
                let _ = reply.try_send(Ok(self.space.free_soon() + channel));
            }
            Msg::Settle(reply) => self.settling.push(reply),
            #[cfg(feature = "experiment-cow")]
            Msg::LoadAll(reply) => self.load_all(reply),
            Msg::Shutdown => self.stop = true,
        }
    }

    fn complete(&mut self, c: Completion) {
        let group = token::group(c.token);
        match token::kind(c.token) {
            0 => self.loaded(group, c.result, c.buf.as_deref()),
            1 => self.freeze_wrote(Some(group), c.result),
            2 => self.freeze_wrote(None, c.result),
            _ => self.discard_done(group, c.result),
        }
        self.may_evict = true;
        if let Some(buf) = c.buf
            && self.buffers.len() < BUFFERS
        {
            self.buffers.push(buf);
        }
    }

    /// Has a group read, unless that is not needed or under way.
    pub(super) fn start_load(&mut self, group: u64) {
        if self.space.cold(group) && !self.loading.contains_key(&group) {
            self.loading.insert(group, 0);
            self.to_load.push_back(group);
        }
    }

    fn submit_loads(&mut self) {
        let depth = self.config.depth as usize;
        while self.loading.len() - self.to_load.len() < depth
            && let Some(group) = self.to_load.pop_front()
        {
            add(&self.shared.counters.map_reads, 1);
            let place = self.space.index.place((0, group));
            let buf = self.buffer();
            self.submit.push(IoRequest {
                token: token::map_read(group),
                op: Op::Read {
                    offset: self.config.geometry.byte(place),
                    buf,
                },
            });
        }
    }

    fn loaded(&mut self, group: u64, result: Result<(), IoError>, block: Option<&[u8]>) {
        let tries = self.loading.remove(&group).expect("it was being read");
        self.progress = true;
        if !self.space.cold(group) {
            return; // rebuilt meanwhile
        }
        let trouble = match (result, block) {
            (Ok(()), Some(block)) => self.space.load(group, block).err().map(SpaceError::Damaged),
            (Ok(()), None) => unreachable!("a read hands its buffer back"),
            (Err(e), _) => {
                if tries == 0 {
                    self.loading.insert(group, 1);
                    self.to_load.push_back(group);
                    return;
                }
                let place = self.space.index.place((0, group));
                let damage = Damage::new("map block", place, e.to_string());
                self.space.set_damaged(group, damage);
                Some(SpaceError::Io(e))
            }
        };
        if let Some(trouble) = trouble {
            add(&self.shared.counters.map_read_failures, 1);
            for w in self
                .waiting
                .iter_mut()
                .filter(|w| w.looked.contains(&group))
            {
                w.trouble.get_or_insert_with(|| trouble.clone());
            }
        }
    }

    pub(super) fn buffer(&mut self) -> IoBuf {
        let size = self.config.geometry.block_size as usize;
        self.buffers.pop().unwrap_or_else(|| IoBuf::zeroed(size))
    }

    fn mark(&mut self) {
        let space = &mut self.space;
        self.marking.retain_mut(|m| {
            m.todo.retain(|&group, runs| {
                let wait = space.cold(group);
                if !wait {
                    runs.drain(..).for_each(|run| space.mark(run));
                }
                wait
            });
            if m.todo.is_empty() {
                let _ = m.reply.try_send(Ok(()));
            }
            !m.todo.is_empty()
        });
    }

    fn evict(&mut self) {
        let count = self.space.loaded.len();
        self.loaded_most = self.loaded_most.max(count);
        if !std::mem::take(&mut self.may_evict) || count < self.evict_at {
            return;
        }
        let keep = (self.config.map_memory / self.group_bytes()).max(MIN_LOADED);
        let (freezing, waiting) = (&self.freezing, &self.waiting);
        let (marking, trims) = (&self.marking, &self.trims);
        let gone = self.space.evict(keep, |g| {
            freezing.as_ref().is_some_and(|f| f.todo.contains_key(&g))
                || waiting.iter().any(|w| w.looked.contains(&g))
                || marking.iter().any(|m| m.todo.contains_key(&g))
                || trims.iter().any(|t| t.group == g)
        });
        add(&self.shared.counters.evictions, gone as u64);
        let left = count - gone;
        self.evict_at = (left + left / 8).max(keep) + 1;
    }

    /// Bytes of a loaded group's two bitmaps.
    fn group_bytes(&self) -> usize {
        2 * self.config.geometry.group_blocks() as usize / 8
    }

    pub(super) fn publish(&mut self) {
        self.tell_low();
        self.shared.gauges.store(Stats {
            waiting: self.waiting.len() as u64,
            discard_waiting: self.discards.waiting_blocks(),
            map_bytes: (self.space.loaded.len() * self.group_bytes()) as u64,
            map_bytes_most: (self.loaded_most * self.group_bytes()) as u64,
            ..self.space.stats()
        });
    }
}
