//! Making the child: clone3(2), which can create it inside a cgroup.
//!
//! The cheap way shares the address space until the child executes the command (as vfork(2) does), on a stack
//! of its own; where a processor is not known here, or the child stays ours for longer, it gets a copy. There
//! are no threads anywhere, so that both are sound.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// linux/sched.h; the crate's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Whether a child can work in our memory on this processor.
pub const CAN_BORROW: bool = borrow::KNOWN;

/// What the child is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneFlags {
    /// `CLONE_NEW*` bits of namespaces(7).
    pub namespaces: u64,
    /// The child executes or leaves soon and needs nothing of us while it does: we sleep until then, and it
    /// works in our memory. What it writes there we find.
    pub borrow_memory: bool,
}

/// Makes a child that runs `child`, which is not expected to return, born inside the v2 group `cgroup` if there
/// is one.
///
/// # Errors
/// clone3(2)'s; EACCES, EBUSY and EOPNOTSUPP speak of the cgroup.
pub fn spawn<F: FnOnce()>(flags: CloneFlags, cgroup: Option<BorrowedFd>, child: F) -> Result<Pid, Errno> {
    // SAFETY: all-zero is the documented default of every field (clone3(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags.namespaces;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    let _guard = super::allocator::child_may_not_allocate();
    if flags.borrow_memory && borrow::KNOWN {
        return borrow::spawn(args, child);
    }
    // SAFETY: without CLONE_VM and without a stack the child goes on here on a copy of this stack, as after
    // fork(2). There is one thread, so no lock is held by another. `child` only makes async-signal-safe calls.
    let pid = Errno::result(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<libc::clone_args>())
    });
    let pid = match (pid, old_flags(&args)) {
        (Err(Errno::ENOSYS | Errno::EPERM), Some(flags)) => {
            // SAFETY: as above. The arguments after the flags are for what is not asked for.
            Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?
        }
        (pid, _) => pid?,
    };
    if pid == 0 {
        child();
        super::leave(125);
    }
    Ok(Pid::from_raw(pid as i32))
}

