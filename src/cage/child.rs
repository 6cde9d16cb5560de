//! The child's side of the cage. Only async-signal-safe calls, no allocation, no formatting, no panic: as
//! `crate::child`.

use std::cell::Cell;
use std::ffi::CStr;

use nix::errno::Errno;

use super::step::{Access, CageStep, Mount, PROC_HIDDEN, PROC_READ_ONLY, Root, Take, Target, What};
use crate::sys::child as sys;
use crate::sys::mount::{self, CWD, Change, attr};

/// What the steps need; made before the child is.
#[derive(Default)]
#[allow(missing_debug_implementations)] // numbers of descriptors say nothing to a reader
pub struct Tools {
    /// Descriptors that steps leave for later steps; the first is the root directory.
    pub slots: Vec<Cell<i32>>,
    /// Namespaces that the parent opened.
    pub joins: Vec<i32>,
    /// The pipe through which the parent says that the maps are written: our end, its end.
    pub barrier: (i32, i32),
    /// Where the init writes the command's wait status.
    pub status: i32,
    /// The pipe of failures: the parent's end, our end.
    pub report: Cell<(i32, i32)>,
    /// The socket for messages to a service manager: where it goes to the parent, its name.
    pub relay: Option<(i32, Vec<u8>)>,
    /// The umask, while ours is 0.
    pub umask: Cell<u32>,
    /// Namespaces of steps that the child was born in, as `CLONE_NEW*` bits: these steps are done.
    pub born_in: Cell<u64>,
}

/// The slot of the root directory.
pub const ROOT: usize = 0;

impl Tools {
    fn slot(&self, slot: usize) -> Result<i32, Errno> {
        match self.slots.get(slot).map(Cell::get) {
            Some(fd) if fd >= 0 => Ok(fd),
            _ => Err(Errno::EBADF),
        }
    }

    fn was_born_in(&self, flag: i32) -> bool {
        self.born_in.get() & flag as u64 != 0
    }

    fn fill(&self, slot: usize, fd: i32) -> Result<(), Errno> {
        self.slots.get(slot).ok_or(Errno::EBADF)?.set(fd);
        Ok(())
    }
}

/// Runs one step.
///
/// # Errors
/// The kernel's answer.
pub fn take(step: &CageStep, tools: &Tools) -> Result<(), Errno> {
    match step {
        CageStep::AwaitMaps(_) => {
            mount::close(tools.barrier.1);
            // A parent that cannot write the maps says so itself; there is nothing to report.
            if sys::await_byte(tools.barrier.0)? { Ok(()) } else { crate::sys::leave(125) }
        }
        CageStep::BecomeZero => sys::become_zero(),
        CageStep::Enter(kind, _, index) => {
            sys::enter_namespace(tools.joins.get(*index).copied().unwrap_or(-1), kind.flag())
        }
        CageStep::NewCgroup if tools.was_born_in(libc::CLONE_NEWCGROUP) => Ok(()),
        CageStep::NewTime(_) if tools.was_born_in(libc::CLONE_NEWTIME) => Ok(()),
        CageStep::NewCgroup => sys::unshare(libc::CLONE_NEWCGROUP),
        CageStep::NewTime(offsets) => new_time(offsets.as_deref()),
        CageStep::Hostname(name) => sys::set_hostname(name),
        CageStep::Loopback => sys::loopback_up(),
        CageStep::PrivateMounts => {
            // Modes of what is made from here on are exact.
            tools.umask.set(sys::set_umask(0));
            mount::change(CWD, c"/", Change { private: true, recursive: true, ..Change::default() })
        }
        CageStep::Take(source) => take_source(source, tools),
        CageStep::Layer(path, slot, _) => {
            tools.fill(*slot, mount::openat2(CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0, 0)?)
        }
        CageStep::Root(root) => tools.fill(ROOT, make_root(root)?),
        CageStep::ReadOnlyBelow => read_only_below(tools.slot(ROOT)?),
        CageStep::Mount(one) => mount_one(one, tools),
        CageStep::ReadOnlyRoot => {
            mount::change(tools.slot(ROOT)?, c"", Change { set: attr::RDONLY, ..Change::default() })
        }
        CageStep::EnterRoot => {
            mount::pivot(tools.slot(ROOT)?)?;
            sys::set_umask(tools.umask.get());
            Ok(())
        }
        CageStep::KeepRoot => {
            sys::set_umask(tools.umask.get());
            Ok(())
        }
        CageStep::Chroot => mount::chroot(tools.slot(ROOT)?),
        CageStep::DieWithParent => {
            let (parents, ours) = tools.report.get();
            mount::close(parents);
            sys::die_with_parent(ours)
        }
        // Whose other half goes on with the steps: the walk's own matter.
        CageStep::Init(_) => Err(Errno::ENOSYS),
        CageStep::Chdir(path) | CageStep::Return(path) => sys::change_directory(path),
        CageStep::Umask(mask) => {
            sys::set_umask(*mask);
            Ok(())
        }
        CageStep::Process(setting) => setting.apply(),
        CageStep::CloseDescriptors(kept) => {
            sys::close_on_exec_from(3)?;
            kept.iter().try_for_each(|fd| sys::keep_over_exec(*fd))
        }
    }
}

