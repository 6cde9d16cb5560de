//! What this machine is, as far as the arguments need to know. Read-only: nothing here changes anything, and
//! what no option asks about is not read.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::path::{Path, PathBuf};

use crate::cgroup::layout::{Hierarchy, Layout};
use crate::cgroup::{place, usual};
use crate::cli::Args;
use crate::environment::Change;
use crate::limits::{Controller, Facts, Value};
use crate::order;
use crate::plan::FIGURES;
use crate::systemd::Manager;
use crate::value::Size;
use crate::{disks, error::Error, files, weaker};

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Hierarchies; empty where no group is needed.
    pub layout: Layout,
    /// The caller's v2 group and its ancestors up to the mount's root, nearest first.
    pub v2_chain: Vec<V2Node>,
    /// v1 parents that are not ours to write. Not looked at for root, unless less than all is a choice.
    pub closed: Vec<PathBuf>,
    /// What values are computed from.
    pub facts: Facts,
    /// This process.
    pub pid: u32,
    /// Something that differs between two runs with one process id.
    pub nonce: u64,
    /// The effective user.
    pub user: u32,
    /// The effective user is root.
    pub root: bool,
    /// systemd runs this machine.
    pub systemd: bool,
    /// A systemd that could make a scope for us, where no group of the tree is ours to divide.
    pub manager: Option<Manager>,
    /// `--cgroup-parent`, as said: a path below each hierarchy's mount.
    pub cgroup_parent: Option<PathBuf>,
    /// Directories of the group that `--group` names, where it is there already.
    pub named: Vec<PathBuf>,
    /// Names of runs that live, where one is asked for.
    pub taken: BTreeSet<OsString>,
    /// The caller's environment, where something in it changes.
    pub environment: Vec<CString>,
    /// What the caller may do, where an option asks.
    pub privileges: Option<crate::privileges::Facts>,
    /// What each `--env-file` holds.
    pub env_files: Vec<Vec<Change>>,
    /// What encloses us, for `--hint-env`.
    pub hints: crate::hints::Facts,
    /// For the cage.
    pub cage: crate::cage::Facts,
    /// What a service manager has told us.
    pub notify: crate::notify::Facts,
    /// What stands in for limits that cannot be had, where less than all is a choice.
    pub weaker: Option<weaker::Facts>,
    /// PATH of the caller.
    pub path: Option<OsString>,
}

/// One group of the v2 tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V2Node {
    /// Its directory.
    pub dir: PathBuf,
    /// `cgroup.controllers`: what it may pass on.
    pub controllers: BTreeSet<String>,
    /// `cgroup.subtree_control`: what it passes on.
    pub subtree: BTreeSet<String>,
    /// The machine's real root: no rule about internal processes holds there.
    pub real_root: bool,
    /// May we make groups here and move ourselves within?
    pub writable: bool,
    /// Processes other than ourselves are in it.
    pub others: bool,
    /// Limits that are set on it, as `memory.max=104857600`; read only where a group of ours might leave them.
    pub limits: Vec<String>,
    /// `domain`, `domain threaded`, `threaded`…; the root has none.
    pub kind: String,
    /// systemd has handed this subtree over (`trusted.delegate` or `user.delegate` is 1), or one around it; or there is
    /// no systemd.
    pub delegated: bool,
    /// A systemd sits here, and what is below is its own.
    pub manager: bool,
}

impl V2Node {
    /// The last part of its path; nothing where that is no text.
    #[must_use]
    pub fn name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Can this group have children with these controllers, now or after enabling them?
    #[must_use]
    pub fn can_parent(&self, needed: &[Controller]) -> bool {
        let has = |set: &BTreeSet<String>| needed.iter().all(|c| set.contains(c.name()));
        has(&self.subtree) || (has(&self.controllers) && (self.real_root || !self.others))
    }
}

