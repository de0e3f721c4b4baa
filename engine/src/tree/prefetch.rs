//! Reading many nodes at once: misses that can be foreseen go to the device
//! together, through a queue of the calling thread, instead of one by one.

use gaur_iodriver::sync::thread;
use gaur_iodriver::{Completion, IoBuf, Op as IoOp, Queue, Request};

use super::descend::{Found, Toward};
use super::load::has_fences;
use super::{Forest, Parent, TreeState};
use crate::error::Result;
use crate::format::BlockPtr;
use crate::node::{NodeBuf, load_image};
use crate::stats::Wait;
use crate::worker::Worker;

/// Reads in flight at most.
pub(crate) const DEPTH: usize = 64;
/// Levels brought in at most; more than a tree has.
const ROUNDS: usize = 8;

/// A node that is not in memory and will be needed.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    tree: &'a TreeState,
    parent: Parent,
    ptr: BlockPtr,
    level: Option<u8>,
    /// A key it covers, to find its parent again; without, `parent` must stand.
    key: Option<&'a [u8]>,
}

impl Forest {
    /// How many nodes it is sensible to read ahead with this cache.
    pub(crate) fn read_ahead(&self) -> usize {
        DEPTH.min(self.cache.frames() / 16)
    }

    /// Brings in the leaves that cover the keys, and what is missing above them.
    /// Best effort: what fails here is found again, and reported, by the search
    /// that needs it. Nothing may be held.
    pub(crate) fn prefetch_keys<'a>(
        &self,
        worker: &Worker,
        keys: impl Iterator<Item = (&'a TreeState, &'a [u8])> + Clone,
    ) -> Result<()> {
        // Each round brings in one more level. Others may evict what comes in, so
        // there is an end to it.
        for _ in 0..ROUNDS {
            let mut wanted: Vec<Wanted<'a>> = Vec::new();
            for (tree, key) in keys.clone() {
                if let Found::Missing { parent, ptr, level } =
                    self.descend(tree, Toward::Key(key), 0, None)
                    && ptr.checksum != 0
                    && wanted.last().is_none_or(|w| w.ptr != ptr)
                {
                    wanted.push(Wanted {
                        tree,
                        parent,
                        ptr,
                        level,
                        key: Some(key),
                    });
                }
            }
            // A lone leaf is read as cheaply by the search; above a lone inner node, as
            // the root of a tree that is not in memory, there are many.
            let lone = wanted.len() == 1 && wanted[0].level == Some(0);
            if wanted.is_empty() || lone || self.read_all(worker, &wanted)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Brings in the children of `parent` from `slot` on, forwards or backwards, up
    /// to `count`; whether any came. Best effort, as above.
    pub(crate) fn prefetch_siblings(
        &self,
        worker: &Worker,
        tree: &TreeState,
        parent: Parent,
        reverse: bool,
        count: usize,
    ) -> Result<bool> {
        let Some(frame) = parent.frame else {
            return Ok(false);
        };
        let page = self.cache.page(frame);
        let level = page.level().checked_sub(1);
        let slots = page.slots();
        let mut wanted = Vec::new();
        let mut slot = parent.slot;
        while wanted.len() < count && slot < slots {
            let child = page.child(slot);
            let there = child.hint != 0
                && child.hint as usize <= self.cache.known()
                && self.cache.frame(child.hint - 1).holds(child.ptr);
            if !there && child.ptr.checksum != 0 {
                let parent = Parent { slot, ..parent };
                wanted.push(Wanted {
                    tree,
                    parent,
                    ptr: child.ptr,
                    level,
                    key: None,
                });
            }
            slot = if reverse {
                slot.wrapping_sub(1)
            } else {
                slot + 1
            };
        }
        if !self.cache.frame(frame).latch.validate(parent.version) || wanted.len() < 2 {
            return Ok(false);
        }
        Ok(self.read_all(worker, &wanted)? > 0)
    }

    /// Reads the nodes, [`DEPTH`] at a time, and puts them in their places. Returns
    /// how many got there.
    fn read_all(&self, worker: &Worker, wanted: &[Wanted<'_>]) -> Result<usize> {
        let mut installed = 0;
        for group in wanted.chunks(self.read_ahead().max(1)) {
            let put = |w: &Wanted<'_>, node: &NodeBuf| {
                let parent = match w.key {
                    None => w.parent,
                    Some(key) => match self.descend(w.tree, Toward::Key(key), 0, None) {
                        Found::Missing { parent, ptr, .. } if ptr == w.ptr => parent,
                        _ => return,
                    },
                };
                // What is not sound is for the search that needs it to tell.
                let (lower, upper) = self.fences(w.tree, parent);
                if has_fences(node.page(), &lower, upper.as_deref(), w.tree).is_ok() {
                    installed += usize::from(self.install(worker, w.tree, parent, w.ptr, node));
                }
            };
            worker
                .counters
                .waiting(Wait::Read, || self.read_group(worker, group, put))?;
        }
        Ok(installed)
    }

    /// Reads the nodes, and gives each to `put` while the others are on their way.
    fn read_group(
        &self,
        worker: &Worker,
        group: &[Wanted<'_>],
        mut put: impl FnMut(&Wanted<'_>, &NodeBuf),
    ) -> Result<()> {
        let size = self.geometry.block_size as usize;
        let node = NodeBuf::new(size / 8);
        let mut requests = Vec::new();
        for (i, w) in group.iter().enumerate() {
            if w.ptr.addr < self.geometry.capacity() && w.ptr.len == 1 && w.ptr.flags == 0 {
                let offset = self.geometry.byte(w.ptr.addr);
                let op = IoOp::Read {
                    offset,
                    buf: IoBuf::zeroed(size),
                };
                requests.push(Request {
                    token: i as u64,
                    op,
                });
            }
        }
        let mut left = requests.len();
        worker.counters.misses.add(left as u64);
        // Without a queue nothing is read ahead; the search reads what it needs.
        let _ = self.with_queue(worker, |queue| {
            queue.submit(&mut requests)?;
            let mut done: Vec<Completion> = Vec::new();
            while left > 0 {
                queue.wait(1, None, &mut done)?;
                for c in done.drain(..) {
                    left -= 1;
                    let w = &group[c.token as usize];
                    let (Ok(()), Some(buf)) = (c.result, c.buf) else {
                        continue;
                    };
                    let (tree, level) = (w.tree.expects(w.ptr.birth), w.level);
                    if load_image(&buf, w.ptr, self.store, tree, level, node.page()).is_ok() {
                        put(w, &node);
                    }
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The worker's own queue, made when it is first needed. `None`: there is none to
    /// be had, for want of memory, descriptors or threads.
    fn with_queue<T>(
        &self,
        worker: &Worker,
        f: impl FnOnce(&mut dyn Queue) -> Result<T>,
    ) -> Result<Option<T>> {
        let me = thread::current_id();
        let mut slot = worker.queue.lock();
        // A queue stays with the thread that made it.
        if slot.as_ref().is_none_or(|(owner, _)| *owner != me) {
            let Ok(queue) = self.device.queue(DEPTH as u32) else {
                return Ok(None);
            };
            *slot = Some((me, queue));
        }
        let (_, queue) = slot.as_mut().expect("just made");
        let out = f(queue.as_mut());
        // Whoever closes the store drops it.
        queue.hand_over();
        if out.is_err() {
            // What is in flight there must not be taken for an answer later.
            *slot = None;
        }
        out.map(Some)
    }
}
