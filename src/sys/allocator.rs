//! The allocator: small things are cut from one piece. And between clone and exec nothing may allocate: a lock of the
//! C library's allocator may be held, and the memory may be ours. Debug builds see to that, tests among them.

mod cut;

#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: cut::Cut = cut::Cut::new();

#[cfg(debug_assertions)]
mod checked {
    use std::alloc::{GlobalAlloc, Layout};
    use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

    use super::cut::Cut;

    /// The process that is making a child; 0: none is. A child, on our memory or on a copy of it, has another number.
    static PARENT: AtomicI32 = AtomicI32::new(0);

    struct Checked(Cut);

    #[global_allocator]
    static ALLOCATOR: Checked = Checked(Cut::new());

    fn check() {
        let parent = PARENT.load(Relaxed);
        // SAFETY: getpid has no preconditions.
        if parent != 0 && unsafe { libc::getpid() } != parent {
            let words = b"rcon: allocation between clone and exec\n";
            // SAFETY: pointer and length are of one slice.
            unsafe { libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) };
            // SAFETY: abort has no preconditions.
            unsafe { libc::abort() };
        }
    }

    // SAFETY: all is handed to the other allocator, which keeps the contract.
    unsafe impl GlobalAlloc for Checked {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            check();
            // SAFETY: as the caller promises.
            unsafe { self.0.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            check();
            // SAFETY: as the caller promises.
            unsafe { self.0.dealloc(pointer, layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            check();
            // SAFETY: as the caller promises.
            unsafe { self.0.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            check();
            // SAFETY: as the caller promises.
            unsafe { self.0.realloc(pointer, layout, size) }
        }
    }

    /// Lasts while a child may be on our memory.
    pub(in crate::sys) struct Making;

    impl Drop for Making {
        fn drop(&mut self) {
            PARENT.store(0, Relaxed);
        }
    }

    pub(in crate::sys) fn child_may_not_allocate() -> Making {
        // SAFETY: getpid has no preconditions.
        PARENT.store(unsafe { libc::getpid() }, Relaxed);
        Making
    }
}

#[cfg(debug_assertions)]
pub(super) use checked::child_may_not_allocate;

#[cfg(not(debug_assertions))]
pub(super) fn child_may_not_allocate() {}
