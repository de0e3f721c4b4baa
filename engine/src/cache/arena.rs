//! The memory of all frames: one mapping, on huge pages where the kernel gives
//! them. Frames are only ever touched as aligned atomic words, by readers and
//! writers alike, so a read that races with a write is defined and its result is
//! thrown away by the latch's validation.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::error::{Error, Result};

const HUGE: usize = 2 << 20;
/// Three cache lines.
#[cfg(target_arch = "x86_64")]
const PREFETCHED_WORDS: usize = 24;

#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<AtomicU64>,
    bytes: usize,
    frame_words: usize,
}

// SAFETY: the mapping is owned by the arena alone and handed out only as shared
// slices of atomics, which any thread may use.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `frames` frames of `frame_bytes` bytes, all zero.
    pub(crate) fn new(frames: usize, frame_bytes: usize) -> Result<Self> {
        let bytes = (frames * frame_bytes).next_multiple_of(HUGE);
        let too_large = |detail: String| Error::BadOption {
            name: "cache_bytes",
            detail,
        };
        let len = NonZeroUsize::new(bytes)
            .ok_or_else(|| too_large("the cache needs at least one frame".into()))?;
        // SAFETY: a fresh private anonymous mapping aliases nothing.
        let base = unsafe {
            mmap_anonymous(
                None,
                len,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }
        .map_err(|e| too_large(format!("cannot map {bytes} bytes: {e}")))?;
        // SAFETY: the range is the mapping just made. A kernel that refuses huge
        // pages leaves small ones, which work as well.
        let _ = unsafe { madvise(base, bytes, MmapAdvise::MADV_HUGEPAGE) };
        Ok(Self {
            base: base.cast(),
            bytes,
            frame_words: frame_bytes / 8,
        })
    }

    /// The words of a frame.
    #[inline]
    pub(crate) fn words(&self, frame: u32) -> &[AtomicU64] {
        let start = frame as usize * self.frame_words;
        assert!(
            (start + self.frame_words) * 8 <= self.bytes,
            "frame {frame} is out of range"
        );
        // SAFETY: the range lies in the mapping (checked above), which is zeroed,
        // aligned to a page, and lives as long as `self`; every access to it in
        // the program is through these atomics.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(start), self.frame_words) }
    }

    /// Asks the processor for the first lines of a frame: the node's header and its
    /// first slots, which a descent reads next. A hint; changes nothing.
    #[inline]
    pub(crate) fn prefetch(&self, frame: u32) {
        #[cfg(target_arch = "x86_64")]
        for line in self.words(frame)[..PREFETCHED_WORDS].chunks(8) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: prefetching has no effect that a program can observe, for any
            // address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = frame;
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are those of the mapping; no slice of it can
        // outlive `self`.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