impl Host {
    /// Reads what `args` needs, below `root` (`/`, but for tests).
    ///
    /// # Errors
    /// An I/O rule's place that is no disk; `/proc` that cannot be read.
    pub fn read(root: &Path, args: &Args) -> Result<Self, Error> {
        let mut host = Self::around(root, args, |host| read_layout(root, args, host.root))?;
        host.manager = host.find_manager(root);
        if (args.best_effort || args.explain.is_some()) && args.needs_group() {
            let counts = |asked: &crate::limits::Asked| asked.limit.controller == Controller::Pids;
            let count = !host.root && args.limits.iter().any(counts) && !host.may_limit_tasks();
            host.weaker = Some(weaker::Facts::read(root, count));
        }
        Ok(host)
    }

    /// Is there a group for tasks that could be ours to divide? Where there is, nobody need be counted.
    fn may_limit_tasks(&self) -> bool {
        match self.layout.v1_of(Controller::Pids) {
            Some(hierarchy) => {
                let parent = self.v1_parent(hierarchy);
                !hierarchy.read_only && parent.is_ok_and(|parent| !self.closed.contains(&parent))
            }
            None => self.manager.is_some() || self.has_a_place(),
        }
    }

    /// Asked only where the tree has no place that could do.
    fn find_manager(&mut self, root: &Path) -> Option<Manager> {
        let hierarchy = self.layout.v2.as_ref().filter(|hierarchy| !hierarchy.read_only)?;
        if !self.systemd || self.cgroup_parent.is_some() || self.v2_chain.is_empty() || self.has_a_place() {
            return None;
        }
        let dirs = self.v2_chain.iter().map(|node| node.dir.as_path());
        let manager = Manager::find(root, &hierarchy.mount, self.user, dirs)?;
        let unit = self.users_unit(&manager);
        // Only where a limit on tasks could be the one that every unit has.
        let counts = |node: &V2Node| node.limits.iter().any(|limit| limit.starts_with("pids.max="));
        if unit.is_none() && !self.v2_chain.iter().any(counts) {
            return Some(manager);
        }
        let name = unit.and_then(|at| self.v2_chain.get(at)).map(V2Node::name);
        let (manager, delegated) = manager.asked(name);
        if let Some(at) = unit.filter(|_| delegated) {
            self.v2_chain.iter_mut().take(at + 1).for_each(|node| node.delegated = true);
        }
        (!self.has_a_place()).then_some(manager)
    }

    /// Is there a group that could be ours to divide?
    fn has_a_place(&self) -> bool {
        let serves =
            |node: &V2Node| node.delegated && node.writable && (!node.others || !node.subtree.is_empty());
        self.v2_chain.iter().any(serves)
    }

    /// Where in the chain the unit of an ordinary user's systemd is that we are in.
    fn users_unit(&self, manager: &Manager) -> Option<usize> {
        let top = self.v2_chain.iter().position(|node| node.dir == manager.dir).filter(|_| manager.user)?;
        let is_unit =
            |node: &V2Node| crate::systemd::is_unit(node.name()) && !node.name().ends_with(".slice");
        self.v2_chain.iter().take(top).rposition(is_unit)
    }

