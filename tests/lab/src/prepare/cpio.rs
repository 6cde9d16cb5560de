//! An archive that the kernel unpacks as the initial RAM file system: "newc" cpio
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Several of them may follow one another.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

const DIRECTORY: u32 = 0o040000;
const REGULAR: u32 = 0o100000;
const SYMLINK: u32 = 0o120000;

/// An archive being written. Everything in it is root's.
pub(crate) struct Archive<W: Write> {
    to: W,
    inode: u32,
    directories: BTreeSet<PathBuf>,
}

impl Archive<BufWriter<File>> {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufWriter::new(File::create(path)?)))
    }
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, inode: 0, directories: BTreeSet::new() }
    }

    /// A directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let path = Path::new(path);
        if path.parent().is_none() || !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        self.entry(path, DIRECTORY | mode, 0, &mut io::empty())
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents(Path::new(path))?;
        self.entry(Path::new(path), SYMLINK | 0o777, target.len(), &mut target.as_bytes())
    }

    pub(crate) fn text(&mut self, path: &str, mode: u32, text: &[u8]) -> io::Result<()> {
        self.parents(Path::new(path))?;
        self.entry(Path::new(path), REGULAR | mode, text.len(), &mut &text[..])
    }

    /// A file of this machine, under another name.
    pub(crate) fn file(&mut self, path: &str, mode: u32, from: &Path) -> io::Result<()> {
        self.parents(Path::new(path))?;
        let mut file = File::open(from)?;
        let size = file.metadata()?.len() as usize;
        self.entry(Path::new(path), REGULAR | mode, size, &mut file)
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(Path::new("/TRAILER!!!"), 0, 0, &mut io::empty())?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(Path::to_str) {
            Some(parent) => self.directory(parent, 0o755),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, size: usize, content: &mut dyn Read) -> io::Result<()> {
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        self.inode += 1;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let length = name.len() + 1;
        let (inode, size32) = (self.inode, u32::try_from(size).map_err(io::Error::other)?);
        write!(self.to, "070701{inode:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{size32:08X}", 0, 0, 0)?;
        write!(self.to, "{:08X}{:08X}{:08X}{:08X}{length:08X}{:08X}{name}\0", 0, 0, 0, 0, 0)?;
        self.pad(110 + length)?;
        let copied = io::copy(&mut content.take(size as u64), &mut self.to)?;
        if copied != size as u64 {
            return Err(io::Error::other(format!("{name} has changed while it was read")));
        }
        self.pad(size)
    }

    /// Headers and contents each end on a multiple of four.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_aligned_and_parents_come_first() {
        let mut archive = Archive::new(Vec::new());
        archive.text("/a/b/file", 0o644, b"12345").expect("write");
        archive.symlink("/a/link", "b/file").expect("write");
        let bytes = archive.finish().expect("finish");
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let place = |name: &str| text.find(name).unwrap_or_else(|| panic!("no {name:?}"));
        assert!(place("a\0") < place("a/b\0") && place("a/b\0") < place("a/b/file\0"));
        assert_eq!(text.matches("070701").count(), 5, "a, a/b, the file, the link and the trailer");
    }
}
