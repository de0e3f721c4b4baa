//! A checkpoint's way through the map: read what is cold, apply, write the other
//! slots, then the index blocks up to the root. A few groups a turn, so that
//! requests are served in between.
//!
//! The index blocks name the map blocks by checksum, which is known before any of
//! them is on the device; nothing is valid before the superblock names the root,
//! and that is written only after a flush. So the writes need no order.

use std::collections::BTreeMap;

use gaur_iodriver::sync::channel::Sender;
use gaur_iodriver::sync::within;
use gaur_iodriver::{IoBuf, IoError, Op, Request};

use crate::error::{Error, Result};
use crate::format::{Generation, Geometry};

use super::MapRoot;
use super::change::{Change, Sorted};
use super::counters::add;
use super::thread::{Worker, token};

/// Groups looked at in a turn.
const WINDOW: usize = 64;

/// A freeze under way.
#[derive(Debug)]
pub(super) struct Freezing {
    generation: Generation,
    /// The new geometry, until it is taken in.
    grow: Option<Geometry>,
    /// Groups not applied yet.
    pub(super) todo: BTreeMap<u64, Change>,
    writes: usize,
    index_written: bool,
    waited: bool,
    failed: Option<Error>,
    pub(super) reply: Sender<Result<MapRoot>>,
}

impl Worker {
    pub(super) fn begin_freeze(
        &mut self,
        generation: Generation,
        sorted: Sorted,
        grow: Option<Geometry>,
        reply: Sender<Result<MapRoot>>,
    ) {
        assert!(self.freezing.is_none(), "two generations freeze at once");
        add(&self.shared.counters.freezes, 1);
        #[cfg(faults)]
        self.discard_early(&sorted.freed);
        if let Err(damage) = self.space.begin(generation, sorted.freed) {
            let _ = reply.try_send(Err(damage.into()));
            return;
        }
        let mut todo = sorted.groups;
        for &group in &self.space.rebuilt {
            todo.entry(group).or_default();
        }
        self.freezing = Some(Freezing {
            generation,
            grow,
            todo,
            writes: 0,
            index_written: false,
            waited: false,
            failed: None,
            reply,
        });
    }

    /// Does what can be done now. True if there is more to do without waiting.
    pub(super) fn step_freeze(&mut self) -> bool {
        let Some(mut f) = self.freezing.take() else {
            return false;
        };
        let _site = within("map writes");
        if let Some(to) = f.grow {
            if !self.can_grow(&to) {
                self.freezing = Some(f);
                return false;
            }
            if let Some((group, run)) = self.space.grow(f.generation, to) {
                f.todo.entry(group).or_default().freed.push(run);
            }
            f.grow = None;
        }
        let mut cold = Vec::new();
        let mut more = false;
        let window: Vec<u64> = f.todo.keys().take(WINDOW).copied().collect();
        for group in window {
            if self.space.cold(group) {
                cold.push(group);
            } else if self.space.is_damaged(group) {
                let change = f.todo.remove(&group).expect("listed");
                self.space.apply_lost(group, &change);
                more = true;
            } else if f.writes < self.config.depth as usize {
                let change = f.todo.remove(&group).expect("listed");
                let mut buf = self.buffer();
                more = true;
                match self.space.apply(group, &change, f.generation, &mut buf) {
                    Ok(place) => {
                        add(&self.shared.counters.map_writes, 1);
                        self.write(token::map_write(group), place, buf);
                        f.writes += 1;
                    }
                    Err(damage) => {
                        f.failed.get_or_insert(damage.into());
                    }
                }
            }
        }
        if !cold.is_empty() && !f.waited {
            f.waited = true;
            add(&self.shared.counters.map_waits, 1);
        }
        for group in cold {
            self.start_load(group);
        }
        if f.todo.is_empty() && !f.index_written {
            f.index_written = true;
            let mut blocks = Vec::new();
            let size = self.config.geometry.block_size as usize;
            self.space.index.write(f.generation, |place, fill| {
                let mut buf = IoBuf::zeroed(size);
                fill(&mut buf);
                blocks.push((place, buf));
            });
            add(&self.shared.counters.index_writes, blocks.len() as u64);
            f.writes += blocks.len();
            for (place, buf) in blocks {
                self.write(token::INDEX_WRITE, place, buf);
            }
        }
        if f.index_written && f.writes == 0 {
            let root = self.space.index.root();
            self.evict_at = 0;
            let _ = f.reply.try_send(f.failed.map_or(Ok(root), Err));
            return true;
        }
        self.freezing = Some(f);
        more
    }

    fn write(&mut self, token: u64, place: u64, buf: IoBuf) {
        self.submit.push(Request {
            token,
            op: Op::Write {
                offset: self.config.geometry.byte(place),
                buf,
                durable: false,
            },
        });
    }

    /// A write of the freeze is over.
    pub(super) fn freeze_wrote(&mut self, group: Option<u64>, result: Result<(), IoError>) {
        if let Some(group) = group {
            self.space.written(group);
        }
        let f = self.freezing.as_mut().expect("writes belong to a freeze");
        f.writes -= 1;
        if let Err(e) = result {
            f.failed.get_or_insert(Error::Io(e));
        }
    }
}
