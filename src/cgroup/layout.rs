//! Which cgroup hierarchies this process sees, and where in each it is. Pure: text in, layout out.
//!
//! Sources: proc(5) on `/proc/PID/mountinfo` and `/proc/PID/cgroup`, cgroup_namespaces(7).

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::limits::Controller;

/// One hierarchy as seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1: what is mounted together here, by the kernel's names. v2: empty.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The caller's own group, or why it cannot be reached through this mount.
    pub own: Result<PathBuf, String>,
    /// Whether the caller's group is the root of what the mount and the cgroup namespace show. Only on v2 does
    /// it matter whether it is the machine's real root as well; the file system tells.
    pub own_is_mount_root: bool,
    /// Whether the mount is read-only.
    pub read_only: bool,
}

/// All hierarchies. Hybrid is no case of its own: each controller has a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// v1 hierarchies, named ones (`name=systemd`) left out.
    pub v1: Vec<Hierarchy>,
    /// The unified hierarchy.
    pub v2: Option<Hierarchy>,
}

impl Layout {
    /// Reads the two files' contents.
    #[must_use]
    pub fn parse(mountinfo: &[u8], cgroup: &[u8]) -> Self {
        let mut layout = Self::default();
        let mut places = None;
        for line in mountinfo.split(|b| *b == b'\n') {
            let Some(mount) = Mount::parse(line) else { continue };
            if places.get_or_insert_with(|| Places::of(mountinfo)).is_hidden(line) {
                continue;
            }
            match mount.kind {
                b"cgroup2" => {
                    let own = own_path(cgroup, |controllers| controllers.is_empty());
                    let found = hierarchy(&mount, own, Vec::new());
                    // Several mounts may show the same tree; the first through which we are reachable serves.
                    if layout.v2.as_ref().is_none_or(|old| old.own.is_err() && found.own.is_ok()) {
                        layout.v2 = Some(found);
                    }
                }
                b"cgroup" => {
                    let controllers: Vec<String> = mount
                        .super_options
                        .split(|b| *b == b',')
                        .filter_map(|option| std::str::from_utf8(option).ok())
                        .filter(|option| Controller::ALL.iter().any(|c| c.v1_name() == *option))
                        .map(str::to_owned)
                        .collect();
                    let Some(first) = controllers.first() else { continue };
                    let own = own_path(cgroup, |listed| {
                        listed.split(|b| *b == b',').any(|c| c == first.as_bytes())
                    });
                    let found = hierarchy(&mount, own, controllers);
                    match layout.v1.iter_mut().find(|old| old.controllers == found.controllers) {
                        Some(old) if old.own.is_err() && found.own.is_ok() => *old = found,
                        Some(_) => {}
                        None => layout.v1.push(found),
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// The v1 hierarchy that rules `controller`.
    #[must_use]
    pub fn v1_of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.controllers.iter().any(|name| name == controller.v1_name()))
    }

    /// `v1`, `v2`, `hybrid` (both are mounted) or `none`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.v1.is_empty(), self.v2.is_some()) {
            (true, true) => "v2",
            (false, false) => "v1",
            (false, true) => "hybrid",
            (true, false) => "none",
        }
    }
}

/// The fields of a mountinfo line that matter here.
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    read_only: bool,
    kind: &'a [u8],
    super_options: &'a [u8],
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
    fn parse(line: &'a [u8]) -> Option<Self> {
        // Most lines are of other file systems: settle that before anything is copied. The separator is near
        // the end, and no field behind it is a dash.
        let dash = line.windows(3).rposition(|w| w == b" - ")?;
        let mut tail = line.get(dash + 3..)?.split(|b| *b == b' ');
        let kind = tail.next()?;
        if kind != b"cgroup" && kind != b"cgroup2" {
            return None;
        }
        let super_options = tail.nth(1)?;
        let mut head = line.get(..dash)?.split(|b| *b == b' ').skip(3);
        let root = unescape(head.next()?);
        let point = unescape(head.next()?);
        let has = |options: &[u8], what: &[u8]| options.split(|b| *b == b',').any(|option| option == what);
        let read_only = has(head.next()?, b"ro") || has(super_options, b"ro");
        Some(Self { root, point, read_only, kind, super_options })
    }
}

/// Where every mount is: its number, that of the mount it stands in, and the path, as the kernel escapes it.
struct Places<'a>(Vec<(&'a [u8], &'a [u8], &'a [u8])>);

impl<'a> Places<'a> {
    fn of(mountinfo: &'a [u8]) -> Self {
        Self(mountinfo.split(|b| *b == b'\n').filter_map(Self::place).collect())
    }

    fn place(line: &'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let mut fields = line.split(|b| *b == b' ');
        Some((fields.next()?, fields.next()?, fields.nth(2)?))
    }

    /// Does the path of this mount lead to another one: one on top of it, or one over a directory above?
    fn is_hidden(&self, line: &'a [u8]) -> bool {
        let Some((own, ..)) = Self::place(line) else { return false };
        let mut next = Self::place(line);
        // No deeper than there are mounts.
        for _ in &self.0 {
            let Some((id, parent, point)) = next.filter(|(id, parent, _)| id != parent) else { return false };
            let covers = |other: &(&[u8], &[u8], &[u8])| {
                let (other, inside, at) = *other;
                let on_top = id == own && inside == own && at == point;
                let above = inside == parent && is_at_or_below(point, at);
                other != id && other != parent && (on_top || above)
            };
            if self.0.iter().any(covers) {
                return true;
            }
            next = self.0.iter().find(|(one, ..)| *one == parent && *one != id).copied();
        }
        false
    }
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || top == b"/")
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// The path in `/proc/self/cgroup` (`hierarchy-id:controllers:path`) of the line whose controllers match.
fn own_path(cgroup: &[u8], matches: impl Fn(&[u8]) -> bool) -> Option<&Path> {
    cgroup.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |b| *b == b':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        matches(controllers).then(|| Path::new(OsStr::from_bytes(path)))
    })
}