    /// The same, around a place in the hierarchies that need not be the caller's own.
    ///
    /// # Errors
    /// As [`Host::read`].
    pub fn around(
        root: &Path,
        args: &Args,
        layout: impl FnOnce(&Self) -> Result<Layout, Error>,
    ) -> Result<Self, Error> {
        let mut host =
            Self { pid: crate::guardian::front(), nonce: crate::sys::monotonic_ns(), ..Self::default() };
        host.user = nix::unistd::geteuid().as_raw();
        host.root = host.user == 0;
        host.facts.page = crate::sys::page_size();
        host.cgroup_parent.clone_from(&args.cgroup_parent);
        host.path = std::env::var_os("PATH");
        if args.privileges.needs_facts() {
            // The passwd and group files are those of the root directory that the command will have.
            let root = args.cage.root.as_deref().unwrap_or(root);
            host.privileges = Some(crate::privileges::Facts::read(&args.privileges.identity, root)?);
        }
        host.notify = crate::notify::Facts::read(host.pid);
        for change in &args.environment {
            if let Change::File(path) = change {
                host.env_files.push(read_env_file(path)?);
            }
        }
        if args.cage.is_asked() {
            host.cage = crate::cage::Facts::read(root, &args.cage, format!("{}-{:x}", host.pid, host.nonce))?;
        }
        if !args.environment.is_empty() || args.hint_env || host.brings_variables() || host.notify.is_needed()
        {
            host.environment = crate::sys::environment();
        }
        if !args.needs_group() && !args.receipt.counts() && args.explain.is_none() && !args.hint_env {
            return Ok(host);
        }
        host.layout = layout(&host)?;
        if args.hint_env {
            host.hints = crate::hints::Facts::read(root, &host.layout, |controller| host.groups(controller));
        }
        if !args.needs_group() && !args.receipt.counts() {
            return Ok(host);
        }
        // Root makes groups wherever it is.
        if args.best_effort || args.explain.is_some() || !host.root {
            let parents = host.layout.v1.iter().filter_map(|hierarchy| host.v1_parent(hierarchy).ok());
            host.closed = parents.filter(|parent| is_closed(&below(root, parent))).collect();
        }
        if args.control.name.is_some() {
            host.taken = crate::runs::taken()?;
        }
        let asked = |c: Controller| args.limits.iter().any(|asked| asked.limit.controller == c);
        let on_v2 = |c: Controller| asked(c) && host.layout.v1_of(c).is_none();
        if args.needs_v2_chain(&host.layout) || args.group.is_some() || Controller::ALL.into_iter().any(on_v2)
        {
            host.systemd = root.join("run/systemd/system").exists();
            host.v2_chain = read_chain(root, &host.layout, args.cgroup_parent.as_deref(), host.systemd);
            inherit_delegation(&mut host.v2_chain);
            let counters = args.receipt.counters();
            let figures = if args.receipt.counts() { &FIGURES[..] } else { &[] };
            let wanted = |c: &Controller| asked(*c) || counters.contains(c) || figures.contains(c);
            let needed = Controller::ALL.into_iter().filter(wanted);
            host.read_limits(
                root,
                &needed.filter(|c| host.layout.v1_of(*c).is_none()).collect::<Vec<_>>(),
                args,
            );
        }
        if args.limits.iter().any(|asked| matches!(asked.value, Value::Size(Size::Percent(_)))) {
            host.facts.memory = read_memory(root, &host)?;
        }
        // Mounted alone it concerns only who asks for it; together with others, everybody.
        if let Some(hierarchy) = host.layout.v1_of(Controller::Cpuset)
            && (asked(Controller::Cpuset) || hierarchy.controllers.len() > 1)
            && let Ok(parent) = host.v1_parent(hierarchy)
        {
            let read = |name: &str| files::text(&below(root, &parent).join(name)).unwrap_or_default();
            host.facts.cpuset = (read("cpuset.cpus"), read("cpuset.mems"));
        }
        if let Some(name) = &args.group {
            host.facts.shared = true;
            host.named = find_named(root, &host, &group_name(name));
        }
        for asked in &args.limits {
            if let Value::Io(rule) = &asked.value
                && !host.facts.disks.iter().any(|(place, _)| *place == rule.place)
            {
                let disks = disks::resolve(root, rule.place.as_deref());
                host.facts.disks.push((rule.place.clone(), disks));
            }
        }
        Ok(host)
    }

    /// The limits of the groups that a group of ours would lie outside of: those below the nearest that can have it.
    fn read_limits(&mut self, root: &Path, needed: &[Controller], args: &Args) {
        let mut found = args.group.is_some();
        for at in 0..self.v2_chain.len() {
            let Some(node) = self.v2_chain.get(at) else { return };
            if !found && place::unfit(self, node, needed).is_none() {
                return;
            }
            let limits = if node.real_root { Vec::new() } else { set_limits(&below(root, &node.dir)) };
            found |= !limits.is_empty();
            if let Some(node) = self.v2_chain.get_mut(at) {
                node.limits = limits;
            }
        }
    }

    /// The parent of our groups in a v1 hierarchy.
    ///
    /// # Errors
    /// Why the caller's own group cannot be reached.
    pub fn v1_parent(&self, hierarchy: &Hierarchy) -> Result<PathBuf, String> {
        match &self.cgroup_parent {
            Some(given) => Ok(in_mount(hierarchy, given)),
            None => hierarchy.own.clone(),
        }
    }

