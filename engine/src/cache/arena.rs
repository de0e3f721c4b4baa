//! The memory of all frames: address space for as many as the cache may ever have,
//! of which a part is in use, on huge pages where the kernel gives them. Frames are
//! only ever touched as aligned atomic words, by readers and writers alike, so a
//! read that races with a write is defined and its result is thrown away by the
//! latch's validation.
//!
//! What was once in use stays mapped and readable: a reader with a stale hint may
//! look at a frame that was given up, and then finds zeros.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use gaur_iodriver::sync::atomic::AtomicU64;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use super::Frame;

const HUGE: usize = 2 << 20;
/// Three cache lines.
const PREFETCHED_WORDS: usize = 24;

/// A private anonymous mapping: address space, and zeros where it was not written.
#[derive(Debug)]
struct Mapping {
    base: NonNull<std::ffi::c_void>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize, access: ProtFlags) -> Result<Self, Errno> {
        assert!(!cfg!(loom), "a model's atomics are not words of memory");
        let bytes = bytes.next_multiple_of(HUGE);
        let len = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh private anonymous mapping aliases nothing.
        let base = unsafe { mmap_anonymous(None, len, access, flags) }?;
        Ok(Self { base, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are those of the mapping; what was borrowed from
        // it cannot outlive the arena or table that owns it.
        let unmapped = unsafe { munmap(self.base, self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[derive(Debug)]
pub(crate) struct Arena {
    map: Mapping,
    frame_words: usize,
    /// Frames that may be touched: those that were ever in use. Only grows.
    opened: AtomicUsize,
}

// SAFETY: the mapping is owned by the arena alone and handed out only as shared
// slices of atomics, which any thread may use.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Reserves address space for `most` frames of `frame_bytes` bytes. None may be
    /// touched before [`Arena::open`].
    pub(crate) fn reserve(most: usize, frame_bytes: usize) -> Result<Self, Errno> {
        let bytes = most.checked_mul(frame_bytes).ok_or(Errno::ENOMEM)?;
        let map = Mapping::new(bytes, ProtFlags::PROT_NONE)?;
        // A simulation opens a thousand tiny caches a second: zeroing 2 MiB for each costs
        // more than all else.
        if !cfg!(feature = "simulation") {
            // SAFETY: the range is the mapping just made. A kernel that refuses huge
            // pages leaves small ones, which work as well.
            let _ = unsafe { madvise(map.base, map.bytes, MmapAdvise::MADV_HUGEPAGE) };
        }
        Ok(Self {
            map,
            frame_words: frame_bytes / 8,
            opened: AtomicUsize::new(0),
        })
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_words * 8
    }

    /// Frames that may be touched.
    #[inline]
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Lets the first `frames` frames be touched. One caller at a time.
    pub(crate) fn open(&self, frames: usize) -> Result<(), Errno> {
        if frames <= self.opened() {
            return Ok(());
        }
        let bytes = (frames * self.frame_words * 8).next_multiple_of(HUGE);
        if bytes > self.map.bytes {
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the range lies in the mapping (checked above), and only gains
        // access: nothing that was lent from it changes.
        unsafe {
            mprotect(
                self.map.base,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            )
        }?;
        self.opened.store(frames, Ordering::Release);
        Ok(())
    }

    /// Has the kernel give memory to frames `from .. to` now, and not at the first touch
    /// of each page. Changes nothing that is read; a kernel that cannot (before 5.14)
    /// or will not gives it at the first touch.
    pub(crate) fn populate(&self, from: usize, to: usize) {
        assert!(from <= to && to <= self.opened(), "{from}..{to}");
        let frame_bytes = self.frame_bytes();
        // SAFETY: the range lies in the part of the mapping that may be touched (checked
        // above); populating it changes no byte of it.
        let _ = unsafe {
            madvise(
                self.map.base.byte_add(from * frame_bytes),
                (to - from) * frame_bytes,
                MmapAdvise::MADV_POPULATE_WRITE,
            )
        };
    }

    /// Gives the memory of frames `from .. to` back to the kernel: they read as zeros
    /// then. What they held is lost, so nobody may need it.
    pub(crate) fn discard(&self, from: usize, to: usize) {
        assert!(from <= to && to <= self.opened(), "{from}..{to}");
        let frame_bytes = self.frame_bytes();
        // SAFETY: the range lies in the mapping (checked above). It stays mapped, and
        // is only ever read and written through atomics, so to who reads it meanwhile
        // this is one more racing write of whole words.
        let given = unsafe {
            madvise(
                self.map.base.byte_add(from * frame_bytes),
                (to - from) * frame_bytes,
                MmapAdvise::MADV_DONTNEED,
            )
        };
        // Memory that the process has locked (mlockall) stays: then nothing is lost.
        debug_assert!(matches!(given, Ok(()) | Err(Errno::EINVAL)), "{given:?}");
    }

    /// The words of a frame.
    #[inline]
    pub(crate) fn words(&self, frame: u32) -> &[AtomicU64] {
        let frame = frame as usize;
        assert!(frame < self.opened(), "frame {frame} is out of range");
        let start = frame * self.frame_words;
        // SAFETY: the range lies in the part of the mapping that may be touched
        // (checked above), which is zeroed, aligned to a page, and lives as long as
        // `self`; every access to it in the program is through these atomics.
        unsafe {
            std::slice::from_raw_parts(
                self.map.base.cast::<AtomicU64>().as_ptr().add(start),
                self.frame_words,
            )
        }
    }

    /// Asks the processor for the first lines of a frame: the node's header and its
    /// first slots, which a descent reads next. A hint; changes nothing.
    #[inline]
    pub(crate) fn prefetch(&self, frame: u32) {
        prefetch_lines(&self.words(frame)[..PREFETCHED_WORDS]);
    }
}

/// Asks the processor for the lines of these words. A hint; changes nothing.
#[inline]
pub(crate) fn prefetch_lines(words: &[AtomicU64]) {
    words.chunks(8).for_each(|line| prefetch(&line[0]));
}

/// Asks the processor for the line in which something begins. A hint; changes nothing.
#[inline]
fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching has no effect that a program can observe, for any
        // address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// What is known of each frame the cache may ever have. Takes memory only for those
/// that were in use.
#[derive(Debug)]
pub(crate) struct Table {
    map: Mapping,
    len: usize,
}

// SAFETY: the mapping is owned by the table alone and lent only as shared frames,
// which consist of atomics.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    pub(crate) fn reserve(len: usize) -> Result<Self, Errno> {
        let bytes = len.checked_mul(size_of::<Frame>()).ok_or(Errno::ENOMEM)?;
        Ok(Self {
            map: Mapping::new(bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?,
            len,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Asks the processor for a frame's line. A hint; changes nothing.
    #[inline]
    pub(crate) fn prefetch(&self, frame: u32) {
        prefetch(self.get(frame));
    }

    #[inline]
    pub(crate) fn get(&self, frame: u32) -> &Frame {
        let frame = frame as usize;
        assert!(frame < self.len, "frame {frame} is out of range");
        // SAFETY: it lies in the mapping (checked above), which lives as long as
        // `self` and is aligned to a page, so to any frame. A frame consists of
        // atomic integers alone, for which zeros are values, and is only lent shared.
        unsafe { self.map.base.cast::<Frame>().add(frame).as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_reads_as_zeros() {
        let arena = Arena::reserve(4096, 4096).unwrap();
        assert_eq!(arena.opened(), 0);
        arena.open(1024).unwrap();
        for frame in 0..1024 {
            arena.words(frame)[511].store(7, Ordering::Relaxed);
        }
        arena.discard(100, 1024);
        for frame in 0..1024 {
            let word = arena.words(frame)[511].load(Ordering::Relaxed);
            assert_eq!(word, if frame < 100 { 7 } else { 0 });
        }
        arena.open(4096).unwrap();
        arena.words(4095)[0].store(1, Ordering::Relaxed);
        assert_eq!(arena.words(50)[511].load(Ordering::Relaxed), 7);
        assert!(arena.open(4097).is_err());
    }
}
