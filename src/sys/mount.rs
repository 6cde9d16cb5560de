//! The mount API by descriptors (Linux 5.2; mount_setattr 5.12; openat2 5.6): nothing here resolves a path that
//! could change between a look and a use. All of it is async-signal-safe: the child calls it.

use std::ffi::CStr;

use nix::errno::Errno;

/// linux/mount.h: what the crate has no names for.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id and file capabilities do nothing.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
}

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// A number that means "the current directory" where a descriptor is expected.
pub const CWD: i32 = libc::AT_FDCWD;

/// openat2(2). `resolve` are `RESOLVE_*` bits.
///
/// # Errors
/// The kernel's answer; ENOSYS before Linux 5.6.
pub fn openat2(dir: i32, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<i32, Errno> {
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    loop {
        // SAFETY: the path ends with NUL; `how` is of the size that is given.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir,
                path.as_ptr(),
                &raw const how,
                std::mem::size_of::<libc::open_how>(),
            )
        };
        match Errno::result(fd) {
            // A rename or mount elsewhere raced with a ".." of this path: openat2(2) says to try again.
            Err(Errno::EAGAIN) => {}
            other => return other.map(|fd| fd as i32),
        }
    }
}

/// Opens a path as if `root` were the root directory: neither `..` nor any symbolic link leads out of it.
///
/// # Errors
/// The kernel's answer.
pub fn open_below(root: i32, path: &CStr) -> Result<i32, Errno> {
    openat2(root, path, libc::O_PATH, 0, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)
}

/// open_tree(2) with OPEN_TREE_CLONE: a copy of the mount at `path`, and of all mounts below it, that is not
/// attached anywhere.
///
/// # Errors
/// The kernel's answer.
pub fn clone_tree(dir: i32, path: &CStr) -> Result<i32, Errno> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_RECURSIVE as u32
        | libc::AT_EMPTY_PATH as u32;
    // SAFETY: the path ends with NUL.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) };
    Errno::result(fd).map(|fd| fd as i32)
}

/// Attaches a tree that is not attached at what `target` refers to.
///
/// # Errors
/// The kernel's answer.
pub fn attach(tree: i32, target: i32) -> Result<(), Errno> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are C string literals.
    let done =
        unsafe { libc::syscall(libc::SYS_move_mount, tree, c"".as_ptr(), target, c"".as_ptr(), flags) };
    Errno::result(done).map(drop)
}

/// mount_setattr(2)'s argument.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// What to change on a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// [`attr`] bits to set.
    pub set: u64,
    /// [`attr`] bits to clear.
    pub clear: u64,
    /// Make it private: mounts neither come in nor go out.
    pub private: bool,
    /// Also all mounts below.
    pub recursive: bool,
}

/// mount_setattr(2).
///
/// # Errors
/// The kernel's answer; ENOSYS before Linux 5.12.
pub fn change(dir: i32, path: &CStr, change: Change) -> Result<(), Errno> {
    let argument = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: if change.private { libc::MS_PRIVATE } else { 0 },
        userns: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path ends with NUL; the argument is of the size that is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            &raw const argument,
            std::mem::size_of::<MountAttr>(),
        )
    };
    Errno::result(done).map(drop)
}

/// fsopen(2).
///
/// # Errors
/// The kernel's answer; ENODEV: it has no such file system.
pub fn fs_open(kind: &CStr) -> Result<i32, Errno> {
    // SAFETY: the name ends with NUL.
    let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    Errno::result(fd).map(|fd| fd as i32)
}

/// fsconfig(2): a parameter with a value, or without one a flag.
///
/// # Errors
/// The kernel's answer; EINVAL: no such parameter or value.
pub fn fs_set(context: i32, key: &CStr, value: Option<&CStr>) -> Result<(), Errno> {
    let (command, pointer) = match value {
        Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
        None => (FSCONFIG_SET_FLAG, std::ptr::null()),
    };
    // SAFETY: both strings end with NUL; a flag takes no value.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, context, command, key.as_ptr(), pointer, 0) };
    Errno::result(done).map(drop)
}

/// fsconfig(2) and fsmount(2): the file system as a mount that is not attached anywhere.
///
/// # Errors
/// The kernel's answer.
pub fn fs_mount(context: i32, attributes: u64) -> Result<i32, Errno> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let made = unsafe { libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, none, none, 0) };
    Errno::result(made)?;
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes) };
    Errno::result(fd).map(|fd| fd as i32)
}

/// mount(2) of a file system whose options are too long for fsconfig(2).
///
/// # Errors
/// The kernel's answer.
pub fn mount_old(kind: &CStr, target: &CStr, flags: u64, options: &CStr) -> Result<(), Errno> {
    // SAFETY: all strings end with NUL.
    let done =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    Errno::result(done).map(drop)
}

