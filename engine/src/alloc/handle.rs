//! What callers hold: messages to the thread, the channel of runs, counters.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use gaur_iodriver::sync::atomic::{AtomicBool, Ordering, fence, order};
use gaur_iodriver::sync::channel::{self, Receiver, Sender};
use gaur_iodriver::sync::thread::{self, JoinHandle};
use gaur_iodriver::sync::{Mutex, ShortMutex, fails};
use gaur_iodriver::{Device, IoError, IoErrorKind, Waker};

use crate::error::{Damage, Error, Result};
use crate::format::{Generation, Geometry, Run};

#[cfg(feature = "experiment-cow")]
use super::callers::Callers;
use super::change::Sorted;
use super::counters::{Counters, Counts, Gauges, Stats, add};
use super::discard::{Discards, Status};
use super::pace::DiscardRate;
use super::space::Space;
#[cfg(feature = "experiment-cow")]
use super::thread::Turner;
use super::thread::{Msg, Worker};
use super::trim::Trimmed;
use super::unit::Unit;
use super::{AllocConfig, Changes, MapRoot, Request, SpaceError, load};

/// Messages of blocks given back that may lie unread before the thread is woken
/// for them alone. It reads them all before it says "full".
pub(super) const LAZY: usize = 32;

/// What the threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    pub(super) gauges: Gauges,
    /// The thread waits, or is about to: who clears this wakes it.
    pub(super) idle: AtomicBool,
    /// The channel wants looking at.
    pub(super) nudged: AtomicBool,
    /// Blocks in the channel.
    pub(super) channel_blocks: AtomicU64,
    /// Why the thread ended, if it was not told to.
    pub(super) fallen: OnceLock<String>,
    /// Something was handed out, so it is too late to mark.
    pub(super) opened: AtomicBool,
    /// Who is told when fewer blocks than this are free; 0: nobody.
    pub(super) low: AtomicU64,
    pub(super) tell_low: OnceLock<Sender<()>>,
    /// How discards go.
    pub(super) discard: ShortMutex<Status>,
}

/// The way to the allocator thread.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    pub(super) shared: Arc<Shared>,
    messages: Sender<Msg>,
    waker: Waker,
}

impl Mailbox {
    /// Sends and wakes. Never waits. After the thread's end the message is
    /// dropped, and with it the way to answer it.
    pub(super) fn send(&self, message: Msg) {
        let _ = self.messages.try_send(message);
        self.wake();
    }

    fn wake(&self) {
        fence("mailbox.sent", Ordering::SeqCst);
        let claimed = order("mailbox.wake", Ordering::SeqCst);
        if self.shared.idle.swap(false, claimed) {
            self.waker.wake();
        }
    }

    fn nudge(&self) {
        let asked = order("mailbox.nudge", Ordering::SeqCst);
        if !self.shared.nudged.swap(true, asked) {
            self.wake();
        }
    }
}

/// An answer that comes later.
#[derive(Debug)]
pub struct Ticket<T> {
    answer: Receiver<Result<T>>,
    /// Who works towards it, where there is no thread.
    #[cfg(feature = "experiment-cow")]
    callers: Option<Arc<Callers>>,
}

