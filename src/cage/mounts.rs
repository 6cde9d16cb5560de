//! Mounts as the user asks for them, and as steps. Pure.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::step::{Access, CageStep, Mount, Take, Target, What};
use crate::error::Error;

/// One mount option, as said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The option as the user spelled it.
    pub option: String,
    /// What it wants.
    pub what: Wanted,
}

/// What a mount option wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A file or directory of the host: source, place, access; if it is missing, nothing.
    Bind {
        /// On the host.
        source: PathBuf,
        /// In the cage.
        target: PathBuf,
        /// How it may be used.
        access: Access,
        /// Leave it out if the source is missing.
        optional: bool,
    },
    /// Memory.
    Tmpfs(PathBuf, Option<u64>),
    /// The minimal /dev.
    Dev,
    /// /proc; true: all of it.
    Proc(bool),
    /// /sys.
    Sys,
    /// Hide a path.
    Mask(PathBuf),
    /// Directories over each other.
    Overlay {
        /// Topmost first.
        lowers: Vec<PathBuf>,
        /// Where.
        target: PathBuf,
        /// `--upper`.
        upper: Option<PathBuf>,
    },
}

/// What decides about the way a mount is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) cwd: &'a Path,
    pub(super) user: bool,
    pub(super) pid: bool,
    pub(super) net: bool,
    pub(super) new_root: bool,
    pub(super) tty_group: bool,
}

/// Splits at colons; `\:` is a colon of a name.
fn split(value: &OsStr) -> Vec<PathBuf> {
    let mut parts = vec![Vec::new()];
    let mut bytes = value.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.peek() == Some(&b':') => {
                bytes.next();
                parts.iter_mut().next_back().into_iter().for_each(|part| part.push(b':'));
            }
            b':' => parts.push(Vec::new()),
            _ => parts.iter_mut().next_back().into_iter().for_each(|part| part.push(byte)),
        }
    }
    parts.into_iter().map(|part| PathBuf::from(OsString::from_vec(part))).collect()
}

fn inside(path: &Path) -> Result<PathBuf, String> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Err(format!("give the absolute path inside the cage, not {:?}", path.display().to_string()))
}

/// Reads `SRC[:DST]`.
///
/// # Errors
/// What is wrong with it.
pub fn bind(value: &OsStr, access: Access) -> Result<Wanted, String> {
    match split(value).as_slice() {
        [source] if !source.as_os_str().is_empty() => {
            Ok(Wanted::Bind { source: source.clone(), target: source.clone(), access, optional: false })
        }
        [source, target] if !source.as_os_str().is_empty() => {
            Ok(Wanted::Bind { source: source.clone(), target: inside(target)?, access, optional: false })
        }
        _ => Err("give SRC or SRC:DST (a colon in a name is written \\:)".to_owned()),
    }
}

/// Reads `DST[:SIZE]`.
///
/// # Errors
/// What is wrong with it.
pub fn tmpfs(value: &OsStr) -> Result<Wanted, String> {
    match split(value).as_slice() {
        [target] => Ok(Wanted::Tmpfs(inside(target)?, None)),
        [target, size] => {
            let size = crate::value::bytes(&size.to_string_lossy())?;
            Ok(Wanted::Tmpfs(inside(target)?, Some(size)))
        }
        _ => Err("give DST or DST:SIZE, such as /tmp:64M".to_owned()),
    }
}

/// Reads `LOWER[:LOWER...]:DST`.
///
/// # Errors
/// What is wrong with it.
pub fn overlay(value: &OsStr) -> Result<Wanted, String> {
    let mut parts = split(value);
    let target = parts.pop().unwrap_or_default();
    if parts.is_empty() || parts.iter().any(|part| part.as_os_str().is_empty()) {
        return Err("give LOWER:DST or LOWER:LOWER:DST, the topmost first".to_owned());
    }
    Ok(Wanted::Overlay { lowers: parts, target: inside(&target)?, upper: None })
}

/// Reads the path of `--mask`.
///
/// # Errors
/// What is wrong with it.
pub fn mask(value: &OsStr) -> Result<Wanted, String> {
    inside(Path::new(value)).map(Wanted::Mask)
}

/// The directory beside an upper layer that overlayfs needs for itself.
pub(super) fn work_of(upper: &Path) -> PathBuf {
    // Without the slash that a shell's completion leaves at the end.
    let mut work = upper.components().as_path().as_os_str().to_owned();
    work.push(".work");
    PathBuf::from(work)
}