fn hierarchy(mount: &Mount, own: Option<&Path>, controllers: Vec<String>) -> Hierarchy {
    let relative = own.ok_or_else(|| "/proc/self/cgroup does not list it".to_owned()).and_then(|own| {
        let outside = |path: &Path| path.components().any(|c| c == std::path::Component::ParentDir);
        if outside(own) {
            return Err(format!("the caller's group {} is outside of its cgroup namespace", own.display()));
        }
        own.strip_prefix(&mount.root).map_err(|_| {
            format!("the mount shows {}, the caller's group is {}", mount.root.display(), own.display())
        })
    });
    Hierarchy {
        controllers,
        mount: mount.point.clone(),
        own_is_mount_root: relative.as_ref().is_ok_and(|path| path.as_os_str().is_empty()),
        own: relative.map(|path| {
            if path.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(path) }
        }),
        read_only: mount.read_only,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_each_controller_has_its_place() {
        let mountinfo = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let cgroup = b"4:memory:/a b/c\n2:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/x\n";
        let layout = Layout::parse(mountinfo, cgroup);
        assert_eq!(layout.name(), "hybrid");
        assert_eq!(layout.v1.len(), 2);
        let memory = layout.v1_of(Controller::Memory).unwrap();
        assert_eq!(memory.own, Ok(PathBuf::from("/sys/fs/cgroup/memory/a b/c")));
        assert!(memory.read_only);
        let cpu = layout.v1_of(Controller::Cpu).unwrap();
        assert_eq!(cpu.own, Ok(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(cpu.controllers, ["cpu", "cpuacct"]);
        assert!(cpu.own_is_mount_root);
        assert_eq!(layout.v2.unwrap().own, Ok(PathBuf::from("/sys/fs/cgroup/unified/x")));
    }

    #[test]
    fn a_bind_mounted_subtree_and_octal_escapes() {
        let mountinfo = b"9 8 0:9 /docker/a\\040b /sys/fs/cg\\134x ro - cgroup2 cgroup rw,nsdelegate\n";
        let layout = Layout::parse(mountinfo, b"0::/docker/a b/in\n");
        let v2 = layout.v2.unwrap();
        assert_eq!(v2.own, Ok(PathBuf::from("/sys/fs/cg\\x/in")));
        assert!(v2.read_only);
        let outside = Layout::parse(mountinfo, b"0::/docker/other\n").v2.unwrap();
        assert!(outside.own.unwrap_err().contains("/docker/other"));
        let above = Layout::parse(mountinfo, b"0::/../x\n").v2.unwrap();
        assert!(above.own.unwrap_err().contains("outside of its cgroup namespace"));
    }

    #[test]
    fn what_is_mounted_over_is_not_there() {
        let under = "20 1 8:1 / / rw - ext4 d rw\n21 20 0:5 / /sys rw - sysfs s rw\n22 21 0:6 / /sys/fs/cgroup rw - cgroup2 c rw\n";
        let own = |more: &str| {
            let layout = Layout::parse(format!("{under}{more}").as_bytes(), b"0::/other\n");
            layout.v2.map(|v2| v2.own.is_ok())
        };
        assert_eq!(own(""), Some(true));
        assert_eq!(own("30 22 0:7 / /sys/fs/cgroup rw - tmpfs t rw\n"), None);
        assert_eq!(own("30 20 0:7 / /sys rw - tmpfs t rw\n"), None, "both in the root, later on top");
        assert_eq!(own("30 21 0:7 / /sys/fs rw - tmpfs t rw\n"), None);
        assert_eq!(own("30 22 0:6 /own /sys/fs/cgroup rw - cgroup2 c rw\n"), Some(false));
        assert_eq!(own("30 22 0:6 /other /sys/fs/cgroup rw - cgroup2 c rw\n"), Some(true));
        assert_eq!(
            own("30 20 0:7 / /sy rw - tmpfs t rw\n31 22 0:7 / /sys/fs/cgroup/x rw - tmpfs t rw\n"),
            Some(true)
        );
        // The root, mounted last, on top of what the kernel began with.
        assert_eq!(own("1 1 0:2 / / rw - rootfs r rw\n"), Some(true));
    }

    #[test]
    fn the_mount_that_reaches_us_wins_over_one_that_does_not() {
        let mountinfo =
            b"9 8 0:9 /other /mnt rw - cgroup2 c rw\n10 8 0:9 / /sys/fs/cgroup rw - cgroup2 c rw\n";
        let layout = Layout::parse(mountinfo, b"0::/me\n");
        assert_eq!(layout.v2.unwrap().own, Ok(PathBuf::from("/sys/fs/cgroup/me")));
        assert_eq!(Layout::parse(b"", b"").name(), "none");
        assert_eq!(Layout::parse(b"garbage\n - \n1 2 - cgroup2\n", b"x\n0:\n").name(), "none");
    }
}