/// The namespace is entered by way of its file: unshare(2) alone is for children only (time_namespaces(7)).
fn new_time(offsets: Option<&CStr>) -> Result<(), Errno> {
    sys::unshare(libc::CLONE_NEWTIME)?;
    if let Some(lines) = offsets {
        sys::write_file(c"/proc/self/timens_offsets", lines.to_bytes())?;
    }
    let fd = mount::openat2(CWD, c"/proc/self/ns/time_for_children", libc::O_RDONLY, 0, 0)?;
    let entered = sys::enter_namespace(fd, libc::CLONE_NEWTIME);
    mount::close(fd);
    entered
}

fn take_source(source: &Take, tools: &Tools) -> Result<(), Errno> {
    let tree = match mount::clone_tree(CWD, &source.path) {
        Err(Errno::ENOENT) if source.optional => return Ok(()),
        other => other?,
    };
    tools.fill(source.slot, tree)?;
    match source.access {
        Access::AsIs => Ok(()),
        Access::ReadOnly => read_only(tree),
    }
}

fn read_only(tree: i32) -> Result<(), Errno> {
    mount::change(tree, c"", Change { set: attr::RDONLY, recursive: true, ..Change::default() })
}

/// Read-only with all mounts below, but the root's own mount stays as it was for as long as mount points may
/// have to be made in it.
fn read_only_below(root: i32) -> Result<(), Errno> {
    read_only(root)?;
    match mount::change(root, c"", Change { clear: attr::RDONLY, ..Change::default() }) {
        // It was read-only before, and a user namespace may not change that: so much the better.
        Err(Errno::EPERM) => Ok(()),
        other => other,
    }
}

fn make_root(root: &Root) -> Result<i32, Errno> {
    match root {
        Root::Own => mount::openat2(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, 0),
        Root::Directory(path) => mount::openat2(CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0, 0),
        Root::Tree(path) => {
            let place = mount::openat2(CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0, 0)?;
            let tree = mount::clone_tree(place, c"")?;
            mount::attach(tree, place)?;
            mount::close(place);
            Ok(tree)
        }
        Root::Kept { lower, upper, work, userxattr, .. } => {
            let directory = |path| mount::openat2(CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0, 0);
            let (place, upper, work) = (directory(lower)?, directory(upper)?, directory(work)?);
            overlay_over(place, &[place], Some((upper, work)), *userxattr)?;
            // The same name leads to what covers it now.
            directory(lower)
        }
        Root::Ephemeral { lower, userxattr } => make_ephemeral(lower, *userxattr),
    }
}

