//! Many reads in flight, taken in the order they were asked for: deep, and the
//! same every time.

use std::collections::{BTreeMap, HashMap};

use gaur_iodriver::{Completion, Device, IoBuf, IoError, Op, Queue, Request};

use crate::error::Result;

/// Buffers of a size that are kept for the next read.
const SPARE: usize = 64;

/// A pipe of reads.
#[derive(Debug)]
pub(crate) struct Deep {
    queue: Box<dyn Queue>,
    depth: usize,
    to_submit: Vec<Request>,
    asked: u64,
    taken: u64,
    done: BTreeMap<u64, Completion>,
    spare: HashMap<usize, Vec<IoBuf>>,
}

impl Deep {
    /// A pipe that keeps up to `depth` reads in flight.
    pub(crate) fn new(device: &dyn Device, depth: u32) -> Result<Self> {
        let depth = depth.max(1);
        Ok(Self {
            queue: device.queue(depth)?,
            depth: depth as usize,
            to_submit: Vec::new(),
            asked: 0,
            taken: 0,
            done: BTreeMap::new(),
            spare: HashMap::new(),
        })
    }

    /// Reads asked for and not taken.
    pub(crate) fn pending(&self) -> usize {
        (self.asked - self.taken) as usize
    }

    /// Whether it runs low: then fill it while there is [`Deep::room`], so that
    /// reads are submitted in batches.
    pub(crate) fn wants(&self) -> bool {
        self.pending() <= self.depth / 2
    }

    /// Whether one more read can be asked for.
    pub(crate) fn room(&self) -> bool {
        self.pending() < self.depth
    }

    /// Asks for `len` bytes at byte `offset`.
    pub(crate) fn read(&mut self, offset: u64, len: usize) {
        let spare = self.spare.get_mut(&len).and_then(Vec::pop);
        let buf = spare.unwrap_or_else(|| IoBuf::zeroed(len));
        let op = Op::Read { offset, buf };
        self.to_submit.push(Request {
            token: self.asked,
            op,
        });
        self.asked += 1;
    }

    /// The oldest read not taken yet, when it is done; there must be one. A failed
    /// read is the inner error.
    ///
    /// # Errors
    /// If the queue is broken.
    pub(crate) fn take(&mut self) -> Result<Result<IoBuf, IoError>> {
        assert!(self.pending() > 0, "nothing was asked for");
        if !self.to_submit.is_empty() {
            self.queue.submit(&mut self.to_submit)?;
        }
        let mut out = Vec::new();
        let completion = loop {
            if let Some(c) = self.done.remove(&self.taken) {
                break c;
            }
            self.queue.wait(1, None, &mut out)?;
            self.done.extend(out.drain(..).map(|c| (c.token, c)));
        };
        self.taken += 1;
        Ok(match (completion.result, completion.buf) {
            (Ok(()), Some(buf)) => Ok(buf),
            (Err(e), buf) => {
                buf.into_iter().for_each(|b| self.recycle(b));
                Err(e)
            }
            (Ok(()), None) => unreachable!("a read hands its buffer back"),
        })
    }

    /// Keeps a buffer for a later read.
    pub(crate) fn recycle(&mut self, buf: IoBuf) {
        let spare = self.spare.entry(buf.len()).or_default();
        if spare.len() < SPARE {
            spare.push(buf);
        }
    }
}
