//! Answering requests, and keeping the channel of runs filled.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use gaur_iodriver::sync::channel::Sender;

use crate::format::Run;

use super::counters::add;
use super::pick::{Answer, Life};
use super::thread::Worker;
use super::{Request, Shape, SpaceError, Urgency};

/// The answer to a request.
pub(super) type Reserved = Result<Vec<Run>, SpaceError>;

/// A request not answered yet.
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) reply: Sender<Reserved>,
    /// Groups read for it; they stay in memory until it is answered.
    pub(super) looked: BTreeSet<u64>,
    /// Why one of them could not be used.
    pub(super) trouble: Option<SpaceError>,
    /// It waits for space, not for I/O.
    for_space: bool,
    deferred: bool,
}

impl Waiting {
    pub(super) fn new(request: Request, reply: Sender<Reserved>) -> Self {
        Self {
            request,
            reply,
            looked: BTreeSet::new(),
            trouble: None,
            for_space: false,
            deferred: false,
        }
    }
}

impl Worker {
    /// Serves what waits, the oldest first; younger ones may overtake one that
    /// waits for I/O.
    pub(super) fn serve(&mut self) {
        if !std::mem::take(&mut self.progress) {
            return;
        }
        for _ in 0..self.waiting.len() {
            let mut w = self.waiting.pop_front().expect("counted");
            match self.answer(&mut w) {
                Some(answer) => {
                    let counters = &self.shared.counters;
                    if let Ok(runs) = &answer {
                        add(&counters.requests_served, 1);
                        add(
                            &counters.request_blocks,
                            runs.iter().map(|r| u64::from(r.len)).sum(),
                        );
                    } else {
                        add(&counters.requests_refused, 1);
                        // Who is refused can look where the blocks are.
                        self.publish();
                    }
                    if let Err(back) = w.reply.try_send(answer)
                        && let Ok(runs) = back.into_inner()
                    {
                        self.space.undo(&runs);
                    }
                    self.may_evict = true;
                }
                None => self.waiting.push_back(w),
            }
        }
    }

    fn answer(&mut self, w: &mut Waiting) -> Option<Reserved> {
        loop {
            match self.space.reserve(&w.request, &w.looked) {
                Answer::Granted(runs) => {
                    self.extents_used |= w.request.shape != Shape::Nodes;
                    return Some(Ok(runs));
                }
                Answer::Load(groups) => {
                    w.for_space = false;
                    if !std::mem::replace(&mut w.deferred, true) {
                        add(&self.shared.counters.requests_deferred, 1);
                        add(&self.shared.counters.map_waits, 1);
                    }
                    for group in groups {
                        w.looked.insert(group);
                        self.start_load(group);
                    }
                    return None;
                }
                Answer::Wait => {
                    if self.hurry() || self.take_back() {
                        continue;
                    }
                    w.for_space = true;
                    if !std::mem::replace(&mut w.deferred, true) {
                        add(&self.shared.counters.requests_deferred, 1);
                    }
                    return None;
                }
                Answer::Refused(e) => {
                    if self.hurry() || self.take_back() {
                        continue;
                    }
                    return Some(Err(w.trouble.take().unwrap_or(e)));
                }
            }
        }
    }

    /// Whether a request waits for blocks to become free, not for I/O.
    pub(super) fn waits_for_space(&self) -> bool {
        self.waiting.iter().any(|w| w.for_space)
    }

    /// Takes back what waits in the channel. False if nothing did.
    fn take_back(&mut self) -> bool {
        let mut any = false;
        while let Ok(run) = self.filled.try_recv() {
            self.shared
                .channel_blocks
                .fetch_sub(u64::from(run.len), Ordering::Relaxed);
            self.space.undo(&[run]);
            any = true;
        }
        if any {
            add(&self.shared.counters.take_backs, 1);
        }
        any
    }

    /// Fills the channel, if it runs low, and reads ahead for the next time.
    pub(super) fn refill(&mut self) {
        if !self.shared.opened.load(Ordering::SeqCst) || !self.marking.is_empty() {
            return;
        }
        let counters = &self.shared.counters;
        let mut filled = 0;
        let short = self.waits_for_space();
        let low = self.filled.len() <= self.config.low_watermark;
        let kept_back = self.space.kept_back(Urgency::Normal);
        while low && !short && self.fill.len() < self.config.channel_runs {
            let spare = self.space.avail.saturating_sub(kept_back);
            let max = spare.min(u64::from(self.config.run_blocks)) as u32;
            if max == 0 {
                break;
            }
            let Some(run) = self.space.take_run(max) else {
                break;
            };
            let blocks = &self.shared.channel_blocks;
            blocks.fetch_add(u64::from(run.len), Ordering::Relaxed);
            if self.fill.try_send(run).is_err() {
                blocks.fetch_sub(u64::from(run.len), Ordering::Relaxed);
                self.space.undo(&[run]);
                break;
            }
            filled += 1;
        }
        if filled > 0 {
            add(&counters.refills, 1);
            add(&counters.refill_runs, filled);
        }
        if low && self.space.avail > kept_back {
            self.load_ahead(Life::Nodes);
        }
        if std::mem::take(&mut self.extents_used) {
            self.load_ahead(Life::Extents);
        }
    }

    fn load_ahead(&mut self, life: Life) {
        if let Some(group) = self.space.load_ahead(life)
            && !self.loading.contains_key(&group)
        {
            add(&self.shared.counters.loads_ahead, 1);
            self.start_load(group);
        }
    }
}