/// Makes the steps of all wishes: what is taken from the host comes first, before anything is mounted over it.
pub(super) struct Builder<'a> {
    around: Around<'a>,
    /// The next free slot; the root has the first.
    pub(super) slots: usize,
    pub(super) takes: Vec<CageStep>,
    pub(super) mounts: Vec<CageStep>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(around: Around<'a>) -> Self {
        Self { around, slots: 1, takes: Vec::new(), mounts: Vec::new() }
    }

    fn take(&mut self, path: &Path, access: Access, optional: bool, option: &str) -> Result<usize, Error> {
        let path = CString::new(self.around.cwd.join(path).as_os_str().as_bytes())
            .map_err(|_| Error::new("a path holds a NUL byte").option(option))?;
        let slot = self.slots;
        self.slots += 1;
        self.takes.push(CageStep::Take(Take { path, slot, access, optional, option: option.to_owned() }));
        Ok(slot)
    }

    fn put(&mut self, what: What, target: &Path, option: &str) -> Result<(), Error> {
        // A source without a place goes where it is on the host.
        let target = Target::new(&self.around.cwd.join(target)).ok_or_else(|| {
            Error::new("nothing can be mounted over the root itself this way")
                .option(option)
                .try_this("--root DIR makes another directory the root; --read-only, --ro / and --ephemeral change the root as a whole")
        })?;
        self.mounts.push(CageStep::Mount(Mount { what, target, option: option.to_owned() }));
        Ok(())
    }

    pub(super) fn add(&mut self, wish: &Wish) -> Result<(), Error> {
        let option = wish.option.as_str();
        match &wish.what {
            Wanted::Bind { source, target, access, optional } => {
                let slot = self.take(source, *access, *optional, option)?;
                self.put(What::Tree(slot), target, option)
            }
            Wanted::Tmpfs(target, size) => {
                let size = size.and_then(|size| CString::new(size.to_string()).ok());
                self.put(What::Tmpfs(size, c"1777".to_owned()), target, option)
            }
            Wanted::Dev => {
                self.put(What::Dev { tty_group: self.around.tty_group }, Path::new("/dev"), option)
            }
            Wanted::Proc(full) => self.proc(*full, option),
            Wanted::Sys => {
                let slot = self.take(Path::new("/sys"), Access::ReadOnly, false, option)?;
                let what = if self.around.net { What::Sys(slot) } else { What::Tree(slot) };
                self.put(what, Path::new("/sys"), option)
            }
            Wanted::Mask(target) => self.put(What::Mask, target, option),
            Wanted::Overlay { lowers, target, upper } => {
                if let ([alone], None) = (lowers.as_slice(), upper) {
                    // overlayfs wants two layers. One, with nothing to write to, is what a read-only bind shows.
                    let slot = self.take(alone, Access::ReadOnly, false, option)?;
                    return self.put(What::Tree(slot), target, option);
                }
                let lowers =
                    lowers.iter().map(|path| self.layer(path, option)).collect::<Result<Vec<_>, _>>()?;
                let upper = match upper {
                    None => None,
                    Some(upper) => Some((self.layer(upper, option)?, self.layer(&work_of(upper), option)?)),
                };
                self.put(What::Overlay { lowers, upper, userxattr: self.around.user }, target, option)
            }
        }
    }

    /// overlayfs takes directories that are reachable in the mount namespace, not detached copies.
    fn layer(&mut self, path: &Path, option: &str) -> Result<usize, Error> {
        let path = CString::new(self.around.cwd.join(path).as_os_str().as_bytes())
            .map_err(|_| Error::new("a path holds a NUL byte").option(option))?;
        let slot = self.slots;
        self.slots += 1;
        self.takes.push(CageStep::Layer(path, slot, option.to_owned()));
        Ok(slot)
    }

    /// Without a pid namespace of its own a user namespace may not mount proc: the host's is bound, which shows
    /// the same.
    pub(super) fn proc(&mut self, full: bool, option: &str) -> Result<(), Error> {
        if self.around.user && !self.around.pid {
            let slot = self.take(Path::new("/proc"), Access::AsIs, false, option)?;
            return self.put(What::Tree(slot), Path::new("/proc"), option);
        }
        // In a user namespace what reaches the machine is refused anyway, and a /proc with parts hidden could
        // not be mounted again by a cage within.
        let guarded = self.around.new_root && !self.around.user && !full;
        self.put(What::Proc { guarded }, Path::new("/proc"), option)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_places() {
        let parts = split(OsStr::new("/a\\:b:/c"));
        assert_eq!(parts, [PathBuf::from("/a:b"), PathBuf::from("/c")]);
        assert!(bind(OsStr::new("/a:b"), Access::AsIs).is_err());
        assert!(bind(OsStr::new(""), Access::AsIs).is_err());
        assert!(matches!(tmpfs(OsStr::new("/t:64M")), Ok(Wanted::Tmpfs(_, Some(0x400_0000)))));
        assert!(tmpfs(OsStr::new("/t:much")).is_err());
        let Ok(Wanted::Overlay { lowers, target, .. }) = overlay(OsStr::new("a:b:/d")) else {
            panic!("an overlay of two");
        };
        assert_eq!((lowers.len(), target.to_str()), (2, Some("/d")));
        assert!(overlay(OsStr::new("/d")).is_err());
    }
}
