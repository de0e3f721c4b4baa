//! The contract that every driver keeps.
//!
//! - A [`Device`] is shared; a [`Queue`] belongs to the one thread that uses it.
//! - A [`Request`] owns its buffer from [`Queue::submit`] until its
//!   [`Completion`] hands the buffer back. A queue that is dropped with requests
//!   in flight waits for them: the kernel never writes into freed memory. Requests
//!   held back because the queue is at its depth are dropped with it, not done.
//! - A completion without error means that the whole length was transferred:
//!   drivers repeat short transfers and EAGAIN themselves. A read past the end
//!   of the device is an error, not a short read.
//! - Requests of one queue may run and complete in any order, and across queues
//!   too. A write is durable once a [`Op::Flush`] that was submitted after the
//!   write's completion has completed, on any queue of the device; or once it has
//!   completed, if it was submitted with `durable`.
//! - Offsets and lengths are multiples of [`Geometry::offset_align`]; buffers are
//!   aligned to [`Geometry::memory_align`] (an [`IoBuf`] always is).

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::buf::IoBuf;
use crate::counters::OpCounts;
use crate::durable::DurableMethod;
use crate::error::IoError;

/// What a device is, as far as I/O is concerned. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes the device holds.
    pub capacity: u64,
    /// The smallest unit that can be addressed.
    pub logical_block: u32,
    /// The smallest unit written without a read-modify-write inside the device,
    /// and the largest that a power cut may tear.
    pub physical_block: u32,
    /// Alignment that offsets and lengths need.
    pub offset_align: u32,
    /// Alignment that buffers need.
    pub memory_align: u32,
    /// Whether completed writes may still be lost until a flush.
    pub volatile_cache: bool,
    /// Unit of discard; 0 if the device cannot discard.
    pub discard_granularity: u32,
    /// Where the first unit of discard begins; less than the unit.
    pub discard_alignment: u32,
    /// The largest discard the device takes at once; 0: any. A larger one is split
    /// by the kernel.
    pub max_discard: u64,
    /// Whether what was discarded reads as zeros until it is written.
    pub discard_zeroes: bool,
    /// Whether this is a block device (a file otherwise).
    pub is_block_device: bool,
    /// Whether I/O bypasses the page cache (`O_DIRECT`).
    pub direct: bool,
}

/// What to do.
#[derive(Debug)]
pub enum Op {
    /// Fill the buffer from `offset`.
    Read {
        /// Where, in bytes.
        offset: u64,
        /// Filled to its whole length.
        buf: IoBuf,
    },
    /// Write the buffer at `offset`.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// Written to its whole length.
        buf: IoBuf,
        /// Complete only when the data survives a power cut, by the method the
        /// device was opened with.
        durable: bool,
    },
    /// Make all completed writes durable.
    Flush,
    /// Tell the device that the range is not needed. Its contents are undefined
    /// afterwards until written.
    Discard {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u64,
    },
}

/// An operation and the caller's token for it.
#[derive(Debug)]
pub struct Request {
    /// Handed back in the completion; means nothing to the driver.
    pub token: u64,
    /// What to do.
    pub op: Op,
}

/// The end of a request.
#[derive(Debug)]
pub struct Completion {
    /// The request's token.
    pub token: u64,
    /// Whether all of it was done.
    pub result: Result<(), IoError>,
    /// The request's buffer, if it had one. After a failed read its contents are
    /// undefined.
    pub buf: Option<IoBuf>,
}

impl Completion {
    /// The end of a request that failed before any of it was done.
    pub(crate) fn refused(request: Request, error: IoError) -> Self {
        let buf = match request.op {
            Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
            Op::Flush | Op::Discard { .. } => None,
        };
        Self {
            token: request.token,
            result: Err(error),
            buf,
        }
    }
}

/// Wakes the thread that waits in [`Queue::wait`], from any thread. A wake that
/// comes while nobody waits is kept for the next wait; several may become one.
pub trait Wake: Send + Sync + Debug {
    /// Makes the present or next `wait` of the queue return. Never waits itself.
    fn wake(&self);
}

/// A shared handle that wakes a queue's owner. Outlives the queue harmlessly.
pub type Waker = Arc<dyn Wake>;

/// A submission queue owned by one thread.
pub trait Queue: Send + Debug {
    /// Hands requests to the device, in one system call where it can, and leaves
    /// `requests` empty. Does not wait for completions. More requests than the
    /// queue's depth are held back inside and submitted as others complete.
    ///
    /// # Errors
    /// Only if the queue itself is broken; a failed request is a completion.
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError>;