/// Makes the directory `new` the root of this mount namespace, and lets go of the old one: pivot_root(2), "The
/// program … `pivot_root(".", ".")`".
///
/// # Errors
/// The kernel's answer.
pub fn pivot(new: i32) -> Result<(), Errno> {
    // SAFETY: a number.
    Errno::result(unsafe { libc::fchdir(new) })?;
    let dot = c".".as_ptr();
    // SAFETY: both are C string literals.
    let pivoted = Errno::result(unsafe { libc::syscall(libc::SYS_pivot_root, dot, dot) });
    match pivoted {
        Ok(_) => {
            // The old root lies over the new one now; "." is still the old one's place.
            // SAFETY: a C string literal.
            Errno::result(unsafe { libc::umount2(dot, libc::MNT_DETACH) })?;
        }
        // The initial ramdisk cannot be pivoted away from (its mount has no parent): move the new root over it.
        // Nothing leads back below a mount that covers the root of the namespace. Not so in a chroot, where "/"
        // is no mount: there the errno stands.
        Err(Errno::EINVAL) if is_mount_root(c"/") => {
            let flags = MOVE_MOUNT_F_EMPTY_PATH;
            // SAFETY: C string literals.
            let moved =
                unsafe { libc::syscall(libc::SYS_move_mount, new, c"".as_ptr(), CWD, c"/".as_ptr(), flags) };
            Errno::result(moved)?;
            // SAFETY: a C string literal.
            Errno::result(unsafe { libc::chroot(dot) })?;
        }
        Err(errno) => return Err(errno),
    }
    // SAFETY: a C string literal.
    Errno::result(unsafe { libc::chdir(c"/".as_ptr()) }).map(drop)
}

fn is_mount_root(path: &CStr) -> bool {
    // SAFETY: all-zero is a valid statx.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with NUL, and the answer is of the right type.
    let done = unsafe { libc::statx(CWD, path.as_ptr(), 0, libc::STATX_BASIC_STATS, &raw mut answer) };
    done == 0 && answer.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0
}

/// Is the file behind the descriptor a directory?
///
/// # Errors
/// The kernel's answer.
pub fn is_directory(fd: i32) -> Result<bool, Errno> {
    // SAFETY: all-zero is a valid stat.
    let mut answer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the answer is of the right type.
    Errno::result(unsafe { libc::fstat(fd, &raw mut answer) })?;
    Ok(answer.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// mkdirat(2) of a name, with exactly this mode.
///
/// # Errors
/// The kernel's answer.
pub fn make_directory(dir: i32, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the name ends with NUL.
    Errno::result(unsafe { libc::mkdirat(dir, name.as_ptr(), mode) }).map(drop)
}

/// mknodat(2) of a character device that all may read and write.
///
/// # Errors
/// The kernel's answer.
pub fn make_device(dir: i32, name: &CStr, major: u32, minor: u32) -> Result<(), Errno> {
    let device = libc::makedev(major, minor);
    // SAFETY: the name ends with NUL.
    Errno::result(unsafe { libc::mknodat(dir, name.as_ptr(), libc::S_IFCHR | 0o666, device) }).map(drop)
}

/// symlinkat(2).
///
/// # Errors
/// The kernel's answer.
pub fn make_link(target: &CStr, dir: i32, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both end with NUL.
    Errno::result(unsafe { libc::symlinkat(target.as_ptr(), dir, name.as_ptr()) }).map(drop)
}

/// Closes a descriptor that the child has no more use for; nothing could be done about a failure.
pub fn close(fd: i32) {
    // SAFETY: a number; the child's own bookkeeping says that it is not used again.
    unsafe { libc::close(fd) };
}

/// chroot(2) to an open directory, and into it.
///
/// # Errors
/// The kernel's answer.
pub fn chroot(dir: i32) -> Result<(), Errno> {
    // SAFETY: a number.
    Errno::result(unsafe { libc::fchdir(dir) })?;
    // SAFETY: a C string literal.
    Errno::result(unsafe { libc::chroot(c".".as_ptr()) })?;
    // SAFETY: a C string literal.
    Errno::result(unsafe { libc::chdir(c"/".as_ptr()) }).map(drop)
}

/// Gives the directory `name` in `dir` the owner, group and mode of `model`.
///
/// # Errors
/// The kernel's answer.
pub fn copy_owner(model: i32, dir: i32, name: &CStr) -> Result<(), Errno> {
    // SAFETY: all-zero is a valid stat.
    let mut of: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the answer is of the right type.
    Errno::result(unsafe { libc::fstat(model, &raw mut of) })?;
    // SAFETY: the name ends with NUL.
    let owned =
        unsafe { libc::fchownat(dir, name.as_ptr(), of.st_uid, of.st_gid, libc::AT_SYMLINK_NOFOLLOW) };
    // EINVAL: an owner that this user namespace does not know; the directory is the caller's then.
    match Errno::result(owned) {
        Ok(_) | Err(Errno::EINVAL | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    // SAFETY: the name ends with NUL, and is not a link: the caller has just made it.
    Errno::result(unsafe { libc::fchmodat(dir, name.as_ptr(), of.st_mode & 0o7777, 0) }).map(drop)
}
