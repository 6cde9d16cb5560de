//! Capability sets and identity of this thread, each as the one system call that it is.
//!
//! The C library's setresuid and its like signal every thread of the process; there is one thread, and between
//! clone and exec that machinery has no place. All functions but [`bounding`] serve the child's side: they are
//! async-signal-safe.

use nix::errno::Errno;

/// The three sets that capset(2) rules, as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posix {
    /// What the kernel asks for.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What passes an exec, where the file agrees.
    pub inheritable: u64,
}

/// linux/capability.h: 64 bits, in two records.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capget(2) for this thread.
///
/// # Errors
/// None that a kernel since 2.6.26 is known to give.
pub fn get() -> Result<Posix, Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: a header, and the two records that version 3 writes.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok(Posix {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// capset(2) for this thread.
///
/// # Errors
/// EPERM: more than the kernel's rules let us have (capabilities(7)).
pub fn set(sets: Posix) -> Result<(), Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let record = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [record(0), record(32)];
    // SAFETY: a header, and the two records that version 3 reads.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// prctl(2) with numbers only.
fn prctl(what: i32, a: u64, b: u64) -> Result<i32, Errno> {
    // SAFETY: callers pass operations that take numbers, not pointers; unused arguments are 0, as some demand.
    let answer = unsafe { libc::syscall(libc::SYS_prctl, what, a, b, 0_u64, 0_u64) };
    Errno::result(answer).map(|answer| answer as i32)
}

/// Is the capability in the bounding set? EINVAL: this kernel has no such capability.
///
/// # Errors
/// EINVAL.
pub fn in_bounding(number: u8) -> Result<bool, Errno> {
    prctl(libc::PR_CAPBSET_READ, number.into(), 0).map(|answer| answer == 1)
}

/// The bounding set, and a mask of all capabilities that this kernel has.
#[must_use]
pub fn bounding() -> (u64, u64) {
    let (mut set, mut known) = (0, 0);
    for number in 0..64 {
        match in_bounding(number) {
            Ok(there) => {
                known |= 1 << number;
                set |= u64::from(there) << number;
            }
            Err(_) => break,
        }
    }
    (set, known)
}

/// Takes these out of the bounding set.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn drop_bounding(mask: u64) -> Result<(), Errno> {
    for number in (0..64_u64).filter(|number| mask >> number & 1 == 1) {
        prctl(libc::PR_CAPBSET_DROP, number, 0)?;
    }
    Ok(())
}

/// Has the kernel look for CAP_SETPCAP in our user namespace, and nothing else: the number is no capability's, which
/// it finds after that.
pub fn ask() {
    let refused = prctl(libc::PR_CAPBSET_DROP, 1000, 0);
    debug_assert!(refused.is_err());
}

/// Which of these are in the ambient set?
///
/// # Errors
/// EINVAL: this kernel has no such capability.
pub fn ambient(among: u64) -> Result<u64, Errno> {
    let mut set = 0;
    for number in (0..64_u64).filter(|number| among >> number & 1 == 1) {
        let there = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as u64, number)?;
        set |= u64::from(there == 1) << number;
    }
    Ok(set)
}

/// Makes the ambient set these.
///
/// # Errors
/// EPERM: one is not in both the permitted and the inheritable set, or securebits forbid it.
pub fn set_ambient(mask: u64) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    for number in (0..64_u64).filter(|number| mask >> number & 1 == 1) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)?;
    }
    Ok(())
}

/// Keeps the permitted set over a change from root to another user. Ends at exec.
///
/// # Errors
/// EPERM: securebits lock it.
pub fn keep() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0).map(drop)
}

/// The securebits flags.
///
/// # Errors
/// None that is known.
pub fn securebits() -> Result<u32, Errno> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0).map(|bits| bits as u32)
}

/// Sets the securebits flags.
///
/// # Errors
/// EPERM without CAP_SETPCAP, or where a locked one would change, or the kernel does not know one.
pub fn set_securebits(bits: u32) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, bits.into(), 0).map(drop)
}

/// Is no_new_privs set?
///
/// # Errors
/// None that is known.
pub fn no_new_privs() -> Result<bool, Errno> {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0).map(|answer| answer == 1)
}

/// Sets no_new_privs, for good.
///
/// # Errors
/// None that is known.
pub fn set_no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Makes real, effective and saved user this one.
///
/// # Errors
/// EPERM without CAP_SETUID; EINVAL: the user namespace does not map it.
pub fn set_user(uid: u32) -> Result<(), Errno> {
    // SAFETY: three numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Makes real, effective and saved group this one.
///
/// # Errors
/// EPERM without CAP_SETGID; EINVAL: the user namespace does not map it.
pub fn set_group(gid: u32) -> Result<(), Errno> {
    // SAFETY: three numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Makes the supplementary groups these.
///
/// # Errors
/// EPERM without CAP_SETGID, or where the user namespace denies setgroups; EINVAL: one is not mapped.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: count and pointer are of one slice of gid_t.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Real, effective and saved user and group.
///
/// # Errors
/// None that is known.
pub fn ids() -> Result<([u32; 3], [u32; 3]), Errno> {
    let (mut r, mut e, mut s) = (0, 0, 0);
    // SAFETY: three pointers to uid_t.
    Errno::result(unsafe { libc::syscall(libc::SYS_getresuid, &raw mut r, &raw mut e, &raw mut s) })?;
    let users = [r, e, s];
    // SAFETY: three pointers to gid_t.
    Errno::result(unsafe { libc::syscall(libc::SYS_getresgid, &raw mut r, &raw mut e, &raw mut s) })?;
    Ok((users, [r, e, s]))
}

/// How many supplementary groups are compared one by one; more are only counted.
const COMPARED: usize = 128;

/// Are the supplementary groups these? The kernel sorts them.
///
/// # Errors
/// None that is known.
pub fn groups_are(groups: &[u32]) -> Result<bool, Errno> {
    let mut buffer = [0_u32; COMPARED];
    if groups.len() > COMPARED {
        // SAFETY: size 0 asks for the count alone.
        let count =
            Errno::result(unsafe { libc::syscall(libc::SYS_getgroups, 0, std::ptr::null_mut::<u32>()) })?;
        return Ok(usize::try_from(count) == Ok(groups.len()));
    }
    // SAFETY: the buffer's true length is given.
    let count = unsafe { libc::syscall(libc::SYS_getgroups, COMPARED, buffer.as_mut_ptr()) };
    let count = match Errno::result(count) {
        Ok(count) => count,
        // More than the buffer holds, so more than were set.
        Err(Errno::EINVAL) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let now = usize::try_from(count).ok().and_then(|count| buffer.get(..count)).unwrap_or_default();
    Ok(now.len() == groups.len() && groups.iter().all(|gid| now.contains(gid)))
}
