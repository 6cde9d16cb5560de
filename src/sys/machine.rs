//! What the kernel is and can do, asked of the kernel.

use nix::errno::Errno;

/// The version of the Landlock interface; `None`: the kernel has none, or it is off.
#[must_use]
pub fn landlock_version() -> Option<i64> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no memory and makes nothing (landlock_create_ruleset(2)).
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    (answer > 0).then_some(answer)
}

/// Tries it, in a process of its own.
#[must_use]
pub fn can_make_user_namespace() -> bool {
    let tried = super::fork(|| {
        // SAFETY: takes a number.
        let made = Errno::result(unsafe { libc::unshare(libc::CLONE_NEWUSER) });
        i32::from(made.is_err())
    });
    tried.is_ok_and(|pid| {
        matches!(nix::sys::wait::waitpid(pid, None), Ok(nix::sys::wait::WaitStatus::Exited(_, 0)))
    })
}

/// The kernel's release, as uname(2) has it: `6.1.0-18-amd64`.
#[must_use]
pub fn kernel_name() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The first two numbers of it.
#[must_use]
pub fn kernel_release() -> (u32, u32) {
    let name = kernel_name();
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Were we given more rights than our caller has: by a set-user-ID or set-group-ID bit, by file capabilities, or by
/// a caller that has such rights itself (AT_SECURE, getauxval(3))?
#[must_use]
pub fn raised_at_exec() -> bool {
    // A light start has looked for itself, before the C library could.
    // SAFETY: takes a number, and reads what the kernel put behind our environment.
    !super::start::is_light() && unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
