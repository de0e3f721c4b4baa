//! Owned, aligned memory for I/O.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of every [`IoBuf`]: enough for any device's memory alignment.
pub const BUF_ALIGN: usize = 4096;

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
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout));
        Self { ptr, len }
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
        // SAFETY: allocated in `zeroed` with the same layout.
        unsafe { std::alloc::dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
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
        let mut b = IoBuf::zeroed(8192);
        assert_eq!(b.as_ptr() as usize % BUF_ALIGN, 0);
        assert!(b.iter().all(|&x| x == 0));
        b[8191] = 7;
        assert_eq!(b[8191], 7);
    }
}