    /// Moves completions into `out` and returns how many. Waits until there are
    /// at least `at_least` of them (0: only looks), the time is over (`None`: no
    /// limit), or the waker was used; so fewer may be returned. Returns at once if
    /// fewer than `at_least` requests are in flight, unless `at_least` is
    /// `usize::MAX`, which means: wait for any completion or a wake.
    ///
    /// A wake is used up by the first `wait` with `at_least` > 0 that returns
    /// after it; a look leaves it for the next wait.
    ///
    /// # Errors
    /// Only if the queue itself is broken.
    fn wait(
        &mut self,
        at_least: usize,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError>;

    /// Requests submitted and not yet returned.
    fn in_flight(&self) -> usize;

    /// A handle that wakes this queue's [`Queue::wait`].
    fn waker(&self) -> Waker;

    /// The calling thread has used this queue, and another will use or drop it.
    /// Without this the device may stay open a moment longer than its last user.
    fn hand_over(&mut self) {}
}

/// An open device or file.
pub trait Device: Send + Sync + Debug {
    /// What the device is. The capacity is that at the last [`Device::refresh`].
    fn geometry(&self) -> Geometry;

    /// The driver's name: `uring`, `psync` or `sim`.
    fn driver(&self) -> &'static str;

    /// A new queue that keeps up to `depth` requests in flight.
    ///
    /// # Errors
    /// If the kernel refuses the ring or a thread cannot be started.
    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>, IoError>;

    /// Reads `buf.len()` bytes at `offset` into `buf`, in one system call, and
    /// waits for it: the way of a lone cache miss. `buf` must be aligned.
    ///
    /// # Errors
    /// As the device says; the contents of `buf` are then undefined.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError>;

    /// Writes `buf` at `offset` and waits for it. Not durable before a flush.
    ///
    /// # Errors
    /// As the device says; what is on the device in that range is then unknown.
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), IoError>;

    /// Makes all completed writes durable and waits for it.
    ///
    /// # Errors
    /// After a failed flush nothing is known of any unflushed write.
    fn flush(&self) -> Result<(), IoError>;

    /// Looks again how large the device is (it may have grown).
    ///
    /// # Errors
    /// If the device cannot be asked.
    fn refresh(&self) -> Result<Geometry, IoError>;

    /// Makes the device at least `capacity` bytes large, durably, and refreshes.
    /// Of a file everything from byte `allocated_from` to `capacity` gets its space
    /// now; `None`: what is new gets it when it is written. Does nothing to a
    /// device that is large enough, or a file that is and needs no space. Waits
    /// for I/O.
    ///
    /// # Errors
    /// `Unsupported` for a block device, which has the size it has; `NoSpace` if
    /// the file system is full. The size and what was there before are unharmed
    /// either way.
    fn grow(&self, capacity: u64, allocated_from: Option<u64>) -> Result<Geometry, IoError>;

    /// Has a file that was opened without [`OpenOptions::sparse`] treated as sparse
    /// from now on, by all handles: only who reads what is in the file knows. Does
    /// nothing for a block device.
    ///
    /// [`OpenOptions::sparse`]: crate::OpenOptions::sparse
    fn treat_as_sparse(&self) {}

    /// Gives every part of a file space that has none yet, so that no later write
    /// fails for want of it; what is there stays. Does nothing for a block device or
    /// a file opened as sparse. Waits for I/O.
    ///
    /// # Errors
    /// `NoSpace` if the file system is full, `Unsupported` if it cannot.
    fn preallocate(&self) -> Result<(), IoError> {
        Ok(())
    }

    /// The first byte at or behind `offset` that may hold something: all between
    /// reads as zeros, and there is no need to. `None`: so does all to the end.
    /// `offset` itself where nothing is known, as on block devices.
    ///
    /// # Errors
    /// If the file system cannot be asked.
    fn next_data(&self, offset: u64) -> Result<Option<u64>, IoError> {
        Ok(Some(offset))
    }

    /// How this handle makes `durable` writes durable.
    fn durable_method(&self) -> DurableMethod;

    /// Another handle to the same open device, with its own counters, that makes
    /// `durable` writes durable by `method`.
    fn with_durable_method(&self, method: DurableMethod) -> Arc<dyn Device>;

    /// What has become otherwise than asked since the device was opened, in words.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What this handle was asked to do so far.
    fn counters(&self) -> OpCounts;
}
