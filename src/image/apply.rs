//! Applies tar streams to a tree: one for a plain archive, several with whiteouts for an image's layers.

use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, futimens, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::entries::{Entries, Entry, Kind};
use super::limits::Budget;
use super::report::{self, Notes};
use super::stream::{CHUNK, Stream, from_io};
use super::tree::{Tree, open_in, split};
use super::{Devices, UnpackOptions};
use crate::error::{Error, printable};
use crate::order;
use crate::sys::xattr;

/// Set-user-ID and set-group-ID.
const PRIVILEGE: u32 = 0o6000;

pub(super) struct Builder<'a> {
    tree: Tree,
    options: &'a UnpackOptions,
    budget: &'a Budget<'a>,
    notes: Notes,
    /// Modes and times of directories wait until all is in them: writing changes the time, and who is not root
    /// may not write into a read-only one. `None`: it is gone.
    directories: BTreeMap<Vec<u8>, Option<Directory>>,
    written: Written,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Directory {
    mode: u32,
    mtime: Option<(i64, i64)>,
}

/// A directory that no entry describes.
const PLAIN: Directory = Directory { mode: 0o755, mtime: None };

/// The names that the present layer has brought, as hashes under a secret key: whiteouts concern only what lies
/// below. Two names with one hash would make a whiteout forget one file.
#[derive(Default)]
struct Written {
    names: HashSet<u64>,
    key: RandomState,
}

impl Written {
    fn contains(&self, path: &[u8]) -> bool {
        self.names.contains(&self.key.hash_one(path))
    }

    /// Remembers a name and the directories that lead to it.
    fn insert(&mut self, path: &[u8]) {
        let mut path = path;
        while self.names.insert(self.key.hash_one(path)) {
            match path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at)) {
                Some(upper) => path = upper,
                None => break,
            }
        }
    }
}

impl<'a> Builder<'a> {
    /// Builds in `root`; `trash` is a directory beside it for what gets removed on the way.
    pub(super) fn new(
        root: OwnedFd,
        trash: OwnedFd,
        options: &'a UnpackOptions,
        budget: &'a Budget<'a>,
    ) -> Self {
        Self {
            tree: Tree::new(root, trash),
            options,
            budget,
            notes: Notes::default(),
            directories: order::map([(Vec::new(), Some(PLAIN))]),
            written: Written::default(),
            buffer: vec![0; CHUNK],
        }
    }