/// A copy of this process: its id, and in the copy nothing.
///
/// # Errors
/// EAGAIN where a limit on processes is reached.
pub fn fork() -> Result<Option<Pid>, Errno> {
    // clone(2), because nothing is asked that only clone3 knows, and some containers forbid that one.
    // SAFETY: no memory is shared; one thread, so the copy is whole, and may do what we may.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as u64, 0, 0, 0, 0) })?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// The flags for clone(2), which containers may allow where they forbid clone3 (whose flags a seccomp filter cannot
/// see: ENOSYS, or EPERM with older ones). What it cannot express is nothing: a cgroup, a time namespace.
fn old_flags(args: &libc::clone_args) -> Option<u64> {
    let fits = args.flags & (CLONE_INTO_CGROUP | libc::CLONE_NEWTIME as u64) == 0;
    fits.then_some(args.flags | args.exit_signal)
}

/// The child in our memory, on a stack of its own.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod borrow {
    use std::cell::Cell;
    use std::mem::MaybeUninit;

    use super::{Errno, Pid};

    pub(super) const KNOWN: bool = true;

    /// The quick steps of a child need less than half of it; each page is touched (stack probes), and so costs.
    const STACK: usize = 8 * 1024;
    /// At the end that a child must not reach: seen to in debug builds.
    const UNTOUCHED: usize = STACK / 4;

    /// Calls the closure in `slot`; never comes back.
    extern "C" fn enter<F: FnOnce()>(slot: *const Cell<Option<F>>) -> ! {
        // SAFETY: `spawn` below passes a pointer to a slot that lives until the child has gone.
        let slot = unsafe { &*slot };
        if let Some(child) = slot.take() {
            child();
        }
        crate::sys::leave(125)
    }

    /// Apart from whoever may have a child of either kind: its stack is only for this one.
    #[inline(never)]
    pub(super) fn spawn<F: FnOnce()>(mut args: libc::clone_args, child: F) -> Result<Pid, Errno> {
        let slot = Cell::new(Some(child));
        // On our own stack: what has run before has touched these pages, a new piece of heap would be new pages.
        let mut stack: MaybeUninit<[u8; STACK]> = MaybeUninit::uninit();
        args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
        // Both processors want the stack's end at a multiple of 16.
        let start = (stack.as_mut_ptr() as usize + 15) & !15;
        args.stack = start as u64;
        args.stack_size = (STACK - 16) as u64 & !15;
        if cfg!(debug_assertions) {
            stack.write([0xa5; STACK]);
        }
        // SAFETY: the arguments, the slot and the stack outlive the child's use of them: we sleep (CLONE_VFORK).
        let clone3 = unsafe {
            call(libc::SYS_clone3, &raw const args as u64, size_of::<libc::clone_args>() as u64, &slot)
        };
        let born = match (clone3, super::old_flags(&args)) {
            // SAFETY: as above; the stack is given by its end.
            (Err(Errno::ENOSYS | Errno::EPERM), Some(flags)) => unsafe {
                call(libc::SYS_clone, flags, args.stack + args.stack_size, &slot)
            },
            (pid, _) => pid,
        };
        if cfg!(debug_assertions) {
            // SAFETY: written above, and bytes are whatever the child has made of them.
            let bytes = unsafe { std::slice::from_raw_parts(stack.as_ptr().cast::<u8>(), UNTOUCHED) };
            assert!(bytes.iter().all(|byte| *byte == 0xa5), "a child needs more stack than it has");
        }
        born
    }

    /// clone3 or clone, by number, with the first two arguments; the others are 0.
    ///
    /// # Safety
    /// The arguments ask for CLONE_VM and CLONE_VFORK and name a stack whose end is a multiple of 16 and that is
    /// there for as long as the call lasts.
    unsafe fn call<F: FnOnce()>(
        number: libc::c_long,
        first: u64,
        second: u64,
        slot: &Cell<Option<F>>,
    ) -> Result<Pid, Errno> {
        let result: i64;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: CLONE_VFORK: we sleep until the child has executed or left. The child comes out of the call with
        // rax 0 on its own, aligned stack, calls `enter` with the slot and never returns here. rcx and r11 are the
        // call's to change.
        unsafe {
            std::arch::asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, r12",
                "call r13",
                "2:",
                inlateout("rax") number => result,
                in("rdi") first,
                in("rsi") second,
                in("rdx") 0,
                in("r10") 0,
                in("r8") 0,
                in("r12") std::ptr::from_ref(slot),
                in("r13") enter::<F> as extern "C" fn(*const Cell<Option<F>>) -> !,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above; x8 holds the call's number and x0 its result.
        unsafe {
            std::arch::asm!(
                "svc 0",
                "cbnz x0, 2f",
                "mov x29, xzr",
                "mov x0, x20",
                "blr x21",
                "2:",
                inlateout("x0") first => result,
                in("x1") second,
                in("x2") 0,
                in("x3") 0,
                in("x4") 0,
                in("x8") number,
                in("x20") std::ptr::from_ref(slot),
                in("x21") enter::<F> as extern "C" fn(*const Cell<Option<F>>) -> !,
            );
        }
        match i32::try_from(result) {
            Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
            Ok(error) => Err(Errno::from_raw(-error)),
            Err(_) => Err(Errno::EOVERFLOW),
        }
    }
}

/// A processor whose calls are not written down here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod borrow {
    use super::{Errno, Pid};

    pub(super) const KNOWN: bool = false;

    pub(super) fn spawn<F: FnOnce()>(_: libc::clone_args, _: F) -> Result<Pid, Errno> {
        Err(Errno::ENOSYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    fn ended(borrow_memory: bool, child: impl FnOnce()) -> WaitStatus {
        let flags = CloneFlags { borrow_memory, ..CloneFlags::default() };
        waitpid(spawn(flags, None, child).unwrap(), None).unwrap()
    }

    /// What is promised of every step, and checked in every debug build: here it is seen to be checked.
    #[test]
    #[cfg(debug_assertions)]
    fn a_child_that_allocates_is_stopped() {
        for borrowed in [false, true] {
            let allocates = || drop(std::hint::black_box(Box::new(std::hint::black_box(7))));
            let status = ended(borrowed, allocates);
            assert!(
                matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGABRT, _)),
                "{status:?}"
            );
            let status = ended(borrowed, || crate::sys::leave(9));
            assert!(matches!(status, WaitStatus::Exited(_, 9)), "{status:?}");
        }
        // And we may go on.
        drop(std::hint::black_box(Box::new(std::hint::black_box(7))));
    }
}
