//! Owned, aligned memory for I/O.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Alignment of every [`IoBuf`]: enough for any device's memory alignment.
pub const BUF_ALIGN: usize = 4096;

/// From this length on a buffer is a mapping of its own. An allocator keeps such
/// memory when it is freed, in the arena of whichever thread took it: with many
/// threads several times what is in use.
const MAPPED: usize = if cfg!(feature = "simulation") {
    64 << 20
} else {
    256 << 10
};

/// A zeroed, owned buffer aligned to [`BUF_ALIGN`] bytes. It is moved into a
/// request and comes back with the completion, so nobody can free or read it
/// while the device may still write to it.
pub struct IoBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: an `IoBuf` owns its memory alone; moving it moves the ownership.
unsafe impl Send for IoBuf {}
// SAFETY: shared access gives only `&[u8]`.
unsafe impl Sync for IoBuf {}

impl IoBuf {
    /// A buffer of `len` zero bytes; `len` must not be 0.
    pub fn zeroed(len: usize) -> Self {
        assert!(len > 0, "an I/O buffer cannot be empty");
        if len >= MAPPED {
            return Self::mapped(len);
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout));
        Self { ptr, len }
    }

    fn mapped(len: usize) -> Self {
        let size = NonZeroUsize::new(len).expect("at least MAPPED");
        // SAFETY: a fresh private anonymous mapping aliases nothing; it is zeroed and
        // aligned to a page, which is BUF_ALIGN at least.
        let mapped = unsafe {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            mmap_anonymous(None, size, protection, MapFlags::MAP_PRIVATE)
        };
        match mapped {
            Ok(ptr) => Self {
                ptr: ptr.cast(),
                len,
            },
            Err(_) => handle_alloc_error(Self::layout(len)),
        }
    }

    /// The start of the memory, for the kernel. Unlike `as_mut_ptr` on the slice
    /// it makes no reference, so that the pointer stays good while the buffer is
    /// moved about.
    pub(crate) fn raw(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BUF_ALIGN)
            .expect("an I/O buffer's length fits an address space")
    }
}

impl Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `ptr` owns `len` initialised bytes.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for IoBuf {
    fn drop(&mut self) {
        if self.len >= MAPPED {
            // SAFETY: mapped in `mapped` with this length; nothing refers to it any more.
            let unmapped = unsafe { munmap(self.ptr.cast(), self.len) };
            debug_assert!(unmapped.is_ok());
            return;
        }
        // SAFETY: allocated in `zeroed` with the same layout.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
    }
}

impl std::fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IoBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_zeroed_and_writable() {
        for len in [512, 8192, MAPPED, MAPPED + 512] {
            let mut b = IoBuf::zeroed(len);
            assert_eq!(b.as_ptr() as usize % BUF_ALIGN, 0);
            assert!(b.iter().all(|&x| x == 0));
            b[len - 1] = 7;
            assert_eq!(b[len - 1], 7);
        }
    }
}