    /// Applies one stream. In a layer, names that begin with `.wh.` remove what earlier layers brought.
    pub(super) fn layer(&mut self, stream: &mut Stream, whiteouts: bool) -> Result<(), Error> {
        self.written.names.clear();
        let mut entries = Entries::new(stream);
        while let Some(entry) = entries.next()? {
            self.budget.take_entry()?;
            self.entry(&entry, &mut entries, whiteouts).map_err(|error| {
                let mut name = printable(&entry.path);
                if let Some((cut, _)) = name.char_indices().nth(256) {
                    name.truncate(cut);
                    name.push('…');
                }
                Error { what: format!("entry {name}: {}", error.what), ..error }
            })?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, data: &mut Entries, whiteouts: bool) -> Result<(), Error> {
        let Some((dir, name)) = split(&entry.path).map_err(Error::new)? else {
            return self.root(entry);
        };
        if whiteouts && let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&dir, hidden);
        }
        let path = join(&dir, &name);
        self.written.insert(&path);
        match entry.kind {
            Kind::Directory => self.directory(entry, &dir, &name, path),
            Kind::File => self.file(entry, &dir, &name, data),
            Kind::Symlink => {
                if entry.link.contains(&0) {
                    return Err(Error::new("has a NUL byte in its target"));
                }
                self.put(&dir, &name, |dir, name| symlinkat(entry.link.as_slice(), dir, name))?;
                self.by_name(entry, &dir, &name)
            }
            Kind::Hardlink => self.hardlink(entry, &dir, &name),
            Kind::Fifo => {
                self.put(&dir, &name, |dir, name| {
                    nix::unistd::mkfifoat(dir, name, Mode::S_IRUSR | Mode::S_IWUSR)
                })?;
                self.by_name(entry, &dir, &name)
            }
            Kind::CharDevice | Kind::BlockDevice => self.device(entry, &dir, &name),
        }
    }

    /// An entry for the root itself.
    fn root(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return Err(Error::new("would replace the root by something else than a directory"));
        }
        let at = open_in(self.tree.root(), b"", OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(unwritable)?;
        self.own(at.as_fd(), b"", entry)?;
        self.attributes(at.as_fd(), entry)?;
        self.directories.insert(Vec::new(), Some(described(entry)));
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, dir: &[u8], name: &[u8], path: Vec<u8>) -> Result<(), Error> {
        let mode = Mode::S_IRWXU;
        match mkdirat(self.parent(dir)?, name, mode) {
            Ok(()) => {}
            // Layers bring the directories again in which they change something.
            Err(Errno::EEXIST) if self.tree.is_directory(dir, name) => {}
            Err(Errno::EEXIST) => self.put(dir, name, |dir, name| mkdirat(dir, name, mode))?,
            Err(errno) => return Err(unwritable(errno)),
        }
        let parent = self.tree.directory(dir, &mut |_| {})?.try_clone_to_owned().map_err(|e| from_io(&e))?;
        self.own(parent.as_fd(), name, entry)?;
        if !entry.xattrs.is_empty() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(&parent, name, flags, Mode::empty()).map_err(unwritable)?;
            self.attributes(fd.as_fd(), entry)?;
        }
        let length = path.len();
        if self.directories.insert(path, Some(described(entry))).flatten().is_none() {
            self.budget.take_name(length)?;
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry, dir: &[u8], name: &[u8], data: &mut Entries) -> Result<(), Error> {
        self.budget.has_room(entry.size)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            self.put(dir, name, |dir, name| openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR))?;
        let file = File::from(file);
        self.fill(&file, entry, data)?;
        self.own(file.as_fd(), b"", entry)?;
        let mode = self.mode(entry);
        fchmod(&file, Mode::from_bits_truncate(mode)).map_err(unwritable)?;
        // Who is not in the group gets no set-group-ID bit, and is not told (chmod(2)).
        if mode & PRIVILEGE != 0 && fstat(&file).map_err(unwritable)?.st_mode & PRIVILEGE != mode & PRIVILEGE
        {
            self.waive("modes not kept", "its set-ID bits cannot be kept", Errno::EPERM, entry)?;
        }
        self.attributes(file.as_fd(), entry)?;
        let (accessed, modified) = times(entry.mtime);
        futimens(&file, &accessed, &modified).map_err(unwritable)
    }

    /// Writes the data; runs of zeros become holes.
    fn fill(&mut self, file: &File, entry: &Entry, data: &mut Entries) -> Result<(), Error> {
        let whole = [(0, entry.size)];
        let pieces = entry.pieces.as_deref().unwrap_or(&whole);
        let stored: u64 = pieces.iter().map(|piece| piece.1).sum();
        self.budget.take_bytes(entry.size.saturating_sub(stored))?;
        let mut end = 0;
        for &(offset, length) in pieces {
            let mut done = 0;
            while done < length {
                let count = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
                let Some(chunk) = self.buffer.get_mut(..count) else { break };
                data.read_exact(chunk).map_err(|error| from_io(&error))?;
                if chunk.iter().any(|byte| *byte != 0) {
                    file.write_all_at(chunk, offset + done).map_err(|error| io_unwritable(&error))?;
                    end = offset + done + count as u64;
                }
                done += count as u64;
            }
        }
        if end < entry.size {
            file.set_len(entry.size).map_err(|error| io_unwritable(&error))?;
        }
        Ok(())
    }

    fn hardlink(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<(), Error> {
        let shown = printable(&entry.link);
        let target = split(&entry.link)
            .map_err(|what| Error::new(format!("is a hard link to {shown}, which {what}")))?
            .ok_or_else(|| Error::new("is a hard link to the root"))?;
        if (dir, name) == (&target.0, &target.1) {
            return Err(Error::new("is a hard link to itself"));
        }
        let missing = |errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => {
                Error::new(format!("is a hard link to {shown}, which is not in the archive before it"))
            }
            errno => Error::new(format!("cannot be linked to {shown}")).errno(errno),
        };
        let from = self.tree.existing(&target.0).map_err(missing)?;
        let found = nix::sys::stat::fstatat(&from, target.1.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW);
        if found.map_err(missing)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
            return Err(Error::new(format!("is a hard link to {shown}, a directory")));
        }
        self.put(dir, name, |dir, name| linkat(&from, target.1.as_slice(), dir, name, AtFlags::empty()))
    }

    fn device(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<(), Error> {
        match self.options.devices {
            Devices::Refuse => {
                return Err(Error::new("is a device node")
                    .try_this("--devices skip leaves them out (rcon --dev makes the usual ones), --devices keep makes them"));
            }
            Devices::Skip => {
                self.notes.add(report::DEVICE, || printable(&entry.path));
                return Ok(());
            }
            Devices::Keep => {}
        }
        let kind = if entry.kind == Kind::CharDevice { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
        let number = makedev(u64::from(entry.device.0), u64::from(entry.device.1));
        let made =
            self.put(dir, name, |dir, name| mknodat(dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, number));
        match made {
            Ok(()) => self.by_name(entry, dir, name),
            Err(Error { errno: Some(errno @ Errno::EPERM), .. }) => {
                self.waive("device nodes not made", "this device node cannot be made", errno, entry)
            }
            Err(error) => Err(error),
        }
    }

    /// `.wh.NAME`, or `.wh..wh..opq`: all that is in the directory.
    fn whiteout(&mut self, dir: &[u8], hidden: &[u8]) -> Result<(), Error> {
        if hidden == b".wh..opq" {
            return match self.tree.names(dir) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
                names => {
                    let names = names.map_err(unwritable)?;
                    self.remove_lower(names.iter().map(|name| join(dir, name)).collect())
                }
            };
        }
        // What the first union file system kept for itself.
        if hidden.starts_with(b".wh.") {
            return Ok(());
        }
        match hidden {
            b"" | b"." | b".." => Err(Error::new("is a whiteout that names no file")),
            _ => self.remove_lower(vec![join(dir, hidden)]),
        }
    }

    /// Removes what earlier layers have brought, and leaves what this one has.
    fn remove_lower(&mut self, mut paths: Vec<Vec<u8>>) -> Result<(), Error> {
        while let Some(path) = paths.pop() {
            let Some((dir, name)) = split(&path).map_err(Error::new)? else { continue };
            if !self.written.contains(&path) {
                self.tree.clear(&dir, &name).map_err(unwritable)?;
                self.forget(&path);
            } else if self.tree.is_directory(&dir, &name) {
                let names = self.tree.names(&path).map_err(unwritable)?;
                paths.extend(names.iter().map(|name| join(&path, name)));
            }
        }
        Ok(())
    }

    /// Directories that are gone have no mode.
    fn forget(&mut self, path: &[u8]) {
        let inside = join(path, b"");
        if let Some(gone) = self.directories.get_mut(path) {
            *gone = None;
        }
        let below = self.directories.range_mut(inside.clone()..);
        below.take_while(|(known, _)| known.starts_with(&inside)).for_each(|(_, gone)| *gone = None);
    }

    fn parent(&mut self, dir: &[u8]) -> Result<BorrowedFd<'_>, Error> {
        let mut length = 0;
        let Self { tree, directories, budget, .. } = self;
        let fd = tree.directory(dir, &mut |made| {
            length += made.len();
            directories.insert(made.to_vec(), Some(PLAIN));
        })?;
        budget.take_name(length)?;
        Ok(fd)
    }

    /// Makes something at a name. What is there already is removed first: later entries replace earlier ones, and
    /// nothing is ever written through them.
    fn put<T>(
        &mut self,
        dir: &[u8],
        name: &[u8],
        make: impl Fn(BorrowedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make(self.parent(dir)?, name) {
            Err(Errno::EEXIST) => {
                self.tree.clear(dir, name).map_err(unwritable)?;
                self.forget(&join(dir, name));
                make(self.parent(dir)?, name).map_err(unwritable)
            }
            other => other.map_err(unwritable),
        }
    }

    /// Owner, mode and time of what has no descriptor.
    fn by_name(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<(), Error> {
        for (name, _) in &entry.xattrs {
            self.notes.add(report::ATTRIBUTE, || attribute(entry, name));
        }
        let parent = self.parent(dir)?.try_clone_to_owned().map_err(|error| from_io(&error))?;
        self.own(parent.as_fd(), name, entry)?;
        if entry.kind != Kind::Symlink {
            // No link: we have just made it, in a tree that nobody else can reach.
            let mode = Mode::from_bits_truncate(self.mode(entry));
            fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink).map_err(unwritable)?;
        }
        let (accessed, modified) = times(entry.mtime);
        utimensat(&parent, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink).map_err(unwritable)
    }

    fn mode(&mut self, entry: &Entry) -> u32 {
        let mode = entry.mode & 0o7777;
        if mode & PRIVILEGE == 0 || self.options.keep_setuid {
            return mode;
        }
        self.notes.add(report::PRIVILEGE, || printable(&entry.path));
        mode & !PRIVILEGE
    }

    /// Gives the owner to `name` in `at`, or to `at` itself.
    fn own(&mut self, at: BorrowedFd, name: &[u8], entry: &Entry) -> Result<(), Error> {
        // The largest number means “leave as it is” (chown(2)): the file would stay ours.
        let id = |id: u64, what: &str| match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(Error::new(format!("has the {what} {id}, which is no {what}"))),
        };
        let (uid, gid) = (id(entry.uid, "owner")?, id(entry.gid, "group")?);
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        match fchownat(at, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags) {
            // EINVAL: this user namespace does not have the number.
            Err(errno @ (Errno::EPERM | Errno::EINVAL)) => {
                let what = format!("its owner {uid}:{gid} cannot be kept");
                self.waive("owners not kept", &what, errno, entry)
            }
            other => other.map_err(unwritable),
        }
    }

    fn attributes(&mut self, fd: BorrowedFd, entry: &Entry) -> Result<(), Error> {
        for (name, value) in &entry.xattrs {
            // trusted.* and user.overlay.* steer overlayfs, security.* the kernel: not for an archive to say.
            let kept = match name.as_slice() {
                b"security.capability" if entry.kind == Kind::File && !self.options.keep_setuid => {
                    self.notes.add(report::PRIVILEGE, || printable(&entry.path));
                    continue;
                }
                b"security.capability" => entry.kind == Kind::File,
                b"system.posix_acl_access" | b"system.posix_acl_default" => true,
                name => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
            };
            let text = CString::new(name.as_slice()).ok().filter(|_| kept);
            let Some(text) = text else {
                self.notes.add(report::ATTRIBUTE, || attribute(entry, name));
                continue;
            };
            if let Err(errno) = xattr::set(fd, &text, value) {
                let what = format!("its attribute {} cannot be kept", printable(name));
                self.waive("extended attributes not kept", &what, errno, entry)?;
            }
        }
        Ok(())
    }

    /// What cannot be kept is an error, unless the user said that it need not be.
    fn waive(&mut self, kind: &'static str, what: &str, errno: Errno, entry: &Entry) -> Result<(), Error> {
        if self.options.best_effort {
            self.notes.add(kind, || format!("{}: {}", printable(&entry.path), errno.desc()));
            return Ok(());
        }
        Err(Error::new(what)
            .errno(errno)
            .try_this("unpack as root, or with --best-effort, which leaves out what this user may not do"))
    }

    /// Sets what had to wait, and gives what was left out.
    pub(super) fn finish(self) -> Result<Notes, Error> {
        // Backwards: what is inside comes before what it is inside of.
        for (path, directory) in self.directories.iter().rev() {
            let Some(directory) = directory else { continue };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let fail =
                |errno| Error::new(format!("entry {}: cannot be written", printable(path))).errno(errno);
            let fd = match open_in(self.tree.root(), path, flags) {
                // Replaced since, under another spelling of its name.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                other => other.map_err(fail)?,
            };
            fchmod(&fd, Mode::from_bits_truncate(directory.mode)).map_err(fail)?;
            if let Some(mtime) = directory.mtime {
                let (accessed, modified) = times(mtime);
                futimens(&fd, &accessed, &modified).map_err(fail)?;
            }
        }
        Ok(self.notes)
    }
}

fn described(entry: &Entry) -> Directory {
    Directory { mode: entry.mode & 0o7777, mtime: Some(entry.mtime) }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, name].join(&b'/') }
}

fn attribute(entry: &Entry, name: &[u8]) -> String {
    format!("{} of {}", printable(name), printable(&entry.path))
}

/// The time of the last access is left alone.
fn times(mtime: (i64, i64)) -> (TimeSpec, TimeSpec) {
    (TimeSpec::UTIME_OMIT, TimeSpec::new(mtime.0, mtime.1))
}

fn unwritable(errno: Errno) -> Error {
    Error::new("cannot be written").errno(errno)
}

fn io_unwritable(error: &std::io::Error) -> Error {
    unwritable(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}
