//! What a service manager and its service say to each other (sd_notify(3), sd_listen_fds(3)), passed through.
//!
//! The manager listens to the process that it started, which is rcon (`NotifyAccess=main`), and may not be
//! reachable from the cage. So the command gets a socket of ours, and what it says there we say on. The socket
//! has an abstract name: it is no file that could stay behind, and it is in the network namespace of the command.

use std::ffi::{CString, OsStr, OsString};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket, socketpair,
};

use crate::error::Error;
use crate::guardian;
use crate::sys::message;

/// What the caller's environment says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `NOTIFY_SOCKET`, where it is one that we can speak to.
    pub manager: Option<OsString>,
    /// Descriptors from 3 on that are passed to us.
    pub listen: i32,
    /// `LISTEN_PID` or `WATCHDOG_PID` is our number.
    pub names_us: bool,
}

/// Messages to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The manager's socket: a path, or `@` and a name.
    pub manager: OsString,
    /// The name of ours, with a NUL at both ends: the first makes it abstract (unix(7)).
    pub name: Vec<u8>,
    /// The child makes it, in its own network namespace.
    pub inside: bool,
    /// Who may speak, where others could: user ids as we see them.
    pub speakers: Vec<u32>,
}

/// Variables that hold the number of the process that they are meant for.
pub const PID_VARIABLES: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

impl Facts {
    /// Reads the environment.
    #[must_use]
    pub fn read(pid: u32) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let manager = manager();
        let listens = number("LISTEN_PID") == Some(pid);
        let count = number("LISTEN_FDS").and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        Self {
            manager,
            listen: if listens { count.min(1024) } else { 0 },
            names_us: listens || number("WATCHDOG_PID") == Some(pid),
        }
    }

    /// Is there anything to do?
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.manager.is_some() || self.names_us
    }

    /// What comes into the command's environment. The numbers are put in by the child, which alone knows its own.
    #[must_use]
    pub fn variables(&self, relay: Option<&Relay>) -> Vec<(OsString, OsString)> {
        let name = relay.and_then(|relay| relay.name.strip_prefix(b"\0"));
        name.map(|name| ("NOTIFY_SOCKET".into(), OsString::from_vec([b"@", name].concat())))
            .into_iter()
            .collect()
    }
}

/// The address of the manager.
fn address(manager: &OsStr) -> Result<UnixAddr, Errno> {
    match manager.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(manager),
    }
}

/// Opens our socket. The child calls the same with its own means.
///
/// # Errors
/// No descriptor is left, or the name is taken.
pub fn open(relay: &Relay) -> Result<OwnedFd, Error> {
    let failed =
        |errno| Error::new("cannot make a socket for the command's messages to its manager").errno(errno);
    let name = relay.name.strip_prefix(b"\0").unwrap_or_default();
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(failed)?;
    nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::PassCred, &true).map_err(failed)?;
    let address = UnixAddr::new_abstract(name).map_err(failed)?;
    nix::sys::socket::bind(fd.as_raw_fd(), &address).map_err(failed)?;
    Ok(fd)
}

/// The socket that the child has made and sent.
#[must_use]
pub fn receive(channel: &OwnedFd) -> Option<OwnedFd> {
    message::receive(channel.as_fd(), &mut [0]).ok()?.fds.into_iter().next()
}

/// Passes on what has come. Never blocks for long.
#[derive(Debug)]
pub struct Speaker {
    relay: Relay,
    front: OwnedFd,
    refused_store: bool,
}

impl Speaker {
    /// Prepares to speak.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(relay: &Relay) -> Result<Self, Error> {
        let failed =
            |errno| Error::new("cannot reach the process that speaks to the service manager").errno(errno);
        let front = guardian::mouth().ok_or(Errno::ENOTCONN).map_err(failed)?;
        Ok(Self { relay: relay.clone(), front, refused_store: false })
    }

    /// Reads all that has come and says it on. Always true: there may be more.
    pub fn pass_on(&mut self, from: &OwnedFd) -> bool {
        // More than the manager takes (PIPE_BUF), so that what it would refuse is refused by it.
        let mut buffer = [0_u8; 8192];
        while let Ok(come) = message::receive(from.as_fd(), &mut buffer) {
            // A name in the abstract space has no owner and no mode.
            let known = come.user.is_some_and(|user| self.relay.speakers.contains(&user));
            if self.relay.inside || known {
                // The kernel gives no more than there is room for.
                let text = buffer.get(..come.length).unwrap_or_default();
                self.say(text, &come.fds, come.cut);
            }
        }
        true
    }

    fn say(&mut self, text: &[u8], fds: &[OwnedFd], cut: bool) {
        let (message, stored) = corrected(text, guardian::front());
        if stored && !self.refused_store {
            self.refused_store = true;
            crate::say(
                "rcon: the command asked its service manager to keep descriptors (FDSTORE=1), which is not passed on: \
                        it would keep what the cage has closed off",
            );
        }
        if message.is_empty() {
            return;
        }
        // A barrier is a descriptor that the manager closes when it has read all that came before.
        let barrier = message == b"BARRIER=1";
        // Without it, it is none. The others lose their descriptors anyway, so it does not matter which have come.
        if barrier && cut {
            return lost(&self.relay.manager, CUT);
        }
        let fds = if barrier { fds } else { &[] };
        match send(&self.front, &message, fds, None) {
            Ok(()) => guardian::announce_speech(),
            Err(errno) => lost(&self.relay.manager, errno.desc()),
        }
    }
}

