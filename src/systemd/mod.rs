//! Asking systemd for a scope: a unit around processes that are there already, whose group is then ours to divide.
//!
//! Where systemd is init the tree of groups has one writer (systemd, "Control Group APIs and Delegation"): who wants
//! groups of his own asks for a unit with `Delegate=yes`. A scope of a run's own ends when it is empty, so nothing
//! has to be tidied up, whoever is killed.
//!
//! The client is our own, a handful of calls long. cgroups-rs 0.5.1 has one (`systemd::SystemdClient`), which does not serve:
//! it knows only the system's bus, so no ordinary user gets anything; it returns before the scope is there, and does
//! not tell whether it has come to be; zbus under it runs threads of its own beside a process that forks; and the
//! release binary grows by 1.04 MB (3,023,488 to 4,067,704 bytes) where it is called.
//!
//! By systemd's own socket, as systemctl and systemd-run do it, or where that does not answer by the bus.

pub mod bus;
pub mod wire;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::error::Error;
use crate::host::{below, read_words};
use crate::limits::Controller;
use bus::{Bus, MANAGER_PATH, Socket, Trouble};
use wire::{Kind, Writer};

/// A systemd that could make a scope for this caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// The user's own, rather than the system's.
    pub user: bool,
    /// The group at the top of what it manages.
    pub dir: PathBuf,
    /// What it may pass on.
    pub controllers: BTreeSet<String>,
    /// The limit on tasks that each of its units has if nobody says otherwise.
    pub tasks_max: Option<u64>,
    /// Why it cannot be asked.
    pub silent: Option<String>,
}

/// A scope to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// By the user's systemd.
    pub user: bool,
    /// The slice that it goes in.
    pub slice: String,
    /// The unit that it is stopped with.
    pub part_of: Option<String>,
    /// The command.
    pub description: String,
}

/// Could this be a unit's name? It is read off a directory.
#[must_use]
pub fn is_unit(name: &str) -> bool {
    [".service", ".scope", ".slice"].iter().any(|kind| name.len() > kind.len() && name.ends_with(kind))
        && name.len() < 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
}

impl Manager {
    /// The one to ask, for a caller in a group below `mount`, whose groups these are (nearest first).
    #[must_use]
    pub fn find<'a>(
        root: &Path,
        mount: &Path,
        user: u32,
        mut groups: impl Iterator<Item = &'a Path>,
    ) -> Option<Self> {
        let dir = if user == 0 {
            mount.to_owned()
        } else {
            // systemd's own unit files call it so: user@.service, in the slice of the user.
            let name = format!("user@{user}.service");
            let around = groups.find(|dir| dir.ends_with(&name)).map(Path::to_owned);
            around.unwrap_or_else(|| mount.join(format!("user.slice/user-{user}.slice")).join(name))
        };
        if !below(root, &dir).join("init.scope").is_dir() {
            return None;
        }
        let controllers = read_words(&below(root, &dir).join("cgroup.controllers"));
        Some(Self { user: user != 0, dir, controllers, tasks_max: None, silent: None })
    }

    /// Asks for [`Manager::tasks_max`], and whether `unit` is delegated: whom systemd runs for as an ordinary user
    /// cannot tell from the group, if it is not a recent one (the attribute is `trusted.delegate`, xattr(7)).
    #[must_use]
    pub fn asked(mut self, unit: Option<&str>) -> (Self, bool) {
        let mut bus = match reach(self.user) {
            Ok(bus) => bus,
            Err(trouble) => {
                self.silent = Some(words(&trouble));
                return (self, false);
            }
        };
        match bus.property(MANAGER_PATH, bus::MANAGER, "DefaultTasksMax") {
            Err(trouble) => self.silent = Some(words(&trouble)),
            Ok(message) => {
                let mut values = message.values();
                self.tasks_max = (values.signature() == Ok("t")).then(|| values.long().ok()).flatten();
            }
        }
        let delegated = unit.is_some_and(|unit| is_delegated(&mut bus, unit).unwrap_or(false));
        if let Ok(mut open) = OPEN.lock() {
            *open = Some((self.user, bus));
            IS_OPEN.store(true, Ordering::Relaxed);
        }
        (self, delegated)
    }
}

fn is_delegated(bus: &mut Bus, unit: &str) -> Result<bool, Trouble> {
    let kind = match unit.rsplit('.').next() {
        Some("scope") => "org.freedesktop.systemd1.Scope",
        _ => "org.freedesktop.systemd1.Service",
    };
    let mut body = Writer::default();
    body.text(unit);
    let found = bus.manager("GetUnit", "s", &body)?;
    let answer = bus.property(found.values().text()?, kind, "Delegate")?;
    let mut values = answer.values();
    Ok(values.signature()? == "b" && values.number()? == 1)
}

/// Where a systemd listens, the system's or that of a user: its own socket first, as systemctl has it, which spares each
/// run the bus between; then the bus.
fn sockets(of: Option<u32>, caller: u32) -> [Socket; 2] {
    let (bus, own) = if let Some(user) = of {
        // Where pam_systemd(8) makes it, also for a caller whose environment does not say so.
        let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let dir =
            named.filter(|_| user == caller).unwrap_or_else(|| PathBuf::from(format!("/run/user/{user}")));
        (dir.join("bus"), dir.join("systemd/private"))
    } else {
        ("/run/dbus/system_bus_socket".into(), "/run/systemd/private".into())
    };
    [Socket { path: own, direct: true, owner: of }, Socket { path: bus, direct: false, owner: of }]
}

