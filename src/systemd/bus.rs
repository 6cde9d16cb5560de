//! A connection to a message bus, or to systemd itself by its own socket.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::wire::{Call, Garbled, Kind, Message, Writer, length};

/// How long an answer may take, as D-Bus libraries have it. systemd answers in milliseconds, or is busy.
const PATIENCE: Duration = Duration::from_secs(25);

/// Where to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The socket.
    pub path: PathBuf,
    /// systemd's own, as systemctl and systemd-run use: there is no bus in between.
    pub direct: bool,
    /// Whose it must be: what lies in a user's directory may be a link to another one's.
    pub owner: Option<u32>,
}

/// An open connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    direct: bool,
    serial: u32,
    unread: Vec<u8>,
    signals: VecDeque<Message>,
    deadline: Instant,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answers, or nonsense.
    Silent(String),
    /// The answer is a failure: its name, and what it says.
    Refused(String, String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Silent(match error.kind() {
            std::io::ErrorKind::WouldBlock => format!("no answer within {} s", PATIENCE.as_secs()),
            _ => error.to_string(),
        })
    }
}

impl From<Garbled> for Trouble {
    fn from(_: Garbled) -> Self {
        Self::Silent("an answer that is no D-Bus message".to_owned())
    }
}

/// systemd's interface for all of it, and the object that has it (org.freedesktop.systemd1(5)).
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// See [`MANAGER`].
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

impl Bus {
    /// Connects and introduces ourselves.
    ///
    /// # Errors
    /// Nobody listens, or not to us.
    pub fn connect(socket: &Socket, user: u32) -> Result<Self, Trouble> {
        let mut stream = UnixStream::connect(Path::new(&socket.path))?;
        if let Some(owner) = socket.owner
            && getsockopt(&stream, PeerCredentials).map(|peer| peer.uid()) != Ok(owner)
        {
            return Err(Trouble::Silent(format!("{} is not user {owner}'s", socket.path.display())));
        }
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // EXTERNAL: the kernel has told who we are (D-Bus Specification, "Authentication Protocol"). The number is
        // in hexadecimal digits of its decimal digits.
        let who: String = user.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        // BEGIN at once, and the first message only after the answer, as sd-bus does: systemd's own socket forgets a
        // message that it has read together with BEGIN until more comes.
        stream.write_all(format!("\0AUTH EXTERNAL {who}\r\nBEGIN\r\n").as_bytes())?;
        let mut bus = Self {
            stream,
            direct: socket.direct,
            serial: 0,
            unread: Vec::new(),
            signals: VecDeque::new(),
            deadline: Instant::now() + PATIENCE,
        };
        // What has happened in the meantime may come with the line.
        let end = loop {
            if let Some(end) = bus.unread.windows(2).position(|end| end == b"\r\n") {
                break end;
            }
            if bus.unread.len() > 512 {
                return Err(Garbled.into());
            }
            bus.more()?;
        };
        if !bus.unread.starts_with(b"OK ") {
            return Err(Trouble::Silent(format!("user {user} is not let in")));
        }
        bus.unread.drain(..end + 2);
        if !bus.direct {
            bus.dbus("Hello", "", &Writer::default())?;
        }
        Ok(bus)
    }

    /// Lets what the manager tells everybody come to us too.
    ///
    /// # Errors
    /// The answer's.
    pub fn listen(&mut self) -> Result<(), Trouble> {
        if self.direct {
            return Ok(());
        }
        let mut rule = Writer::default();
        rule.text(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"));
        self.dbus("AddMatch", "s", &rule)?;
        self.manager("Subscribe", "", &Writer::default()).map(drop)
    }

    fn dbus(&mut self, member: &str, signature: &str, body: &Writer) -> Result<Message, Trouble> {
        const BUS: &str = "org.freedesktop.DBus";
        self.call(&Call { to: BUS, path: "/org/freedesktop/DBus", interface: BUS, member, signature }, body)
    }

    /// A method of systemd's manager.
    ///
    /// # Errors
    /// The answer's.
    pub fn manager(&mut self, member: &str, signature: &str, body: &Writer) -> Result<Message, Trouble> {
        self.systemd(MANAGER_PATH, MANAGER, member, signature, body)
    }

    /// A property of an object of systemd's.
    ///
    /// # Errors
    /// The answer's.
    pub fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<Message, Trouble> {
        let mut body = Writer::default();
        body.text(interface);
        body.text(name);
        self.systemd(path, "org.freedesktop.DBus.Properties", "Get", "ss", &body)
    }

    fn systemd(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: &Writer,
    ) -> Result<Message, Trouble> {
        // Also where there is nobody else to hear it: systemd answers no call that names nobody.
        self.call(&Call { to: "org.freedesktop.systemd1", path, interface, member, signature }, body)
    }

    fn call(&mut self, call: &Call, body: &Writer) -> Result<Message, Trouble> {
        self.serial += 1;
        let ours = self.serial;
        self.stream.write_all(&call.message(ours, body))?;
        loop {
            let message = self.next()?;
            match &message.kind {
                Kind::Answer(serial) if *serial == ours => return Ok(message),
                Kind::Failure(serial, name) if *serial == ours => {
                    let text = message.values().text().unwrap_or_default().to_owned();
                    return Err(Trouble::Refused(name.clone(), text));
                }
                Kind::Signal(_) => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The next thing that has happened.
    ///
    /// # Errors
    /// Nothing happens.
    pub fn signal(&mut self) -> Result<Message, Trouble> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let message = self.next()?;
            if matches!(message.kind, Kind::Signal(_)) {
                return Ok(message);
            }
        }
    }

    /// For another talk: answers are awaited from now on.
    pub fn renew(&mut self) {
        self.deadline = Instant::now() + PATIENCE;
    }

    fn more(&mut self) -> Result<(), Trouble> {
        let mut buffer = [0_u8; 4096];
        match self.stream.read(&mut buffer)? {
            0 => return Err(Trouble::Silent("it hung up".to_owned())),
            // The kernel gives no more than there is room for.
            n => self.unread.extend(buffer.get(..n).unwrap_or_default()),
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Message, Trouble> {
        loop {
            if let Some(length) = length(&self.unread)?
                && self.unread.len() >= length
            {
                let rest = self.unread.split_off(length);
                let message = Message::parse(&std::mem::replace(&mut self.unread, rest))?;
                return Ok(message);
            }
            // Others' signals may come for ever.
            if Instant::now() > self.deadline {
                return Err(std::io::Error::from(std::io::ErrorKind::WouldBlock).into());
            }
            self.more()?;
        }
    }
}