/// Sends one message, with descriptors, without blocking.
fn send(out: &OwnedFd, message: &[u8], fds: &[OwnedFd], to: Option<&UnixAddr>) -> Result<(), Errno> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &control[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg(out.as_raw_fd(), &[IoSlice::new(message)], control, flags, to).map(drop)
}

/// Why a message was not passed on that has lost descriptors on the way to us.
const CUT: &str = "it had more descriptors than may be open here (ulimit -n)";

fn lost(manager: &OsStr, why: &str) {
    let manager = crate::error::printable(manager.as_bytes());
    crate::say(&format!(
        "rcon: a message of the command did not reach its service manager at {manager}: {why}"
    ));
}

/// The front's part: the manager listens to the process that it started, so that one must say it.
#[derive(Debug)]
pub struct Mouth {
    manager: OsString,
    from: OwnedFd,
}

impl Mouth {
    /// The front's end and the keeper's, where there is a manager to speak to.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pair() -> Result<Option<(Self, OwnedFd)>, Errno> {
        let Some(manager) = manager() else { return Ok(None) };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (from, keepers) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags)?;
        Ok(Some((Self { manager, from }, keepers)))
    }

    /// Says all that the keeper has sent.
    pub fn speak(&self) {
        let mut buffer = [0_u8; 8192];
        while let Ok(come) = message::receive(self.from.as_fd(), &mut buffer) {
            // Only barriers have descriptors here. (The length is that of what is in the buffer.)
            if come.cut {
                lost(&self.manager, CUT);
            } else if let Err(errno) = self.say(buffer.get(..come.length).unwrap_or_default(), &come.fds) {
                lost(&self.manager, errno.desc());
            }
        }
    }

    fn say(&self, message: &[u8], fds: &[OwnedFd]) -> Result<(), Errno> {
        let to = address(&self.manager)?;
        let out = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        match send(&out, message, fds, Some(&to)) {
            // A manager that is busy gets a moment; one that hangs must not hang us.
            Err(Errno::EAGAIN) => {
                let mut wait = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
                let limit = PollTimeout::from(200_u8);
                poll(&mut wait, limit).and_then(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    send(&out, message, fds, Some(&to))
                })
            }
            other => other,
        }
    }
}

/// `NOTIFY_SOCKET`, where it is one that we can speak to.
fn manager() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|to| matches!(to.as_bytes(), [b'/' | b'@', _, ..]))
}

/// The message as the manager may have it, and whether it asked for descriptors to be stored.
fn corrected(text: &[u8], own: u32) -> (Vec<u8>, bool) {
    let mut stored = false;
    let mut out = Vec::with_capacity(text.len());
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let key = line.split(|b| *b == b'=').next().unwrap_or_default();
        let line = match key {
            b"FDSTORE" => {
                stored = true;
                continue;
            }
            b"FDSTOREREMOVE" | b"FDNAME" | b"FDPOLL" | b"MAINPIDFDID" | b"MAINPIDFD" => continue,
            // A number of the cage means nothing outside, and the process that ends with the command is us.
            b"MAINPID" => format!("MAINPID={own}").into_bytes(),
            _ => line.to_vec(),
        };
        if !out.is_empty() {
            out.push(b'\n');
        }
        out.extend(line);
    }
    (out, stored)
}

/// The name of a relay's socket.
#[must_use]
pub fn name(pid: u32, nonce: u64) -> Vec<u8> {
    [b"\0", format!("rcon-notify-{pid}-{nonce:x}").as_bytes()].concat()
}

/// For an environment that is searched for the numbers.
#[must_use]
pub fn names_pid(entry: &CString, pid: u32) -> bool {
    let Ok(text) = entry.to_str() else { return false };
    text.split_once('=')
        .is_some_and(|(name, value)| PID_VARIABLES.contains(&name) && value.parse() == Ok(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_the_manager_is_taken_out() {
        let passed = |text: &str| {
            let (message, stored) = corrected(text.as_bytes(), 77);
            (String::from_utf8(message).unwrap(), stored)
        };
        assert_eq!(passed("READY=1\nSTATUS=up\n"), ("READY=1\nSTATUS=up".to_owned(), false));
        assert_eq!(passed("MAINPID=2"), ("MAINPID=77".to_owned(), false));
        assert_eq!(passed("FDSTORE=1\nFDNAME=x"), (String::new(), true));
        assert_eq!(passed("FDSTORE=1\nREADY=1"), ("READY=1".to_owned(), true));
        assert_eq!(passed("BARRIER=1"), ("BARRIER=1".to_owned(), false));
    }

    #[test]
    fn numbers_of_ours_are_found() {
        assert!(names_pid(&c"LISTEN_PID=12".to_owned(), 12));
        assert!(!names_pid(&c"LISTEN_PID=13".to_owned(), 12));
        assert!(!names_pid(&c"LISTEN_FDS=12".to_owned(), 12));
    }
}