// Its texts are of pages: others shall not have them on their stack.
#[inline(never)]
fn make_ephemeral(lower: &CStr, userxattr: bool) -> Result<i32, Errno> {
    let place = mount::openat2(CWD, lower, libc::O_PATH | libc::O_DIRECTORY, 0, 0)?;
    // The memory is mounted where the lower directory was: nothing else has to be there for it.
    let memory = tmpfs(None, c"0755", attr::NOSUID | attr::NODEV)?;
    mount::attach(memory, place)?;
    for name in [c"upper", c"work", c"root"] {
        mount::make_directory(memory, name, 0o755)?;
    }
    crate::sys::mount::copy_owner(place, memory, c"upper")?;
    let mut options = Text::new();
    options.add(b"lowerdir=")?.add_fd(place)?;
    options.add(b",upperdir=")?.add_fd(memory)?.add(b"/upper")?;
    options.add(b",workdir=")?.add_fd(memory)?.add(b"/work")?;
    if userxattr {
        options.add(b",userxattr")?;
    }
    let mut target = Text::new();
    target.add_fd(memory)?.add(b"/root")?;
    mount::mount_old(c"overlay", target.get()?, 0, options.get()?)?;
    mount::openat2(memory, c"root", libc::O_PATH | libc::O_DIRECTORY, 0, 0)
}

fn tmpfs(size: Option<&CStr>, mode: &CStr, attributes: u64) -> Result<i32, Errno> {
    let context = mount::fs_open(c"tmpfs")?;
    mount::fs_set(context, c"mode", Some(mode))?;
    if let Some(size) = size {
        mount::fs_set(context, c"size", Some(size))?;
    }
    let mounted = mount::fs_mount(context, attributes);
    mount::close(context);
    mounted
}

/// Opens a place below the root, and makes what is missing on the way.
fn place(root: i32, target: &Target, directory: bool) -> Result<i32, Errno> {
    let last = target.prefixes.last().ok_or(Errno::EINVAL)?;
    match mount::open_below(root, last) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let mut parent = None;
    for (number, prefix) in target.prefixes.iter().enumerate() {
        let is_last = number + 1 == target.prefixes.len();
        let mut found = mount::open_below(root, prefix);
        if found == Err(Errno::ENOENT) {
            if is_last && !directory {
                // Through a dangling link too, but never out of the root.
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_NOCTTY | libc::O_NONBLOCK;
                mount::close(mount::openat2(root, prefix, flags, 0o644, libc::RESOLVE_IN_ROOT)?);
            } else {
                // mkdir does not follow a link in the last place.
                let bytes = prefix.to_bytes_with_nul();
                let start = bytes.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
                let name = CStr::from_bytes_with_nul(bytes.get(start..).unwrap_or_default())
                    .map_err(|_| Errno::EINVAL)?;
                mount::make_directory(parent.unwrap_or(root), name, 0o755)?;
            }
            found = mount::open_below(root, prefix);
        }
        if let Some(fd) = parent.replace(found?) {
            mount::close(fd);
        }
    }
    parent.ok_or(Errno::EINVAL)
}

