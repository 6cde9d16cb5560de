//! The parent's side of the cage's making: pipes and namespaces opened before the child is born, the maps
//! written while it waits.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{Gid, Pid, Uid, fchown, fchownat, pipe2};

use super::Birth;
use super::child::Tools;
use crate::error::{Error, printable};
use crate::notify::Speaker;
use crate::scratch::Scratch;
use crate::supervise::Other;
use crate::sys;
use crate::sys::stops::{Stop, told};

/// The parent's ends, and what the child needs.
#[derive(Default)]
#[allow(missing_debug_implementations)] // descriptors say nothing to a reader
pub struct Midwife {
    /// For the child.
    pub tools: Tools,
    joins: Vec<OwnedFd>,
    barrier: Option<(OwnedFd, OwnedFd)>,
    /// The init's news; a second descriptor of ours for the supervisor.
    news: Option<(News, OwnedFd)>,
    /// Where writes go that are thrown away afterwards.
    scratch: Option<Scratch>,
    /// The root directory, and where overlays write, with locks that say that they are in use.
    in_use: Vec<OwnedFd>,
    /// Our socket for messages to a service manager, or the channel through which the child sends its own.
    relay: Option<(Speaker, OwnedFd, Option<OwnedFd>)>,
}

/// What the supervisor gets.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Where the command's end comes from, behind an init.
    pub news: Option<News>,
    /// What else to watch.
    pub others: Vec<Other>,
    /// What is held as long as the run lasts.
    pub held: Held,
}

/// What is held as long as a run lasts, and let go of by being dropped.
#[derive(Debug, Default)]
#[allow(dead_code)] // it is there to be there
pub struct Held(Option<Scratch>, Vec<OwnedFd>);

impl Midwife {
    /// Opens what the child will need.
    ///
    /// # Errors
    /// A namespace to join that is not there; no descriptors left.
    pub fn prepare(birth: &Birth) -> Result<Self, Error> {
        let mut midwife = Self::default();
        if *birth == Birth::default() {
            return Ok(midwife);
        }
        if let Some(copies) = &birth.copies {
            copies.make()?;
        }
        if let Some(root) = &birth.root
            && let Ok(dir) = crate::cgroup::open_dir(root)
        {
            // For rcon image unpack --keep. A root that cannot be opened is told of by the child; a file system
            // without locks, or somebody else's lock, keeps nobody from running.
            midwife.in_use.extend(sys::try_lock(dir.as_fd(), false).is_ok().then_some(dir));
        }
        if let Some((place, name)) = &birth.scratch {
            midwife.scratch = Some(scratch(place, name, birth)?);
        }
        for dir in &birth.layers {
            match std::fs::create_dir(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::new(format!("cannot make the directory {}", dir.display()))
                        .errno(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
                        .option("--upper or --keep-changes"));
                }
                _ => {}
            }
            // Of two overlays that write to one directory the kernel says that anything may happen.
            if let Ok(open) = crate::cgroup::open_dir(dir) {
                match sys::try_lock(open.as_fd(), true) {
                    Ok(()) => midwife.in_use.push(open),
                    Err(Errno::EWOULDBLOCK) => {
                        return Err(Error::new(format!(
                            "an overlay of another run writes to {}",
                            dir.display()
                        ))
                        .errno(Errno::EBUSY)
                        .option("--upper or --keep-changes")
                        .try_this("wait for its end, or name another directory"));
                    }
                    // A file system without locks keeps nobody from running.
                    Err(_) => {}
                }
            }
        }
        let pipe = |flags| pipe2(flags).map_err(|e| Error::new("cannot make a pipe to the child").errno(e));
        for join in &birth.joins {
            let fd = super::facts::open_namespace(&join.path).map_err(|errno| {
                let path = printable(join.path.as_os_str().as_encoded_bytes());
                Error::new("cannot open the namespace")
                    .errno(errno)
                    .option(format!("--join {}={path}", join.kind.name()))
                    .try_this("lsns lists namespaces and a process in each")
            })?;
            midwife.joins.push(fd);
        }
        midwife.tools.joins = midwife.joins.iter().map(AsRawFd::as_raw_fd).collect();
        midwife.tools.slots = (0..birth.slots).map(|_| Cell::new(-1)).collect();
        if birth.maps.is_some() {
            let (reader, writer) = pipe(OFlag::O_CLOEXEC)?;
            midwife.tools.barrier = (reader.as_raw_fd(), writer.as_raw_fd());
            midwife.barrier = Some((reader, writer));
        }
        if birth.init {
            // Read only when something is there: never to be waited at.
            let (reader, writer) = pipe(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
            let second = reader.try_clone().map_err(|_| Error::new("no descriptor is left"))?;
            midwife.tools.status = writer.as_raw_fd();
            midwife.news = Some((News { pipe: reader, _other: writer, last: Rc::default() }, second));
        }
        if let Some(relay) = &birth.relay {
            let speaker = Speaker::new(relay)?;
            midwife.relay = Some(if relay.inside {
                let (ours, childs) = socketpair(
                    AddressFamily::Unix,
                    SockType::Datagram,
                    None,
                    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                )
                .map_err(|e| Error::new("cannot make a channel to the child").errno(e))?;
                midwife.tools.relay = Some((childs.as_raw_fd(), relay.name.clone()));
                (speaker, ours, Some(childs))
            } else {
                (speaker, crate::notify::open(relay)?, None)
            });
        }
        Ok(midwife)
    }