    /// Directories of the caller's groups in which this controller limits, the nearest first.
    fn groups(&self, controller: Controller) -> Vec<PathBuf> {
        let (mount, own) = match (self.layout.v1_of(controller), &self.layout.v2) {
            (Some(hierarchy), _) => {
                (&hierarchy.mount, self.v1_parent(hierarchy).unwrap_or_else(|_| hierarchy.mount.clone()))
            }
            (None, Some(hierarchy)) => match (&self.cgroup_parent, &hierarchy.own) {
                (Some(given), _) => (&hierarchy.mount, in_mount(hierarchy, given)),
                (None, Ok(own)) => (&hierarchy.mount, own.clone()),
                (None, Err(_)) => return Vec::new(),
            },
            (None, None) => return Vec::new(),
        };
        own.ancestors().take_while(|dir| dir.starts_with(mount)).map(Path::to_owned).collect()
    }
}

/// The directory name of a group that `--group` names.
#[must_use]
pub fn group_name(name: &str) -> String {
    format!("rcon-{name}")
}

fn in_mount(hierarchy: &Hierarchy, path: &Path) -> PathBuf {
    below(&hierarchy.mount, path)
}

/// Where a group of this name is already: below our place in each v1 hierarchy, and along our v2 chain.
fn find_named(root: &Path, host: &Host, name: &str) -> Vec<PathBuf> {
    let v1 = host.layout.v1.iter().filter_map(|hierarchy| host.v1_parent(hierarchy).ok());
    v1.chain(host.v2_chain.iter().map(|node| node.dir.clone()))
        .map(|parent| parent.join(name))
        .filter(|dir| below(root, dir).is_dir())
        .collect()
}

impl Host {
    /// Does an option bring variables with it?
    fn brings_variables(&self) -> bool {
        let privileges = self.privileges.as_ref();
        !self.cage.variables.is_empty()
            || privileges.is_some_and(|facts| !facts.identity.variables.is_empty())
    }
}

fn read_env_file(path: &Path) -> Result<Vec<Change>, Error> {
    let option = format!("--env-file {}", path.display());
    let text = files::read(path).map_err(|e| Error::new("cannot read it").errno(e).option(&option))?;
    crate::environment::parse_file(&text, |name| std::env::var_os(name))
        .map_err(|why| Error::new(why).option(&option))
}

fn read_layout(root: &Path, args: &Args, user_is_root: bool) -> Result<Layout, Error> {
    // Who may not make the group that holds a run together may make another one.
    let serves = |layout: &Layout| user_is_root || !layout.v1_of(Controller::Pids).is_some_and(is_others);
    if root == Path::new("/")
        && let Some(layout) = args.needs_no_other_hierarchies().and_then(|wanted| usual::layout(&wanted))
        && serves(&layout)
    {
        return Ok(layout);
    }
    read_mounts(root)
}

/// The hierarchies as `/proc` below `root` has them.
///
/// # Errors
/// `/proc` cannot be read.
#[inline(never)]
pub(crate) fn read_mounts(root: &Path) -> Result<Layout, Error> {
    Ok(Layout::parse(&read_proc(root, "proc/self/mountinfo")?, &read_proc(root, "proc/self/cgroup")?))
}

pub(crate) fn read_proc(root: &Path, path: &str) -> Result<Vec<u8>, Error> {
    files::read(&root.join(path)).map_err(|errno| {
        Error::new(format!("cannot read /{path}")).errno(errno).try_this("mount -t proc proc /proc")
    })
}

/// An absolute path of the machine, below the root that tests replace.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(crate) fn read_words(path: &Path) -> BTreeSet<String> {
    order::set(files::text(path).unwrap_or_default().split_whitespace().map(str::to_owned))
}

/// The caller's v2 group (or the one that `--cgroup-parent` names) and its ancestors.
fn read_chain(root: &Path, layout: &Layout, given: Option<&Path>, systemd: bool) -> Vec<V2Node> {
    let Some(hierarchy) = &layout.v2 else { return Vec::new() };
    let start = match (given, &hierarchy.own) {
        (Some(given), _) => in_mount(hierarchy, given),
        (None, Ok(own)) => own.clone(),
        (None, Err(_)) => return Vec::new(),
    };
    let mut chain = Vec::new();
    let mut dir = start.as_path();
    loop {
        chain.push(read_node(root, dir, given.is_none() && dir == start, systemd));
        if dir == hierarchy.mount {
            return chain;
        }
        match dir.parent() {
            Some(parent) => dir = parent,
            None => return chain,
        }
    }
}