/// The connection (to a user's systemd or not) over which was asked what the plan needs, kept for the scope that it
/// may lead to: being introduced costs systemd more than an answer.
static OPEN: Mutex<Option<(bool, Bus)>> = Mutex::new(None);
/// There was one: to look there would write to a page that a run does not need otherwise.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Closes the connection that was kept: the plan asks for no scope. Else what systemd tells everybody would gather in
/// it for as long as the run lasts.
pub fn hang_up() {
    if IS_OPEN.load(Ordering::Relaxed) {
        drop(OPEN.lock().ok().and_then(|mut open| open.take()));
    }
}

fn reach(users: bool) -> Result<Bus, Trouble> {
    let open = OPEN.lock().ok().and_then(|mut open| open.take());
    if let Some((_, mut bus)) = open.filter(|(of_users, _)| *of_users == users) {
        bus.renew();
        return Ok(bus);
    }
    connect(users.then(|| nix::unistd::geteuid().as_raw()))
}

fn connect(of: Option<u32>) -> Result<Bus, Trouble> {
    let caller = nix::unistd::geteuid().as_raw();
    let [own, bus] = sockets(of, caller);
    Bus::connect(&own, caller).or_else(|_| Bus::connect(&bus, caller))
}

fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Silent(why) => format!("systemd's bus cannot be reached ({why})"),
        Trouble::Refused(_, why) => format!("systemd refuses ({})", crate::error::printable(why.as_bytes())),
    }
}

/// Has systemd give a scope that it has made for a run one more controller: it gives what the unit's properties need.
/// Those named here are set to what holds without them.
///
/// # Errors
/// systemd's; a controller that it does not know.
pub fn give(scope: &Path, controller: Controller) -> Result<(), Error> {
    // systemd's own unit files call a user's systemd so, with a number; what has none is the system's, or nobody's, and
    // the one that is asked then says that it knows no such unit.
    let of_user = |part: &OsStr| part.to_str()?.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok();
    let user: Option<u32> = scope.iter().find_map(of_user);
    // One that is no text is none of systemd's: it refuses the name.
    let unit = scope.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let cannot = |why: String| {
        Error::new(format!("{unit} has not been given the {} controller: {why}", controller.name()))
    };
    let (property, is_weight) = match controller {
        Controller::Cpu => ("CPUWeight", true),
        Controller::Io => ("IOWeight", true),
        Controller::Memory => ("MemoryAccounting", false),
        Controller::Pids => ("TasksAccounting", false),
        _ => {
            return Err(cannot("it was not asked for when the run was started".to_owned())
                .try_this("start the run with a limit of that kind"));
        }
    };
    let mut body = Writer::default();
    body.text(unit);
    // Not beyond the unit's life.
    body.truth(true);
    body.array(8, |out| match is_weight {
        true => out.property(property, "t", |out| out.long(100)),
        false => out.property(property, "b", |out| out.truth(true)),
    });
    connect(user)
        .and_then(|mut bus| bus.manager("SetUnitProperties", "sba(sv)", &body))
        .map(drop)
        .map_err(|trouble| cannot(words(&trouble)))
}

impl Scope {
    /// Makes it, of this name, around these processes, with these controllers for us to pass on. They are in it when
    /// this returns.
    ///
    /// # Errors
    /// systemd's; EEXIST where the name is taken.
    pub fn start(&self, unit: &str, processes: &[u32], controllers: &[Controller]) -> Result<(), Error> {
        let failed = |trouble: Trouble| {
            let error = Error::new(format!("no scope {unit}: {}", words(&trouble)));
            match trouble {
                Trouble::Refused(name, _) if name.ends_with(".UnitExists") => error.errno(Errno::EEXIST),
                _ => error.try_this(format!(
                    "systemd-run {}--scope -p Delegate=yes rcon ...",
                    if self.user { "--user " } else { "" }
                )),
            }
        };
        let result = self.started(&self.request(unit, processes, controllers)).map_err(failed)?;
        if result == "done" {
            return Ok(());
        }
        Err(Error::new(format!("no scope {unit}: systemd's job for it ended as {result:?}"))
            .try_this(format!("journalctl {}-u {unit}", if self.user { "--user " } else { "" })))
    }

    fn started(&self, request: &Writer) -> Result<String, Trouble> {
        let mut bus = reach(self.user)?;
        bus.listen()?;
        let answer = bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", request)?;
        let job = answer.values().text()?.to_owned();
        loop {
            let signal = bus.signal()?;
            let mut values = signal.values();
            if signal.kind == Kind::Signal("JobRemoved".to_owned())
                && values.number().is_ok()
                && values.text() == Ok(job.as_str())
            {
                values.text()?;
                return Ok(values.text()?.to_owned());
            }
        }
    }

    /// org.freedesktop.systemd1(5), StartTransientUnit: name, mode, properties, other units.
    fn request(&self, unit: &str, processes: &[u32], controllers: &[Controller]) -> Writer {
        let mut body = Writer::default();
        body.text(unit);
        body.text("fail");
        body.array(8, |out| {
            out.property("Description", "s", |out| out.text(&self.description));
            out.property("Slice", "s", |out| out.text(&self.slice));
            out.property("PIDs", "au", |out| {
                out.array(4, |out| processes.iter().for_each(|pid| out.number(*pid)));
            });
            // Only those that the run needs: for each other one (`Delegate=yes` means all) systemd has all units beside
            // this one count and share by it for as long as the scope is there, and takes twice as long.
            out.property("DelegateControllers", "as", |out| {
                out.array(4, |out| controllers.iter().for_each(|controller| out.text(controller.name())));
            });
            // One that has failed is forgotten as well, or it would stay in lists and hold its name.
            out.property("CollectMode", "s", |out| out.text("inactive-or-failed"));
            if let Some(other) = &self.part_of {
                out.property("PartOf", "as", |out| out.array(4, |out| out.text(other)));
            }
        });
        body.array(8, |_| ());
        body
    }
}