    /// Will the supervisor have to watch something of this birth?
    #[must_use]
    pub fn watches(&self) -> bool {
        self.news.is_some() || self.relay.is_some()
    }

    /// Calls `act`, which makes the child, where the child is to be born.
    ///
    /// # Errors
    /// A namespace that cannot be joined.
    pub fn where_it_is_born<T>(&self, birth: &Birth, act: impl FnOnce() -> T) -> Result<T, Error> {
        super::abroad::born_there(birth, &self.joins, act)
    }

    /// The child lives and waits: gives it its maps, and lets it go on.
    ///
    /// # Errors
    /// The maps were refused; the child leaves by itself then.
    pub fn wake(&mut self, birth: &Birth, child: Pid) -> Result<(), Error> {
        if let (Some(maps), Some((reader, writer))) = (&birth.maps, self.barrier.take()) {
            drop(reader);
            maps.write(child)?;
            // The child may have died: its end tells more than this one.
            match nix::unistd::write(writer.as_fd(), b"0") {
                Ok(_) | Err(Errno::EPIPE) => {}
                Err(errno) => return Err(Error::new("cannot wake the child").errno(errno)),
            }
        }
        Ok(())
    }

    /// The command, or the init before it, runs as `pid`: what the supervisor needs to know.
    #[must_use]
    pub fn deliver(self, pid: Pid) -> Delivered {
        let mut delivered = Delivered { held: Held(self.scratch, self.in_use), ..Delivered::default() };
        if let Some((news, second)) = self.news {
            delivered.others.push(news.watched(pid, second));
            delivered.news = Some(news);
        }
        if let Some((mut speaker, socket, channel)) = self.relay {
            let socket = match channel {
                Some(_) => crate::notify::receive(&socket),
                None => Some(socket),
            };
            // None: the child did not get as far, and its failure is told.
            delivered.others.extend(
                socket.map(|fd| Other { fd, ready: Box::new(move |fd: &OwnedFd| speaker.pass_on(fd)) }),
            );
        }
        delivered
    }
}