impl<T> Ticket<T> {
    /// Waits for the answer. Panics under a latch.
    ///
    /// # Errors
    /// The answer's, or [`Error::Stopped`] if the allocator ended first.
    #[track_caller]
    pub fn wait(self) -> Result<T> {
        #[cfg(feature = "experiment-cow")]
        if let Some(callers) = &self.callers {
            callers.turn_until(Turner::Waiter, || !self.answer.is_empty());
        }
        self.answer.recv().unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> Error {
    SpaceError::Stopped.into()
}

/// The handle to the allocator. Shared behind an `Arc`; dropping the last one
/// shuts the allocator down.
#[derive(Debug)]
pub struct Allocator {
    mailbox: Mailbox,
    runs: Receiver<Run>,
    /// As at the start: of a store that grew since, the capacity is too small.
    geometry: Geometry,
    low_watermark: usize,
    reserve_blocks: u64,
    floor: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What there is instead of the thread.
    #[cfg(feature = "experiment-cow")]
    callers: Option<Arc<Callers>>,
}

impl Allocator {
    /// Loads the map's index under `root` and starts the thread. What of the
    /// index is damaged does not hinder the start: see
    /// [`Allocator::damaged_groups`].
    ///
    /// # Errors
    /// If an option is out of its bounds, a queue cannot be had or is broken, or
    /// a thread cannot be started.
    pub fn start(device: &Arc<dyn Device>, root: MapRoot, config: AllocConfig) -> Result<Self> {
        config.check()?;
        let shared = Arc::new(Shared::default());
        let mut loading = device.queue(config.depth)?;
        let (index, damaged) = load::index(loading.as_mut(), &config, root, &shared.counters)?;
        drop(loading);
        // One that nobody has used needs nothing more to become the thread's own:
        // what cannot be had is refused here, not at the thread's first I/O.
        let queue = device.queue(config.depth)?;
        let space = Space::new(&config, index, damaged);
        shared.gauges.store(space.stats());
        let (messages, inbox) = channel::unbounded();
        let (fill, runs) = channel::bounded(config.channel_runs);
        let mailbox = Mailbox {
            shared: Arc::clone(&shared),
            messages,
            waker: queue.waker(),
        };
        let unit = match config.may_discard {
            true => Unit::of(&device.geometry()),
            false => Unit::NONE,
        };
        *shared.discard.lock() = Status::new(&config, &device.geometry(), unit);
        let discards = Discards::new(unit, config.discard, config.discard_rate);
        let (geometry, low_watermark) = (config.geometry, config.low_watermark);
        let reserve_blocks = config.reserve_blocks;
        #[cfg(feature = "experiment-cow")]
        let no_thread = config.experiment.mode != crate::experiment::CowMode::TwoStageThread;
        let worker = Worker::new(
            config,
            space,
            queue,
            inbox,
            (fill, runs.clone()),
            shared,
            discards,
        );
        #[cfg(feature = "experiment-cow")]
        if no_thread {
            return Ok(Self {
                mailbox,
                runs,
                geometry,
                low_watermark,
                reserve_blocks,
                floor: AtomicU64::new(0),
                thread: Mutex::new(None),
                callers: Some(Callers::new(worker, device)?),
            });
        }
        let thread = spawn("gaur-alloc", || worker.run())?;
        Ok(Self {
            mailbox,
            runs,
            geometry,
            low_watermark,
            reserve_blocks,
            floor: AtomicU64::new(0),
            thread: Mutex::new(Some(thread)),
            #[cfg(feature = "experiment-cow")]
            callers: None,
        })
    }

    /// Marks extents that the log names as handed out, so that nothing else gets
    /// them: they are then reported as used, or given back. For recovery, before
    /// anything is handed out. Blocks that the map has in use already are left as
    /// they are, so the same run may be marked again. Waits for map I/O.
    ///
    /// # Errors
    /// If a run is not data, or the allocator stopped.
    ///
    /// # Panics
    /// If something was handed out already, or under a latch.
    pub fn mark_used(&self, runs: Vec<Run>) -> Result<()> {
        assert!(
            !self.mailbox.shared.opened.load(Ordering::SeqCst),
            "extents of the log must be marked before anything is handed out"
        );
        if let Some(bad) = runs.iter().find(|r| !self.geometry.is_data(**r)) {
            let detail = format!("{} blocks are not all in one group's data", bad.len);
            return Err(Damage::new("extent named by the log", bad.start, detail).into());
        }
        self.ask(|reply| Msg::Mark(runs, reply)).wait()
    }

    /// A run for nodes, of 1 to [`AllocConfig::run_blocks`] contiguous blocks, if
    /// one waits in the channel. Never waits; allowed under a latch.
    pub fn try_take(&self) -> Option<Run> {
        let counters = &self.mailbox.shared.counters;
        if fails("hand-off") {
            return None;
        }
        let Ok(run) = self.runs.try_recv() else {
            add(&counters.channel_dry, 1);
            self.warm_up();
            return None;
        };
        let shared = &self.mailbox.shared;
        shared
            .channel_blocks
            .fetch_sub(u64::from(run.len), Ordering::Relaxed);
        add(&counters.channel_runs, 1);
        add(&counters.channel_blocks, u64::from(run.len));
        if self.runs.len() <= self.low_watermark {
            self.mailbox.nudge();
        }
        Some(run)
    }

    /// Has the channel filled, in good time for the first [`Allocator::try_take`].
    /// Never waits. From here on nothing can be marked.
    pub fn warm_up(&self) {
        self.mailbox.shared.opened.store(true, Ordering::SeqCst);
        self.mailbox.nudge();
    }

    /// Exactly the blocks asked for, or none. Waits for the thread's answer,
    /// which may take map I/O or the end of a discard, nothing else.
    ///
    /// # Errors
    /// [`SpaceError::Full`], [`SpaceError::AfterGeneration`], a damaged or
    /// unreadable map block if only it could have served, or
    /// [`SpaceError::Stopped`].
    ///
    /// # Panics
    /// If no block is asked for, or under a latch.
    #[track_caller]
    pub fn reserve(&self, request: Request) -> Result<Vec<Run>, SpaceError> {
        assert!(request.blocks > 0, "a request for nothing");
        self.mailbox.shared.opened.store(true, Ordering::SeqCst);
        add(&self.mailbox.shared.counters.requests, 1);
        if fails("reservation") {
            return Err(SpaceError::Full {
                needed: u64::from(request.blocks),
                free: 0,
            });
        }
        let (reply, answer) = channel::bounded(1);
        self.mailbox.send(Msg::Reserve(request, reply));
        #[cfg(feature = "experiment-cow")]
        if let Some(callers) = &self.callers {
            callers.turn_until(Turner::Taker, || !answer.is_empty());
        }
        answer.recv().unwrap_or(Err(SpaceError::Stopped))
    }

    /// Gives back blocks that neither a frozen generation nor the log names:
    /// unlinked ones, or ones kept at a release. They are allocatable at once, or
    /// after their discard. Parts of what was handed out may be given back.
    /// Never waits; allowed under a latch.
    ///
    /// The thread panics if a block was not handed out: our own bug.
    pub fn give_back(&self, runs: Vec<Run>) {
        self.send_back(runs, true);
    }

    /// As [`Allocator::give_back`], for blocks that were never written: they need
    /// no discard.
    pub fn give_back_unused(&self, runs: Vec<Run>) {
        self.send_back(runs, false);
    }

    fn send_back(&self, runs: Vec<Run>, written: bool) {
        let _ = self
            .mailbox
            .messages
            .try_send(Msg::GiveBack { runs, written });
        if self.mailbox.messages.len() >= LAZY {
            self.mailbox.wake();
        }
    }

    /// Freezes a generation: the map on the device becomes exactly what it uses.
    /// The ticket gives the new root when all map blocks are written, not yet
    /// flushed. One generation at a time: the one before must be released.
    ///
    /// The ticket's error is that of a failed write, or [`Error::Damaged`] if what is
    /// freed was not used, or twice; the store must stop then.
    ///
    /// # Panics
    /// If runs of `used` overlap among themselves: our own bug.
    pub fn freeze(&self, generation: Generation, changes: Changes) -> Ticket<MapRoot> {
        self.freeze_and_grow(generation, changes, None)
    }

    /// [`Allocator::freeze`] of a generation that takes new capacity in, by the new
    /// geometry: that of before with more blocks ([`Geometry::grown`]). The map
    /// under the new root covers it. What is won is handed out after
    /// [`Allocator::release`], so the superblock must name the new capacity by then.
    pub fn freeze_and_grow(
        &self,
        generation: Generation,
        changes: Changes,
        grow: Option<Geometry>,
    ) -> Ticket<MapRoot> {
        let sorted = Sorted::new(&self.geometry, changes);
        self.ask(|reply| Msg::Freeze(generation, sorted, grow, reply))
    }

    /// The superblock that names this generation's map is durable: what the
    /// generation freed is allocatable (after its discard), except `keep`, which
    /// the caller gives back later. Never waits.
    pub fn release(&self, generation: Generation, keep: Vec<Run>) {
        self.mailbox.send(Msg::Release(generation, keep));
    }

    /// Groups whose map block is damaged, lost or twice not readable, and how,
    /// found so far. One that was only not readable is tried again at the next
    /// start, unless a generation changed it: then it is lost.
    ///
    /// # Errors
    /// If the allocator stopped.
    pub fn damaged_groups(&self) -> Result<Vec<(u64, Damage)>> {
        self.ask(Msg::DamagedGroups).wait()
    }

    /// Installs what the newest frozen generation uses in `group`, computed from
    /// the trees: every data block reachable from that generation, in runs. The
    /// group can be allocated from at once; its map block is written at the next
    /// checkpoint. Call it between two freezes, with the trees of the newest.
    ///
    /// # Errors
    /// If `used` contradicts itself or what is known for certain; nothing is
    /// changed then. Or if the allocator stopped.
    pub fn rebuild(&self, group: u64, used: Vec<Run>) -> Result<()> {
        self.ask(|reply| Msg::Rebuild(group, used, reply)).wait()
    }

    /// From now on this many blocks are left to [`Urgency::Reserve`], beside the
    /// reserve: what the next checkpoint takes for itself. Never waits; holds for
    /// requests sent later.
    ///
    /// [`Urgency::Reserve`]: super::Urgency::Reserve
    pub fn set_floor(&self, blocks: u64) {
        self.floor.store(blocks, Ordering::Relaxed);
        let _ = self.mailbox.messages.try_send(Msg::Floor(blocks));
    }

    /// Blocks that only what frees space gets.
    pub fn reserve_blocks(&self) -> u64 {
        self.reserve_blocks
    }

    /// Blocks that [`Urgency::Normal`](super::Urgency) leaves.
    pub fn kept_back(&self) -> u64 {
        self.reserve_blocks + self.floor.load(Ordering::Relaxed)
    }

    /// Blocks that can hold data, used or not.
    pub fn data_blocks(&self) -> u64 {
        self.stats().data
    }

    /// Discards what is free in a group behind its first `from` blocks, at this rate,
    /// or only says what would be (`dry`). Answers in time, with the rest if there is one. Nobody gets a block while its discard is in flight. The groups of
    /// several calls are served one after the other.
    ///
    /// The ticket's error: the device cannot discard, or the allocator stopped.
    pub fn trim(&self, group: u64, from: u32, rate: DiscardRate, dry: bool) -> Ticket<Trimmed> {
        self.ask(|reply| Msg::Trim(group, from, rate, dry, reply))
    }

    /// How fast blocks are discarded as they become free; none if they are not.
    pub fn discard_rate(&self) -> Option<DiscardRate> {
        self.mailbox.shared.discard.lock().rate
    }

    /// What is not as it was asked for with discards, in sentences.
    pub fn discard_notes(&self) -> Vec<String> {
        let failures = self.counts().discard_failures;
        self.mailbox.shared.discard.lock().notes(failures)
    }

    /// Waits until all that was sent before is taken into account, so that
    /// [`Allocator::stats`] shows it.
    ///
    /// # Errors
    /// If the allocator stopped.
    pub fn settle(&self) -> Result<()> {
        self.ask(Msg::Settle).wait()
    }

    /// Has `tell` sent to once when fewer than `low` blocks are free, or become free
    /// without anybody's doing, and again when that happens after there were half
    /// as many more. 0: never. The first `tell` counts.
    pub fn tell_when_low(&self, low: u64, tell: &Sender<()>) {
        let shared = &self.mailbox.shared;
        shared.tell_low.get_or_init(|| tell.clone());
        shared.low.store(low, Ordering::Relaxed);
        self.mailbox.nudge();
    }

    /// Blocks that are free, or become so without anybody's doing: pending, or being
    /// discarded. All that was sent before is taken into account.
    ///
    /// # Errors
    /// If the allocator stopped.
    pub fn free_soon(&self) -> Result<u64> {
        self.ask(Msg::FreeSoon).wait()
    }

    /// Counters since the start.
    pub fn counts(&self) -> Counts {
        self.mailbox.shared.counters.snapshot()
    }

    /// Where the blocks are.
    pub fn stats(&self) -> Stats {
        let shared = &self.mailbox.shared;
        Stats {
            channel: shared.channel_blocks.load(Ordering::Relaxed),
            ..shared.gauges.snapshot()
        }
    }

    /// Blocks that could be handed out now, the reserve and the channel included.
    pub fn free_blocks(&self) -> u64 {
        let stats = self.stats();
        stats.free + stats.channel
    }

    /// Why the thread ended without being told to: its queue broke, or it panicked.
    pub fn fallen(&self) -> Option<&str> {
        self.mailbox.shared.fallen.get().map(String::as_str)
    }

    /// Ends the thread and waits for it. What waits to be discarded is not. Who waits for an answer gets
    /// [`SpaceError::Stopped`]; I/O in flight is waited for. Later calls are
    /// answered the same way. Also done on drop.
    pub fn shutdown(&self) {
        self.mailbox.send(Msg::Shutdown);
        #[cfg(feature = "experiment-cow")]
        if let Some(callers) = &self.callers {
            callers.end();
        }
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic there was reported by itself; all callers got `Stopped`.
            let _ = thread.join();
        }
    }

    fn ask<T>(&self, message: impl FnOnce(Sender<Result<T>>) -> Msg) -> Ticket<T> {
        let (reply, answer) = channel::bounded(1);
        self.mailbox.send(message(reply));
        Ticket {
            answer,
            #[cfg(feature = "experiment-cow")]
            callers: self.callers.clone(),
        }
    }

    /// Has every group's map read, so that no request waits for one as long as there
    /// is memory for all.
    #[cfg(feature = "experiment-cow")]
    pub(crate) fn load_all(&self) -> Ticket<()> {
        self.ask(Msg::LoadAll)
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::spawn(name, body).map_err(|e| {
        Error::Io(IoError {
            kind: IoErrorKind::Failed,
            what: "start thread",
            offset: 0,
            len: 0,
            os: e.raw_os_error(),
            detail: e.to_string(),
        })
    })
}
