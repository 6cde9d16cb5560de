//! The cage: namespaces, a root directory, mounts, and settings of the process. Nothing of it is there, or costs
//! anything, unless it was asked for.
//!
//! [`plan`] is pure; [`child`] does what it says, between the child's birth and the command.

mod abroad;
pub mod birth;
pub mod child;
pub mod copies;
mod devices;
mod facts;
pub mod idmap;
pub mod image_config;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod step;
pub mod trouble;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::notify::Relay;
use crate::order;
use copies::Copies;
use mounts::{Around, Builder, Wanted, Wish};
use namespaces::{Join, Kind, Set};
use step::{Access, CageStep, Root};

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// `--unshare`.
    pub unshare: Set,
    /// `--join`.
    pub joins: Vec<Join>,
    /// `--hostname`.
    pub hostname: Option<CString>,
    /// `--boottime-offset`, in seconds.
    pub boottime: Option<i64>,
    /// `--monotonic-offset`, in seconds.
    pub monotonic: Option<i64>,
    /// The user namespace's maps.
    pub map: idmap::Asked,
    /// `--as-init`.
    pub as_init: bool,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--chroot-only`.
    pub chroot_only: bool,
    /// `--ephemeral`.
    pub ephemeral: bool,
    /// `--ephemeral=DIR`: where the writes are until then.
    pub ephemeral_in: Option<PathBuf>,
    /// `--read-only`, `--ro /`.
    pub read_only: bool,
    /// Mounts, in order.
    pub mounts: Vec<Wish>,
    /// `--chdir`.
    pub chdir: Option<PathBuf>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// `--keep-fd`.
    pub keep: Vec<i32>,
    /// Resource limits, priorities.
    pub settings: Vec<process::Setting>,
    /// `--copy-files=write`: files to copy into the root.
    pub copies: Vec<PathBuf>,
    /// `--keep-changes`: the upper layer of `--ephemeral`, which stays.
    pub keep_changes: Option<PathBuf>,
    /// `--image-config`.
    pub image_config: bool,
}

/// What the machine has to say about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The caller's working directory.
    pub cwd: PathBuf,
    /// What no other run has, for names.
    pub tag: String,
    /// For a user namespace.
    pub ids: idmap::Facts,
    /// The caller may make namespaces and mounts without a user namespace.
    pub privileged: bool,
    /// What droot's file in the root, `/.drootenv`, brings into the environment.
    pub variables: Vec<(OsString, OsString)>,
}

/// What the parent has to do for the child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// All new namespaces.
    pub new: Set,
    /// The maps of a new user namespace.
    pub maps: Option<idmap::Maps>,
    /// Namespaces to open for the child.
    pub joins: Vec<Join>,
    /// The steps into them where the child is born there, because it will have no power over them.
    pub abroad: Vec<CageStep>,
    /// How many descriptors steps leave for each other.
    pub slots: usize,
    /// An init stands between us and the command.
    pub init: bool,
    /// The command's messages to its service manager.
    pub relay: Option<Relay>,
    /// Files to copy into the root first.
    pub copies: Option<Copies>,
    /// Directories of overlays to be made where they are missing: where writes go, and overlayfs's own.
    pub layers: Vec<PathBuf>,
    /// The root, which is marked as in use.
    pub root: Option<PathBuf>,
    /// A place for the writes, and the name of the directory there that goes with the run.
    pub scratch: Option<(PathBuf, String)>,
}

/// The name of a directory of writes that are thrown away begins with this.
pub const SCRATCH: &str = ".rcon-ephemeral-";

impl Birth {
    /// Will the child be in another pid namespace than we are from the beginning?
    #[must_use]
    pub fn is_in_other_pid(&self) -> bool {
        let pid = |step: &CageStep| matches!(step, CageStep::Enter(Kind::Pid, ..));
        self.new.has(Kind::Pid) || self.abroad.iter().any(pid)
    }

    /// Will the command be in another network namespace than we are?
    #[must_use]
    pub fn changes_net(&self) -> bool {
        self.new.has(Kind::Net) || self.joins.iter().any(|join| join.kind == Kind::Net)
    }
}

/// The cage's part of the plan.
#[derive(Clone, Debug, Default)]
pub struct Cage {
    /// For the parent.
    pub birth: Birth,
    /// From the child's birth to the working directory.
    pub enter: Vec<CageStep>,
    /// Resource limits and scheduling.
    pub settings: Vec<CageStep>,
    /// What comes right before signals and exec.
    pub last: Vec<CageStep>,
    /// The root directory as the caller sees it, if the command gets one of its own.
    pub root: Option<PathBuf>,
}

impl Asked {
    /// Is anything of this module asked for?
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self != Self::default()
    }

    /// Something that only a mount namespace makes possible.
    fn wants_mounts(&self) -> bool {
        !self.mounts.is_empty()
            || self.read_only
            || self.ephemeral
            || (self.root.is_some() && !self.chroot_only)
    }

    fn wants_maps(&self) -> bool {
        self.map != idmap::Asked::default()
    }

    /// The namespaces to be made, those that other options imply among them.
    fn new_namespaces(&self, facts: &Facts) -> Set {
        let mut new = self.unshare;
        // Through the /proc/PID/root of a process outside a root process would walk out of its root directory:
        // what --proc shows below --root are the processes of the cage.
        let guarded = self.root.is_some()
            && !self.chroot_only
            && self.mounts.iter().any(|wish| wish.what == Wanted::Proc(false))
            && !self.joins.iter().any(|join| join.kind == Kind::Pid);
        if guarded {
            new.add(Kind::Pid);
        }
        let mut implied = |kind, wanted| {
            if wanted {
                new.add(kind);
            }
        };
        // A pid namespace without a /proc of its own shows the wrong processes.
        let proc = (guarded || self.unshare.has(Kind::Pid)) && !self.chroot_only;
        implied(Kind::Mount, self.wants_mounts() || proc);
        implied(Kind::Uts, self.hostname.is_some());
        implied(Kind::Time, self.boottime.is_some() || self.monotonic.is_some());
        implied(Kind::User, self.wants_maps());
        let any = !new.is_empty() || self.root.is_some();
        if any && !facts.privileged && self.joins.is_empty() {
            new.add(Kind::User);
        }
        new
    }

    fn check(&self, new: Set) -> Result<(), Error> {
        let refuse =
            |option: &str, why: &str, way_out: &str| Err(Error::new(why).option(option).try_this(way_out));
        if self.chroot_only && self.root.is_none() {
            return refuse("--chroot-only", "there is no root to change to", "add --root DIR");
        }
        if self.chroot_only && new.has(Kind::Mount) {
            return refuse(
                "--chroot-only",
                "mounts need a mount namespace, which it does without",
                "leave --chroot-only out: --root then makes one",
            );
        }
        if self.ephemeral && self.root.is_none() {
            return refuse(
                "--ephemeral",
                "an overlay covers one file system, so writes to others below / would stay",
                "name the root whose writes shall be thrown away: --root DIR --ephemeral",
            );
        }
        if self.ephemeral && !self.copies.is_empty() {
            return refuse(
                "--copy-files=write",
                "it would change the root, which --ephemeral is to leave as it is",
                "leave =write out: then the files are bound",
            );
        }
        if self.keep_changes.is_some() && self.ephemeral_in.is_some() {
            return refuse(
                "--keep-changes",
                "it names the place of the writes, and so does --ephemeral=DIR",
                "leave =DIR out, or --keep-changes where they shall be thrown away",
            );
        }
        if self.keep_changes.is_some() && !self.ephemeral {
            return refuse("--keep-changes", "only --ephemeral has changes to keep", "add --ephemeral");
        }
        if !self.copies.is_empty() && self.root.is_none() {
            return refuse("--copy-files=write", "there is no root to copy to", "add --root DIR");
        }
        if self.as_init && !new.has(Kind::Pid) {
            return refuse("--as-init", "there is no pid namespace to be init of", "add --unshare pid");
        }
        for join in &self.joins {
            let option = format!("--join {}", join.kind.name());
            if new.has(join.kind) {
                return refuse(
                    &option,
                    "this kind of namespace is both made new and joined",
                    "do one of them",
                );
            }
            if join.kind == Kind::Mount && self.root.is_some() {
                return refuse(
                    &option,
                    "a root cannot be changed in somebody else's mount namespace",
                    "leave --root out: the command gets the root of the namespace that it joins",
                );
            }
            if new.has(Kind::Pid) && join.kind == Kind::User {
                return refuse(
                    &option,
                    "the user namespace that is joined has no power over a new pid namespace, which is made before",
                    "leave --unshare pid out, or join one of it as well: --join pid=PID",
                );
            }
        }
        Ok(())
    }
}

/// Decides everything about the cage.
///
/// # Errors
/// What cannot be had, naming the option.
pub fn plan(asked: &Asked, facts: &Facts, wait_all: bool, listen: i32) -> Result<Cage, Error> {
    if asked.is_asked() { plan_asked(asked, facts, wait_all, listen) } else { Ok(Cage::default()) }
}

#[inline(never)]
fn plan_asked(asked: &Asked, facts: &Facts, wait_all: bool, listen: i32) -> Result<Cage, Error> {
    let new = asked.new_namespaces(facts);
    asked.check(new)?;
    let mut cage = Cage { root: asked.root.clone(), ..Cage::default() };
    cage.birth.new = new;
    cage.birth.joins.clone_from(&asked.joins);
    if let (Some(root), false) = (&asked.root, asked.copies.is_empty()) {
        cage.birth.copies = Some(Copies { root: root.clone(), files: asked.copies.clone() });
    }
    cage.birth.layers = layers(asked);
    cage.birth.root = asked.root.as_ref().map(|root| facts.cwd.join(root));
    cage.birth.scratch =
        asked.ephemeral_in.as_ref().map(|dir| (facts.cwd.join(dir), format!("{SCRATCH}{}", facts.tag)));
    let steps = &mut cage.enter;
    let mut numbers = Vec::new();
    if new.has(Kind::User) {
        let maps = idmap::plan(&asked.map, &facts.ids)?;
        numbers.push(CageStep::AwaitMaps(maps.words()));
        if maps.become_zero {
            numbers.push(CageStep::BecomeZero);
        }
        cage.birth.maps = Some(maps);
    }
    // Through /proc, which the new root may not have.
    let (early, settings): (Vec<_>, Vec<_>) = asked
        .settings
        .iter()
        .cloned()
        .partition(|setting| matches!(setting, process::Setting::OomScoreAdj(_)));
    numbers.extend(early.into_iter().map(CageStep::Process));
    // Namespaces that ask for no user's number are made while the parent writes the maps.
    if !asked.joins.is_empty() {
        steps.append(&mut numbers);
    }
    cage.settings = settings.into_iter().map(CageStep::Process).collect();
    join(&asked.joins, facts, if new.has(Kind::User) { &mut cage.birth.abroad } else { steps });
    let joins_pid = asked.joins.iter().any(|join| join.kind == Kind::Pid);
    cage.birth.init = joins_pid || (new.has(Kind::Pid) && !asked.as_init);
    if joins_pid {
        // Only a child of whoever joins is in a joined pid namespace (setns(2)).
        steps.extend([CageStep::DieWithParent, CageStep::Init(wait_all)]);
    }
    if new.has(Kind::Cgroup) {
        steps.push(CageStep::NewCgroup);
    }
    if new.has(Kind::Time) {
        steps.push(CageStep::NewTime(offsets(asked)));
    }
    steps.extend(asked.hostname.clone().map(CageStep::Hostname));
    if new.has(Kind::Net) {
        steps.push(CageStep::Loopback);
    }
    steps.append(&mut numbers);
    let caller = c_path(&facts.cwd, "the working directory")?;
    if new.has(Kind::Mount) {
        let taken = cage.birth.maps.as_ref();
        cage.birth.slots = mount_steps(asked, facts, new, taken, steps)?;
    } else if let Some(root) = &asked.root {
        cage.birth.slots = 1;
        steps.push(CageStep::Root(Root::Directory(c_path(&facts.cwd.join(root), "--root")?)));
        steps.push(CageStep::Chroot);
    }
    if new.has(Kind::Pid) {
        steps.push(CageStep::DieWithParent);
        if !asked.as_init {
            steps.push(CageStep::Init(wait_all));
        }
    }
    match &asked.chdir {
        Some(dir) if asked.root.is_some() => steps.push(CageStep::Chdir(c_path(dir, "--chdir")?)),
        Some(dir) => steps.push(CageStep::Chdir(c_path(&facts.cwd.join(dir), "--chdir")?)),
        None if new.has(Kind::Mount) && asked.root.is_none() => steps.push(CageStep::Return(caller)),
        None => {}
    }
    steps.extend(asked.umask.map(CageStep::Umask));
    if asked.root.is_some() {
        let passed = 3..3 + listen;
        let kept = asked.keep.iter().copied().filter(|fd| !passed.contains(fd));
        cage.last.push(CageStep::CloseDescriptors(passed.clone().chain(kept).collect()));
    }
    Ok(cage)
}

/// An ordinary user gets the power to join the others from the user namespace; root would lose it there.
fn join(joins: &[Join], facts: &Facts, steps: &mut Vec<CageStep>) {
    let mut order: Vec<usize> = (0..joins.len()).collect();
    let is_user = |i: &usize| joins.get(*i).is_some_and(|join| join.kind == Kind::User);
    order::sort_by_key(&mut order, |i| is_user(i) == facts.privileged);
    for index in order {
        if let Some(join) = joins.get(index) {
            let path = crate::error::printable(join.path.as_os_str().as_bytes());
            steps.push(CageStep::Enter(join.kind, path, index));
        }
    }
}

fn offsets(asked: &Asked) -> Option<CString> {
    let line = |clock: &str, seconds: Option<i64>| {
        seconds.map_or_else(String::new, |seconds| format!("{clock} {seconds} 0\n"))
    };
    let lines = line("boottime", asked.boottime) + &line("monotonic", asked.monotonic);
    CString::new(lines).ok().filter(|lines| !lines.is_empty())
}

/// From private propagation to the entered root; how many slots that takes.
fn mount_steps(
    asked: &Asked,
    facts: &Facts,
    new: Set,
    maps: Option<&idmap::Maps>,
    steps: &mut Vec<CageStep>,
) -> Result<usize, Error> {
    let tty_group = maps.is_none_or(|maps| {
        maps.groups.iter().any(|range| range.inside <= 5 && 5 - range.inside < range.count)
    });
    let mut builder = Builder::new(Around {
        cwd: &facts.cwd,
        user: new.has(Kind::User),
        pid: new.has(Kind::Pid),
        net: new.has(Kind::Net),
        new_root: asked.root.is_some(),
        tty_group,
    });
    let asks_for_proc = asked.mounts.iter().any(|wish| matches!(wish.what, Wanted::Proc(_)));
    if new.has(Kind::Pid) && !asks_for_proc {
        builder.proc(false, "--unshare pid")?;
    }
    for wish in &asked.mounts {
        builder.add(wish)?;
    }
    let root = match &asked.root {
        None => Root::Own,
        Some(root) => {
            let path = c_path(&facts.cwd.join(root), "--root")?;
            let userxattr = new.has(Kind::User);
            if let Some(upper) = &asked.keep_changes {
                let upper = facts.cwd.join(upper);
                let work = mounts::work_of(&upper);
                let upper = c_path(&upper, "--keep-changes")?;
                let work = c_path(&work, "--keep-changes")?;
                Root::Kept { lower: path, upper, work, userxattr, scratch: false }
            } else if let Some(dir) = &asked.ephemeral_in {
                let scratch = facts.cwd.join(dir).join(format!("{SCRATCH}{}", facts.tag));
                let upper = c_path(&scratch.join("upper"), "--ephemeral")?;
                let work = c_path(&scratch.join("work"), "--ephemeral")?;
                Root::Kept { lower: path, upper, work, userxattr, scratch: true }
            } else if asked.ephemeral {
                Root::Ephemeral { lower: path, userxattr }
            } else {
                Root::Tree(path)
            }
        }
    };
    let own = root == Root::Own;
    steps.push(CageStep::PrivateMounts);
    steps.extend(builder.takes);
    if !own || asked.read_only || !builder.mounts.is_empty() {
        steps.push(CageStep::Root(root));
    }
    if asked.read_only {
        steps.push(CageStep::ReadOnlyBelow);
    }
    steps.extend(builder.mounts);
    if asked.read_only {
        steps.push(CageStep::ReadOnlyRoot);
    }
    steps.push(if own { CageStep::KeepRoot } else { CageStep::EnterRoot });
    Ok(builder.slots)
}

/// Where overlays write, and the directory beside it that overlayfs needs.
fn layers(asked: &Asked) -> Vec<PathBuf> {
    let uppers = asked.mounts.iter().filter_map(|wish| match &wish.what {
        Wanted::Overlay { upper, .. } => upper.as_ref(),
        _ => None,
    });
    uppers.chain(&asked.keep_changes).flat_map(|upper| [upper.clone(), mounts::work_of(upper)]).collect()
}

fn c_path(path: &Path, option: &str) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new("a path holds a NUL byte").option(option))
}

/// Reads a umask: octal digits.
///
/// # Errors
/// What is wrong with it.
pub fn umask(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask @ 0..=0o777) => Ok(mask),
        _ => Err("give octal digits, such as 022".to_owned()),
    }
}

/// `--ro PATH` and `--rw PATH`: the path at itself; `--ro /` is the root as a whole.
///
/// # Errors
/// What is wrong with it.
pub fn at_itself(asked: &mut Asked, value: &OsStr, access: Access, option: String) -> Result<(), String> {
    if value == "/" {
        return match access {
            Access::ReadOnly => {
                asked.read_only = true;
                Ok(())
            }
            Access::AsIs => Err("the root is writable unless something else says so".to_owned()),
        };
    }
    if value.is_empty() {
        return Err("give a path".to_owned());
    }
    let path = PathBuf::from(value);
    let what = Wanted::Bind { source: path.clone(), target: path, access, optional: false };
    asked.mounts.push(Wish { option, what });
    Ok(())
}