fn mount_one(one: &Mount, tools: &Tools) -> Result<(), Errno> {
    let root = tools.slot(ROOT)?;
    match &one.what {
        What::Tree(slot) => {
            // Left out where the source was optional and missing.
            let Ok(tree) = tools.slot(*slot) else { return Ok(()) };
            let target = place(root, &one.target, mount::is_directory(tree)?)?;
            finish(tree, target)
        }
        What::Tmpfs(size, mode) => {
            let target = place(root, &one.target, true)?;
            finish(tmpfs(size.as_deref(), mode, attr::NOSUID | attr::NODEV)?, target)
        }
        What::Proc { guarded } => {
            let target = place(root, &one.target, true)?;
            let context = mount::fs_open(c"proc")?;
            let proc = mount::fs_mount(context, attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
            mount::close(context);
            mount::attach(proc, target)?;
            mount::close(target);
            if *guarded {
                guard_proc(proc)?;
            }
            mount::close(proc);
            Ok(())
        }
        What::Sys(spare) => {
            let target = place(root, &one.target, true)?;
            let flags = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
            let context = mount::fs_open(c"sysfs")?;
            let sys = match mount::fs_mount(context, flags) {
                // Parts of the caller's /sys are hidden: the kernel gives it no whole one.
                Err(Errno::EPERM) => tools.slot(*spare)?,
                other => other?,
            };
            mount::close(context);
            finish(sys, target)
        }
        What::Dev { tty_group } => {
            let target = place(root, &one.target, true)?;
            super::devices::mount(target, *tty_group)
        }
        What::Mask => match place_if_there(root, &one.target)? {
            Some(target) => hide(target),
            None => Ok(()),
        },
        What::Overlay { lowers, upper, userxattr } => {
            let target = place(root, &one.target, true)?;
            let mut layers = [-1; LAYERS];
            for (layer, slot) in layers.iter_mut().zip(lowers) {
                *layer = tools.slot(*slot)?;
            }
            let upper = match upper {
                Some((upper, work)) => Some((tools.slot(*upper)?, tools.slot(*work)?)),
                None => None,
            };
            overlay_over(target, layers.get(..lowers.len()).ok_or(Errno::E2BIG)?, upper, *userxattr)
        }
    }
}

/// More would not fit into the kernel's page of options either.
const LAYERS: usize = 200;

/// Mounts an overlay of open directories, topmost first, over an open directory.
#[inline(never)]
fn overlay_over(
    target: i32,
    lowers: &[i32],
    upper: Option<(i32, i32)>,
    userxattr: bool,
) -> Result<(), Errno> {
    let mut options = Text::new();
    options.add(b"lowerdir=")?;
    for (number, lower) in lowers.iter().enumerate() {
        options.add(if number == 0 { b"" } else { b":" })?.add_fd(*lower)?;
    }
    if let Some((upper, work)) = upper {
        options.add(b",upperdir=")?.add_fd(upper)?;
        options.add(b",workdir=")?.add_fd(work)?;
    }
    if userxattr {
        options.add(b",userxattr")?;
    }
    let mut path = Text::new();
    path.add_fd(target)?;
    mount::mount_old(c"overlay", path.get()?, 0, options.get()?)
}

/// Attaches, and closes what is not needed any more.
fn finish(tree: i32, target: i32) -> Result<(), Errno> {
    mount::attach(tree, target)?;
    mount::close(tree);
    mount::close(target);
    Ok(())
}

fn place_if_there(root: i32, target: &Target) -> Result<Option<i32>, Errno> {
    let last = target.prefixes.last().ok_or(Errno::EINVAL)?;
    match mount::open_below(root, last) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

/// An empty directory over a directory; over a file the host's /dev/null: empty, and writes go nowhere.
fn hide(target: i32) -> Result<(), Errno> {
    let flags = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    if mount::is_directory(target)? {
        return finish(tmpfs(Some(c"4k"), c"0555", flags)?, target);
    }
    let nothing = mount::clone_tree(CWD, c"/dev/null")?;
    read_only(nothing)?;
    finish(nothing, target)
}

fn guard_proc(proc: i32) -> Result<(), Errno> {
    for name in PROC_READ_ONLY {
        match mount::clone_tree(proc, name) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
            Ok(tree) => {
                read_only(tree)?;
                finish(tree, mount::openat2(proc, name, libc::O_PATH, 0, 0)?)?;
            }
        }
    }
    for name in PROC_HIDDEN {
        match mount::openat2(proc, name, libc::O_PATH, 0, 0) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
            Ok(target) => hide(target)?,
        }
    }
    Ok(())
}

/// A text that is put together on the stack: options with numbers of descriptors in them.
struct Text {
    bytes: [u8; 4096],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; 4096], length: 0 }
    }

    fn add(&mut self, text: &[u8]) -> Result<&mut Self, Errno> {
        let end = self.length + text.len();
        // One byte stays for the NUL at the end.
        if end >= self.bytes.len() {
            return Err(Errno::E2BIG);
        }
        self.bytes.get_mut(self.length..end).ok_or(Errno::E2BIG)?.copy_from_slice(text);
        self.length = end;
        Ok(self)
    }

    /// The path of a descriptor: names with commas, colons and backslashes need no escapes that way, and
    /// nothing is resolved twice.
    fn add_fd(&mut self, fd: i32) -> Result<&mut Self, Errno> {
        let mut digits = [0_u8; 10];
        let text = crate::sys::decimal(fd.unsigned_abs(), &mut digits);
        self.add(b"/proc/self/fd/")?.add(text)
    }

    fn get(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::E2BIG)
    }
}