/// It is there, and not ours.
fn is_closed(path: &Path) -> bool {
    use nix::errno::Errno::{EACCES, EPERM};
    matches!(nix::unistd::access(path, nix::unistd::AccessFlags::W_OK), Err(EACCES | EPERM))
}

/// Is the group that the caller is in not its own to divide?
fn is_others(hierarchy: &Hierarchy) -> bool {
    hierarchy.own.as_deref().is_ok_and(is_closed)
}

fn can_write(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// What is below a delegated group is its owner's; what is below a systemd is that one's, whoever delegated the
/// group to it.
fn inherit_delegation(chain: &mut [V2Node]) {
    let mut delegated = false;
    for node in chain.iter_mut().rev() {
        delegated = (delegated || node.delegated) && !node.manager;
        node.delegated = delegated;
    }
}

fn read_node(root: &Path, dir: &Path, own: bool, systemd: bool) -> V2Node {
    let path = below(root, dir);
    // Only the real root lacks this file (cgroup-v2.rst, "cgroup.type").
    let kind = files::text(&path.join("cgroup.type"));
    let own_pids = [std::process::id(), crate::guardian::front()].map(|pid| pid.to_string());
    let others = || {
        files::text(&path.join("cgroup.procs"))
            .is_some_and(|text| text.lines().any(|line| !own || !own_pids.iter().any(|pid| pid == line)))
    };
    let real_root = kind.is_none();
    V2Node {
        controllers: read_words(&path.join("cgroup.controllers")),
        subtree: read_words(&path.join("cgroup.subtree_control")),
        real_root,
        writable: can_write(&path) && can_write(&path.join("cgroup.procs")),
        others: !real_root && others(),
        limits: Vec::new(),
        kind: kind.unwrap_or_default(),
        // Without a systemd every group is whose it is.
        delegated: !systemd || delegated(&path),
        manager: systemd && path.join("init.scope").is_dir(),
        dir: dir.to_owned(),
    }
}

/// Limits of a v2 group that a process would leave by leaving the group.
fn set_limits(path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for (file, unlimited) in [
        ("memory.max", "max"),
        ("memory.high", "max"),
        ("memory.swap.max", "max"),
        ("pids.max", "max"),
        ("cpu.max", "max"),
        ("io.max", ""),
        ("cpuset.cpus", ""),
        ("cpuset.mems", ""),
    ] {
        if let Some(value) = files::text(&path.join(file))
            && value.split_whitespace().next().unwrap_or_default() != unlimited
        {
            out.push(format!("{file}={value}"));
        }
    }
    out
}

fn delegated(path: &Path) -> bool {
    crate::sys::xattr::is_one(path, c"trusted.delegate") || crate::sys::xattr::is_one(path, c"user.delegate")
}

/// The memory limit of one group, in bytes. v1 says a number that no machine has where there is none.
pub(crate) fn memory_limit(dir: &Path) -> Option<u64> {
    let read = |file| files::text(&dir.join(file)).and_then(|text| text.parse::<u64>().ok());
    read("memory.max").or_else(|| read("memory.limit_in_bytes")).filter(|bytes| *bytes < 1 << 60)
}

/// The machine's memory, or the lowest limit that encloses the caller, in bytes.
fn read_memory(root: &Path, host: &Host) -> Result<u64, Error> {
    let meminfo = files::text(&root.join("proc/meminfo")).unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .ok_or_else(|| {
            Error::new("/proc/meminfo does not tell the machine's memory, which a percentage is of")
        })?;
    let mut lowest = total.saturating_mul(1024);
    for dir in host.groups(Controller::Memory) {
        lowest = memory_limit(&below(root, &dir)).map_or(lowest, |limit| lowest.min(limit));
    }
    Ok(lowest)
}
