//! A run takes some kilobytes, and is soon over: these are cut from one piece, which costs less than the C library's
//! bookkeeping, and less than having the C library start for it (`start.rs`). What is larger, or comes when the piece is
//! used up, is the C library's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What is not touched costs nothing.
const SIZE: usize = 64 * 1024;
/// Room for the files that runs read: /etc/passwd, the table of mounts.
const LARGEST: usize = 8 * 1024;
/// As malloc(3) aligns, which some code takes for granted (control messages of sendmsg(2) in a vector of bytes).
const ALIGN: usize = 16;

/// In this order: the number is on a page that is written to in any case (build.rs).
#[repr(C)]
pub(super) struct Cut {
    used: AtomicUsize,
    piece: UnsafeCell<MaybeUninit<[u8; SIZE]>>,
}

// SAFETY: each byte of the piece is given away once at a time, by an atomic exchange of `used`.
unsafe impl Sync for Cut {}

impl Cut {
    pub(super) const fn new() -> Self {
        Self { used: AtomicUsize::new(0), piece: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    fn start(&self) -> usize {
        self.piece.get().addr()
    }

    /// How far into the piece this is, if it is of it.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        let offset = pointer.addr().wrapping_sub(self.start());
        (offset < SIZE).then_some(offset)
    }

    /// Makes the end of what is used another, if it is where it is thought to be.
    fn moved(&self, from: usize, to: usize) -> bool {
        self.used.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }
}

// SAFETY: what is cut is aligned, lies in the piece, and overlaps nothing that is in use; the rest is the system
// allocator's, which keeps the contract.
unsafe impl GlobalAlloc for Cut {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = self.used.load(Relaxed);
        let from = (self.start() + used).next_multiple_of(layout.align().max(ALIGN)) - self.start();
        let to = from + layout.size();
        if layout.size() <= LARGEST && to <= SIZE && self.moved(used, to) {
            return self.piece.get().cast::<u8>().wrapping_add(from);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            // The system's may be zero already.
            // SAFETY: as the caller promises.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let new = unsafe { self.alloc(layout) };
        if !new.is_null() {
            // SAFETY: it is that long.
            unsafe { new.write_bytes(0, layout.size()) };
        }
        new
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(offset) = self.offset(pointer) else {
            // SAFETY: as the caller promises: it is the system's.
            return unsafe { System.dealloc(pointer, layout) };
        };
        // The last that was cut can be cut anew; others are left.
        let _last: bool = self.moved(offset + layout.size(), offset);
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(pointer) else {
            // SAFETY: as the caller promises: it is the system's.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        if size <= SIZE - offset && self.moved(offset + layout.size(), offset + size) {
            return pointer;
        }
        // SAFETY: the caller promises that it fits.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that the size is not 0.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both are at least that long, and the new one is elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(pointer, new, layout.size().min(size)) };
            // SAFETY: as the caller promises; the system's would have been grown above.
            unsafe { self.dealloc(pointer, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory that is filled with one byte, so that it is seen when somebody else writes there.
    struct Filled<'a> {
        of: &'a Cut,
        pointer: *mut u8,
        layout: Layout,
        with: u8,
    }

    impl<'a> Filled<'a> {
        fn new(of: &'a Cut, size: usize, align: usize, with: u8) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the size is not 0.
            let pointer = unsafe { of.alloc_zeroed(layout) };
            assert!(!pointer.is_null() && pointer.addr().is_multiple_of(align.max(ALIGN)));
            let mut new = Self { of, pointer, layout, with: 0 };
            assert!(new.is_whole(size));
            new.fill(with);
            new
        }

        fn fill(&mut self, with: u8) {
            // SAFETY: it is that long, and nobody else's.
            unsafe { self.pointer.write_bytes(with, self.layout.size()) };
            self.with = with;
        }

        fn is_whole(&self, length: usize) -> bool {
            // SAFETY: it is at least that long, and was written.
            unsafe { std::slice::from_raw_parts(self.pointer, length) }.iter().all(|byte| *byte == self.with)
        }

        fn resize(&mut self, size: usize, with: u8) {
            // SAFETY: it was given with this layout; the size is not 0.
            self.pointer = unsafe { self.of.realloc(self.pointer, self.layout, size) };
            assert!(self.is_whole(size.min(self.layout.size())));
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            self.fill(with);
        }
    }

    impl Drop for Filled<'_> {
        fn drop(&mut self) {
            // SAFETY: it was given with this layout.
            unsafe { self.of.dealloc(self.pointer, self.layout) };
        }
    }

    proptest! {
        /// Sizes up to what the piece never gives, and enough of them to use it up.
        #[test]
        fn nothing_overlaps(orders in prop::collection::vec((0..4, 0..8_usize, 1..LARGEST * 2, 0..7), 1..80)) {
            let cut = Cut::new();
            let mut alive: Vec<Filled> = Vec::new();
            for (number, (order, which, size, align)) in orders.into_iter().enumerate() {
                let with = number as u8 + 1;
                // The last ones, which the piece can take back or let grow, more often than others.
                let at = alive.len().saturating_sub(1 + which);
                match order {
                    0 if !alive.is_empty() => drop(alive.remove(at)),
                    1 if !alive.is_empty() => alive[at].resize(size, with),
                    _ => alive.push(Filled::new(&cut, size / 4 + 1, 1_usize << align, with)),
                }
                prop_assert!(alive.iter().all(|one| one.is_whole(one.layout.size())));
            }
        }
    }

    #[test]
    fn the_last_piece_is_taken_back_and_grows_where_it_is() {
        let cut = Cut::new();
        let first = Filled::new(&cut, 100, 8, 1);
        let place = Filled::new(&cut, 100, 8, 2).pointer;
        let mut again = Filled::new(&cut, 50, 8, 3);
        assert_eq!(again.pointer, place);
        again.resize(2000, 4);
        assert_eq!(again.pointer, place);
        assert!(cut.offset(first.pointer).is_some());
        assert!(cut.offset(Filled::new(&cut, LARGEST + 1, 8, 5).pointer).is_none());
        again.resize(SIZE, 6);
        assert!(cut.offset(again.pointer).is_none());
    }
}
