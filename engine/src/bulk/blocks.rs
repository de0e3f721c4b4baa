//! The blocks that a bulk load writes to.

use std::sync::Arc;

use gaur_iodriver::IoBuf;
use gaur_iodriver::sync::within;

use super::writer::{Full, Writer};
use crate::alloc::{Request, Shape, SpaceError, Urgency};
use crate::commit::extents;
use crate::core::Core;
use crate::error::Result;
use crate::format::{BlockNo, BlockPtr, Run};
use crate::node::{NodeBuf, Page, store_image};
use crate::shortage::Claim;

/// Blocks that are asked for at first, and the least and most later. The more there are the
/// longer are the runs.
const LEAST: u32 = 64;
const MOST: u32 = 4096;
/// Pieces in which a large request may be served; in more it is made smaller.
const PIECES: usize = 8;
/// Bytes written at once.
pub(super) const BUFFER: usize = 1 << 20;

/// The blocks of a tree that is being built. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Blocks {
    core: Arc<Core>,
    writer: Option<Writer>,
    scratch: NodeBuf,
    /// Reserved, the next last.
    ahead: Vec<Run>,
    want: u32,
    /// Those that were taken, in order.
    taken: Vec<Run>,
    buf: IoBuf,
    /// Where the buffer belongs, and blocks in it.
    start: BlockNo,
    blocks: usize,
}

impl Blocks {
    pub(super) fn new(core: Arc<Core>) -> Result<Self> {
        let block_size = core.forest.geometry.block_size as usize;
        let writer = Some(Writer::start(&core)?);
        core.shelf.lock().loading += 1;
        Ok(Self {
            writer,
            scratch: NodeBuf::new(block_size / 8),
            ahead: Vec::new(),
            want: LEAST,
            taken: Vec::new(),
            buf: IoBuf::zeroed(BUFFER),
            start: 0,
            blocks: 0,
            core,
        })
    }

    /// Writes a node, which `build` makes but for its identity, to the next block.
    pub(super) fn write(&mut self, build: impl FnOnce(Page<'_>)) -> Result<BlockPtr> {
        let addr = self.take()?;
        let block_size = self.core.forest.geometry.block_size as usize;
        let full = (self.blocks + 1) * block_size > BUFFER;
        if self.blocks > 0 && (full || addr != self.start + self.blocks as u64) {
            self.ship()?;
        }
        if self.blocks == 0 {
            self.start = addr;
        }
        let birth = self.core.forest.running();
        let page = self.scratch.page();
        build(page);
        page.set_identity(addr, birth);
        let image = &mut self.buf[self.blocks * block_size..][..block_size];
        let checksum = store_image(page, image);
        self.blocks += 1;
        Ok(BlockPtr {
            checksum,
            ..BlockPtr::unwritten(addr, birth)
        })
    }

    /// Takes the extents of a large value, which are written, into its account.
    pub(super) fn adopt(&mut self, stored: &[u8]) {
        let block_size = self.core.forest.geometry.block_size;
        for piece in extents(stored) {
            self.note(piece.run(block_size));
        }
    }

    /// Writes the rest and waits until all is on the device, though not flushed.
    pub(super) fn written(&mut self) -> Result<()> {
        if self.blocks > 0 {
            self.ship()?;
        }
        let writer = self.writer.take();
        writer.map_or(Ok(()), |w| w.end(&self.core))
    }

    /// The runs that were written, sorted.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut sorted = self.taken.clone();
        sorted.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for run in sorted {
            match runs.last_mut().filter(|last| last.end() == run.start) {
                Some(last) => last.len += run.len,
                None => runs.push(run),
            }
        }
        runs
    }

    /// They are the tree's now.
    pub(super) fn keep(&mut self) {
        self.taken.clear();
    }

    fn note(&mut self, run: Run) {
        match self.taken.last_mut().filter(|last| last.end() == run.start) {
            Some(last) => last.len += run.len,
            None => self.taken.push(run),
        }
    }

    fn take(&mut self) -> Result<BlockNo> {
        if self.ahead.is_empty() {
            self.ahead = self.reserve()?;
            // Ascending, as a device likes it.
            self.ahead.sort_unstable();
            self.ahead.reverse();
        }
        let run = self.ahead.last_mut().expect("at least one was reserved");
        let block = run.start;
        run.start += 1;
        run.len -= 1;
        if run.len == 0 {
            self.ahead.pop();
        }
        self.note(Run::single(block));
        Ok(block)
    }

    /// Reserves blocks: long runs while there are any.
    fn reserve(&mut self) -> Result<Vec<Run>> {
        let _site = within("bulk load");
        let core = &self.core;
        core.check_writable()?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let hint = self.taken.last().map_or(0, |run| run.end());
        let request = |blocks, shape, urgency| {
            let request = Request {
                blocks,
                shape,
                hint,
                urgency,
            };
            core.forest.pool.allocator().reserve(request)
        };
        while self.want > LEAST {
            let shape = Shape::Extent { max_pieces: PIECES };
            let asked = || request(self.want, shape, Urgency::Normal);
            match core.forest.mending(asked) {
                Err(SpaceError::Full { .. } | SpaceError::AfterGeneration { .. }) => {
                    self.want /= 2;
                }
                answer => {
                    let runs = answer.map_err(|e| core.spread(e.into()))?;
                    self.want = (2 * self.want).min(MOST);
                    return Ok(runs);
                }
            }
        }
        // Few, in any pieces, with all that may bring some.
        let mut claim = Claim::adding();
        let runs = core.forest.claim(&worker, &mut claim, |urgency| {
            request(LEAST, Shape::Nodes, urgency)
        });
        self.want = 2 * LEAST;
        runs.map_err(|e| core.spread(e))
    }

    /// Hands what is in the buffer to the writer.
    fn ship(&mut self) -> Result<()> {
        self.core.check_writable()?;
        let block_size = self.core.forest.geometry.block_size as usize;
        let len = self.blocks * block_size;
        let writer = self
            .writer
            .as_mut()
            .expect("there is one until all is written");
        let next = writer.buffer();
        let mut buf = std::mem::replace(&mut self.buf, next);
        if len < BUFFER {
            let mut part = IoBuf::zeroed(len);
            part.copy_from_slice(&buf[..len]);
            std::mem::swap(&mut buf, &mut part);
            self.buf = part;
        }
        self.blocks = 0;
        let offset = self.core.forest.geometry.byte(self.start);
        match writer.send(Full { offset, buf }) {
            true => Ok(()),
            // It has ended early, and says why.
            false => {
                let writer = self.writer.take().expect("it was just used");
                writer.end(&self.core)?;
                Err(self.core.stopped_error())
            }
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if !self.core.is_home() {
            // A forked child has no such thread to wait for.
            if let Some(writer) = self.writer.take() {
                writer.forget();
            }
            return;
        }
        self.core.shelf.lock().loading -= 1;
        // No write may be on its way to a block that is given back.
        if let Some(writer) = self.writer.take() {
            let _ = writer.end(&self.core);
        }
        let allocator = self.core.forest.pool.allocator();
        let (ahead, taken) = (
            std::mem::take(&mut self.ahead),
            std::mem::take(&mut self.taken),
        );
        if !ahead.is_empty() {
            allocator.give_back_unused(ahead);
        }
        if !taken.is_empty() {
            allocator.give_back(taken);
        }
    }
}