/// Makes the directories of an overlay's writes: the upper one with owner and mode of the root that it covers,
/// because the command sees those. Leftovers of killed runs go first.
fn scratch(place: &Path, name: &str, birth: &Birth) -> Result<Scratch, Error> {
    let option = || format!("--ephemeral={}", printable(place.as_os_str().as_encoded_bytes()));
    let fail =
        |errno| Error::new("cannot make a directory for the writes there").errno(errno).option(option());
    let dir = crate::cgroup::open_dir(place).map_err(fail)?;
    crate::scratch::sweep(dir.as_fd(), super::SCRATCH, true).map_err(fail)?;
    let scratch = Scratch::new(dir.as_fd(), name).map_err(fail)?.ok_or_else(|| fail(Errno::EEXIST))?;
    let all = Mode::S_IRWXU;
    mkdirat(&scratch.dir, "work", all).and_then(|()| mkdirat(&scratch.dir, "upper", all)).map_err(fail)?;
    let own =
        |name: &str, uid, gid| match fchownat(&scratch.dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // An ordinary user's directory stays its own.
            Err(Errno::EPERM) => Ok(()),
            other => other,
        };
    // Who mounts the overlay has to reach and write them.
    let root = birth.maps.as_ref().filter(|maps| maps.become_zero).map(|maps| Uid::from_raw(maps.outside(0)));
    if root.is_some() {
        own("work", root, None).and_then(|()| own("upper", root, None)).map_err(fail)?;
    }
    if let Some(stat) = birth.root.as_ref().and_then(|root| nix::sys::stat::stat(root).ok()) {
        // An owner that does not exist inside could not write there either.
        if birth.maps.as_ref().is_none_or(|maps| maps.has_user(stat.st_uid)) {
            own("upper", Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))).map_err(fail)?;
        }
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        fchmodat(&scratch.dir, "upper", mode, FchmodatFlags::FollowSymlink).map_err(fail)?;
    }
    if root.is_some() {
        // Last: from here on another user may exchange what is in it.
        fchown(&scratch.dir, root, None).map_err(fail)?;
    }
    Ok(scratch)
}

/// What the init of a pid namespace tells about the command: its own status cannot, as nothing that happens
/// inside kills pid 1 (pid_namespaces(7)).
#[derive(Debug)]
pub struct News {
    pipe: OwnedFd,
    /// The other end, held so that the init's end is one message, that of the signal, and not two.
    _other: OwnedFd,
    last: Rc<Cell<Option<i32>>>,
}

impl News {
    /// For the supervisor's poll: stops with the command as `pid`, the init, would if it could be stopped.
    fn watched(&self, pid: Pid, fd: OwnedFd) -> Other {
        let last = Rc::clone(&self.last);
        let ready = Box::new(move |fd: &OwnedFd| {
            let (stopped, more) = read(fd, &last);
            if let Some(stop) = stopped {
                // Its first child is the command, which may have the terminal in a process group of its own.
                let command = crate::supervise::children_of(pid).first().copied().unwrap_or(pid);
                let then = crate::supervise::stop_with_it(command, stop);
                if crate::guardian::is_alone() {
                    // Stops that were told while we were stopped ourselves are over, or are told again.
                    read(fd, &last);
                }
                for signal in then {
                    match *signal {
                        libc::SIGCONT => crate::supervise::resume_init(pid, stop.number),
                        signal => crate::supervise::signal_child(command, signal),
                    }
                }
            }
            more
        });
        Other { fd, ready }
    }

    /// The command's wait status, after the init has ended with `status`: its own where somebody killed it
    /// before the command ended.
    #[must_use]
    pub fn end(&self, status: i32) -> i32 {
        read(&self.pipe, &self.last);
        self.last.get().unwrap_or(status)
    }
}

/// Reads what has come: the last stop of the command, and whether there may be more.
fn read(pipe: &OwnedFd, last: &Cell<Option<i32>>) -> (Option<Stop>, bool) {
    let mut stopped = None;
    let mut message = [0_u8; 8];
    loop {
        match nix::unistd::read(pipe, &mut message) {
            Ok(8) => {
                let (status, number) = told(message);
                if libc::WIFSTOPPED(status) {
                    stopped = Some(Stop { signal: libc::WSTOPSIG(status), number });
                } else {
                    last.set(Some(status));
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return (stopped, true),
            _ => return (stopped, false),
        }
    }
}
