//! What will be done: arguments and machine become one plan. Pure and total: it decides everything, and does
//! nothing. `--explain` prints this plan, a run executes it.

mod counting;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::cage;
use crate::capabilities::Sets;
use crate::cgroup::layout::Hierarchy;
use crate::cgroup::place::{self, Place};
use crate::cli::Args;
use crate::environment;
use crate::error::Error;
use crate::guardian::OnDeath;
use crate::host::{Host, V2Node};
use crate::limits::{self, Asked, Controller, Value, Version, Write};
use crate::notify::{self, Relay};
use crate::privileges;
use crate::receipt;
use crate::runs::Name;
use crate::step::{Exec, Step};
use crate::usage::Counting;

/// Everything that a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Groups, in the order in which they are made.
    pub groups: Vec<GroupPlan>,
    /// What the child is born with, and what it needs from us on its way into the cage.
    pub birth: cage::Birth,
    /// The command's environment; nothing: the caller's, untouched.
    pub environment: Option<Vec<CString>>,
    /// What the child does before it becomes the command.
    pub steps: Vec<Step>,
    /// What could not be honoured and was waived by `--best-effort`.
    pub waived: Vec<String>,
    /// What happens when the command has ended.
    pub ending: Ending,
    /// Say nothing about out-of-memory kills.
    pub quiet: bool,
    /// Turn a limit that the kernel refuses into a warning.
    pub best_effort: bool,
    /// Nothing needs a supervisor: this process becomes the command.
    pub in_place: bool,
    /// What is said on standard error before the command starts.
    pub notes: Vec<String>,
    /// The command's capabilities after exec, where something was asked of them.
    pub sets: Option<Sets>,
    /// The limits that hold.
    pub limits: Vec<Asked>,
    /// What is asked of the end of the run.
    pub receipt: receipt::Asked,
    /// What the counters need.
    pub counting: Counting,
}

/// What happens when the command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything else in its group is killed.
    Kill,
    /// Everything else is waited for.
    WaitAll,
}

/// One group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Which interface.
    pub version: Version,
    /// The controllers that limit here; none where the group serves only to find and kill.
    pub controllers: Vec<Controller>,
    /// All controllers that are mounted together here.
    pub mounted: Vec<String>,
    /// The parent's directory.
    pub parent: PathBuf,
    /// The group's own name.
    pub name: String,
    /// Controllers that are here only to count, for the report: it goes without those that cannot be had.
    pub optional: Vec<Controller>,
    /// The whole group is here only to count.
    pub spare: bool,
    /// The group may exist already, and is left to the others that are in it.
    pub shared: bool,
    /// `--name`: nobody else may be in it.
    pub named: Option<Named>,
    /// v2: controllers to add to the parent's `cgroup.subtree_control`, taken back afterwards.
    pub enable: Vec<Controller>,
    /// v2: the leaf of the parent that we move to first, because a group that passes controllers on may hold no
    /// process.
    pub aside: Option<String>,
    /// Why here.
    pub why: String,
    /// The limits.
    pub writes: Vec<Write>,
}

/// The group that can stop a run's processes where they are: on v2 any, on v1 one of the freezer.
///
/// # Errors
/// There is no place for one.
pub fn freezer(host: &Host) -> Result<GroupPlan, Error> {
    let receipt = receipt::Asked::default();
    let place = Placing {
        host,
        limits: &[],
        group: None,
        named: None,
        given: false,
        allow_escape: false,
        receipt: &receipt,
    };
    let mut groups = Vec::new();
    let by_v2 = if host.layout.v2.is_some() { place.add_v2(&mut groups, &[]) } else { Ok(()) };
    if let (true, Some(hierarchy)) = (groups.is_empty(), host.layout.v1_of(Controller::Freezer)) {
        place.add_v1(&mut groups, hierarchy, None)?;
    }
    by_v2.and(groups.pop().ok_or_else(|| Error::new("neither cgroup v2 nor the v1 freezer is mounted")))
}

/// An exclusive name, and what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// As asked: with a place for a number, perhaps.
    pub pattern: Name,
}

/// Makes the plan.
///
/// # Errors
/// What was asked and cannot be had here, naming the option and the way out.
pub fn plan(args: &Args, host: &Host) -> Result<Plan, Error> {
    let Args {
        command,
        shell_line: _, // became `command`
        limits,
        dev: _, // became part of the I/O rules
        explain: _,
        best_effort,
        quiet,
        wait_all,
        group,
        cgroup_parent,
        allow_escape,
        environment,
        cage,
        on_wrapper_death,
        control: crate::runs::Asked { name, profiles: _ }, // became options
        privileges,
        receipt,
    } = args;
    let mut waived = Vec::new();
    let named = name.as_ref().map(|name| naming(name, host)).transpose()?;
    let place = Placing {
        host,
        limits,
        group: group.as_deref(),
        named: named.as_ref(),
        given: cgroup_parent.is_some(),
        allow_escape: *allow_escape,
        receipt,
    };
    let (mut groups, kept) = match (args.needs_group(), *best_effort) {
        (false, _) => (Vec::new(), Vec::new()),
        (true, false) => (place.groups()?, limits.clone()),
        (true, true) => place.groups_with_less(&mut waived)?,
    };
    let counting = place.counting(&mut groups);
    // What options bring with them; what the user asks for by name comes after and wins.
    let in_place = privileges.capcon
        && privileges.learn.is_none()
        && !cage.is_asked()
        && groups.is_empty()
        && !wait_all
        && *receipt == receipt::Asked::default();
    let environment = &environment::expanded(environment, &host.env_files);
    let cage::Cage { mut birth, enter, settings, last, root: _ } =
        cage::plan(cage, &host.cage, *wait_all, host.notify.listen)?;
    let inside = privileges::Inside::of(&birth);
    let privileges = privileges::plan(privileges, host.privileges.as_ref(), inside.as_ref())?;
    let mut brought: Vec<(OsString, OsString)> = host.cage.variables.clone();
    brought.extend(privileges.variables);
    if !in_place {
        birth.relay = relay(&birth, &privileges.steps, host);
        brought.extend(host.notify.variables(birth.relay.as_ref()));
    }
    let put_pid = !in_place && host.notify.names_us;
    let environment = (!brought.is_empty() || !environment.is_empty() || put_pid)
        .then(|| environment::changed(&host.environment, &brought, environment));
    let path = environment.as_ref().map_or(host.path.as_deref(), |env| environment::get(env, "PATH"));
    // The order is the security argument, and stands only here: groups, session, namespaces and mounts, root
    // and working directory, resource limits and scheduling, bounding set, identity, capability sets,
    // no_new_privs, signals, exec.
    let joins = (0..groups.len())
        .filter(|i| groups.get(*i).is_some_and(|g| g.version == Version::V1))
        .map(Step::Join);
    let mut steps: Vec<Step> = (!in_place).then_some(Step::JoinJob).into_iter().chain(joins).collect();
    steps.extend(enter.into_iter().chain(settings).map(Step::Cage));
    steps.extend(birth.relay.iter().filter(|relay| relay.inside).map(|_| Step::OpenRelay));
    steps.extend(privileges.steps);
    steps.extend(privileges.checks);
    steps.extend(put_pid.then_some(Step::PutPid));
    steps.extend(last.into_iter().map(Step::Cage));
    if !in_place {
        if *on_wrapper_death == OnDeath::Kill {
            steps.push(Step::DieWithKeeper);
        }
        steps.push(Step::RestoreSignals);
    }
    steps.push(Step::Exec(exec(command, path)?));
    Ok(Plan {
        groups,
        birth,
        environment,
        steps,
        waived,
        ending: if *wait_all { Ending::WaitAll } else { Ending::Kill },
        quiet: *quiet,
        best_effort: *best_effort,
        in_place,
        notes: privileges.notes,
        sets: privileges.sets,
        limits: kept,
        receipt: receipt.clone(),
        counting,
    })
}

/// The way of the command's messages to its service manager, where it has one.
fn relay(birth: &cage::Birth, steps: &[Step], host: &Host) -> Option<Relay> {
    let manager = host.notify.manager.clone()?;
    // Whoever has the user id of the command, or ours, could speak for it anyhow (ptrace(2)).
    let mut speakers = vec![0, host.user];
    speakers.extend(steps.iter().filter_map(|step| match step {
        Step::SetUser(user) => Some(birth.maps.as_ref().map_or(*user, |maps| maps.outside(*user))),
        _ => None,
    }));
    speakers.extend(birth.maps.iter().map(|maps| maps.outside(0)));
    let inside = birth.changes_net();
    Some(Relay { manager, name: notify::name(host.pid, host.nonce), inside, speakers })
}

/// The name that `--name` comes to here.
fn naming(name: &Name, host: &Host) -> Result<Named, Error> {
    let chosen = name.choose(&host.taken).map_err(|taken| {
        Error::new("a run of this name lives")
            .option(format!("--name {name}"))
            .try_this(format!("rcon show {taken}; or --name {taken}%n, which numbers runs"))
    })?;
    Ok(Named { name: chosen, pattern: name.clone() })
}

struct Placing<'a> {
    host: &'a Host,
    limits: &'a [Asked],
    group: Option<&'a str>,
    named: Option<&'a Named>,
    given: bool,
    allow_escape: bool,
    receipt: &'a receipt::Asked,
}

impl Placing<'_> {
    /// Leaves out one limit after the other until the rest can be had, and says which.
    fn groups_with_less(&self, waived: &mut Vec<String>) -> Result<(Vec<GroupPlan>, Vec<Asked>), Error> {
        let mut limits = self.limits.to_vec();
        loop {
            let attempt = Placing { limits: &limits, ..*self };
            let error = match attempt.groups() {
                Ok(groups) => return Ok((groups, limits)),
                Err(error) => error,
            };
            let Some(at) = limits.iter().position(|asked| Some(&asked.spelled) == error.option.as_ref())
            else {
                return Err(error);
            };
            waived.push(format!("{}: {}", limits.remove(at).spelled, error.what));
            if limits.is_empty()
                && self.group.is_none()
                && self.named.is_none()
                && !self.given
                && !self.receipt.needs_group()
            {
                return Ok((Vec::new(), limits));
            }
        }
    }

    fn groups(&self) -> Result<Vec<GroupPlan>, Error> {
        let mut groups: Vec<GroupPlan> = Vec::new();
        let mut on_v2 = Vec::new();
        for controller in Controller::ALL {
            let asked = self.limits.iter().find(|asked| asked.limit.controller == controller);
            let spelled = match asked {
                Some(asked) => asked.spelled.clone(),
                None if self.receipt.counters().contains(&controller) => self.receipt.spelled(),
                None => continue,
            };
            match self.host.layout.v1_of(controller) {
                Some(hierarchy) => {
                    self.add_v1(&mut groups, hierarchy, Some(controller)).map_err(|e| e.option(spelled))?
                }
                None => on_v2.push((controller, spelled)),
            }
        }
        if let Some((_, spelled)) = on_v2.first() {
            let needed: Vec<Controller> = on_v2.iter().map(|(controller, _)| *controller).collect();
            self.add_v2(&mut groups, &needed).map_err(|e| e.option(spelled))?;
        }
        if self.receipt.cpu_time.is_some() {
            self.add_cpu_counter(&mut groups).map_err(|e| e.option(self.receipt.spelled()))?;
        }
        self.join_named(&mut groups)?;
        self.add_tracking(&mut groups)?;
        let version_of =
            |controller| groups.iter().find(|g| g.controllers.contains(&controller)).map(|g| g.version);
        let writes = limits::writes(self.limits, &self.host.facts, version_of)?;
        for write in writes {
            if let Some(group) = groups.iter_mut().find(|g| g.controllers.contains(&write.controller)) {
                group.writes.push(write);
            }
        }
        for group in groups.iter_mut().filter(|g| g.mounted.iter().any(|name| name == "cpuset")) {
            if !group.controllers.contains(&Controller::Cpuset) {
                let option = self.limits.first().map_or("", |asked| &asked.spelled);
                group.writes.splice(0..0, limits::filled_cpuset(&self.host.facts, option));
            }
        }
        Ok(groups)
    }

    /// A shared group is joined wherever it is, also where nothing new is asked of it: the budget is one.
    fn join_named(&self, groups: &mut Vec<GroupPlan>) -> Result<(), Error> {
        if self.group.is_none() {
            return Ok(());
        }
        for hierarchy in &self.host.layout.v1 {
            if let Ok(parent) = self.host.v1_parent(hierarchy)
                && self.host.named.contains(&parent.join(self.name()))
            {
                self.add_v1(groups, hierarchy, None)?;
            }
        }
        if !groups.iter().any(|g| g.version == Version::V2) && self.named_on_v2().is_some() {
            self.add_v2(groups, &[])?;
        }
        Ok(())
    }

    /// The v2 group that has the shared group already, unless a limit that the caller is under lies between.
    fn named_on_v2(&self) -> Option<&V2Node> {
        let mut crossed = false;
        for node in &self.host.v2_chain {
            if crossed && !self.allow_escape {
                return None;
            }
            if self.host.named.contains(&node.dir.join(self.name())) {
                return Some(node);
            }
            crossed |= !node.limits.is_empty();
        }
        None
    }

    /// A group must hold every process of the run, so that all can be found and killed: v2 can do that at once,
    /// v1's pids controller can stop new ones, the freezer can stop all. Where no asked limit brings one of
    /// them, one is added.
    fn add_tracking(&self, groups: &mut Vec<GroupPlan>) -> Result<(), Error> {
        let serves = |g: &GroupPlan| {
            g.version == Version::V2 || g.mounted.iter().any(|name| name == "pids" || name == "freezer")
        };
        if groups.iter().any(serves) {
            return Ok(());
        }
        let layout = &self.host.layout;
        if layout.v1.is_empty() {
            return self.add_v2(groups, &[]);
        }
        for controller in [Controller::Pids, Controller::Freezer] {
            if let Some(hierarchy) = layout.v1_of(controller)
                && self.add_v1(groups, hierarchy, None).is_ok()
            {
                return Ok(());
            }
        }
        if groups.is_empty() {
            return Err(Error::new("no cgroup hierarchy is there to make a group in")
                .try_this("mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
        }
        // Any group lists its processes; a loop ends them.
        Ok(())
    }

    /// Every v2 group counts CPU time, even where no controller is in that tree; on v1 one hierarchy does.
    fn add_cpu_counter(&self, groups: &mut Vec<GroupPlan>) -> Result<(), Error> {
        if groups.iter().any(|g| g.version == Version::V2) || self.add_v2(groups, &[]).is_ok() {
            return Ok(());
        }
        match self.host.layout.v1_of(Controller::Cpuacct) {
            Some(hierarchy) => self.add_v1(groups, hierarchy, Some(Controller::Cpuacct)),
            None => Err(Error::new(
                "nothing here counts the CPU time of a group: there is no cpuacct hierarchy and no cgroup v2",
            )
            .try_this("mount -t cgroup2 cgroup2 /sys/fs/cgroup")),
        }
    }

    fn add_v1(
        &self,
        groups: &mut Vec<GroupPlan>,
        hierarchy: &Hierarchy,
        controller: Option<Controller>,
    ) -> Result<(), Error> {
        let parent = self.host.v1_parent(hierarchy).map_err(|why| {
            Error::new(format!(
                "the caller's group in {} cannot be reached: {why}",
                hierarchy.mount.display()
            ))
        })?;
        if let Some(group) = groups.iter_mut().find(|g| g.version == Version::V1 && g.parent == parent) {
            group.controllers.extend(controller);
            return Ok(());
        }
        if hierarchy.read_only {
            return Err(Error::new(format!("{} is mounted read-only", hierarchy.mount.display())).try_this(
                format!(
                    "mount -o remount,rw {} (in a container: let it have a writable one)",
                    hierarchy.mount.display()
                ),
            ));
        }
        groups.push(GroupPlan {
            version: Version::V1,
            controllers: controller.into_iter().collect(),
            mounted: hierarchy.controllers.clone(),
            parent,
            name: self.name(),
            shared: self.group.is_some(),
            named: self.named.cloned(),
            enable: Vec::new(),
            aside: None,
            why: if self.given { "--cgroup-parent names it" } else { "below the caller's own group" }
                .to_owned(),
            writes: Vec::new(),
            optional: Vec::new(),
            spare: false,
        });
        Ok(())
    }

    fn add_v2(&self, groups: &mut Vec<GroupPlan>, needed: &[Controller]) -> Result<(), Error> {
        let layout = &self.host.layout;
        let Some(hierarchy) = &layout.v2 else {
            let names: Vec<&str> = needed.iter().map(|c| c.name()).collect();
            let error = Error::new(match layout.name() {
                "none" => "no cgroup file system is mounted here".to_owned(),
                _ => format!("this machine's cgroup v1 has no {} controller", names.join(", ")),
            });
            return Err(match layout.name() {
                "none" => error.try_this("mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
                _ => error.try_this("cat /proc/cgroups (a controller may be off: cgroup_disable= on the kernel's command line)"),
            });
        };
        if hierarchy.read_only {
            return Err(Error::new(format!("{} is mounted read-only", hierarchy.mount.display())).try_this(
                format!(
                    "mount -o remount,rw {} (in a container: let it have a writable one)",
                    hierarchy.mount.display()
                ),
            ));
        }
        let place = match self.named_on_v2() {
            Some(node) => place::beside(node, needed),
            None => place::choose(self.host, needed, self.allow_escape, self.given),
        };
        let Place { parent, enable, step_aside, why } = place.map_err(|reasons| {
            Error::new(format!("no place for a group: {}", reasons.join("; ")))
                .try_this("systemd-run --user --scope -p Delegate=yes rcon ... (as root without --user), or --cgroup-parent PATH")
        })?;
        groups.push(GroupPlan {
            version: Version::V2,
            controllers: needed.to_vec(),
            mounted: Vec::new(),
            parent,
            name: self.name(),
            shared: self.group.is_some(),
            named: self.named.cloned(),
            enable,
            aside: step_aside.then(|| format!("{}.self", self.name())),
            why,
            writes: Vec::new(),
            optional: Vec::new(),
            spare: false,
        });
        Ok(())
    }

    /// Generated names end in two hexadecimal fields, which a chosen one may do as well: the lock on the
    /// directory, not the name, says whether somebody owns it.
    fn name(&self) -> String {
        match (self.group, self.named) {
            (Some(name), _) => crate::host::group_name(name),
            (None, Some(named)) => crate::host::group_name(&named.name),
            (None, None) => format!("rcon-{}-{:x}", self.host.pid, (self.host.nonce >> 10) & 0xff_ffff),
        }
    }
}

/// The command's candidates: as execvp(3) does, without its fall-back to a shell.
fn exec(command: &[OsString], path: Option<&OsStr>) -> Result<Exec, Error> {
    let c_string = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| Error::new("an argument of the command holds a NUL byte"))
    };
    let argv = command.iter().map(|word| c_string(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let Some(program) = command.first() else { return Ok(Exec { candidates: Vec::new(), argv }) };
    let candidates = if program.as_bytes().contains(&b'/') || program.is_empty() {
        vec![c_string(program.as_bytes())?]
    } else {
        // Without PATH: what confstr(_CS_PATH) says.
        let path = path.map_or(&b"/bin:/usr/bin"[..], OsStr::as_bytes);
        path.split(|b| *b == b':')
            .map(|dir| {
                let mut candidate = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
                candidate.push(b'/');
                candidate.extend_from_slice(program.as_bytes());
                c_string(&candidate)
            })
            .collect::<Result<Vec<_>, _>>()?
    };
    Ok(Exec { candidates, argv })
}

impl Plan {
    /// The command's name, for messages.
    #[must_use]
    pub fn command_name(&self) -> String {
        self.exec()
            .and_then(|exec| exec.argv.first())
            .map_or_else(String::new, |word| crate::error::printable(word.as_bytes()))
    }

    /// Is the command a name to look up in PATH, rather than a path?
    #[must_use]
    pub fn searches_path(&self) -> bool {
        let name = self.exec().and_then(|exec| exec.argv.first());
        name.is_some_and(|name| !name.is_empty() && !name.as_bytes().contains(&b'/'))
    }

    /// An asked limit that holds.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<&Asked> {
        self.limits.iter().find(|asked| asked.limit.name == name)
    }

    /// The CPU time that the run may use per time, in millionths of one CPU; nothing where more than that may
    /// be used for a while (`--cpu-burst`).
    #[must_use]
    pub fn cpu_quota(&self) -> Option<u64> {
        match (self.limit("cpu").map(|asked| &asked.value), self.limit("cpu-burst")) {
            (Some(Value::Cpu(cpu)), None) => Some(cpu.millionths),
            _ => None,
        }
    }

    /// What is executed.
    #[must_use]
    pub fn exec(&self) -> Option<&Exec> {
        self.steps.iter().find_map(|step| if let Step::Exec(exec) = step { Some(exec) } else { None })
    }
}

impl Plan {
    /// Somebody else has just taken the name: the next number, where one was asked for.
    pub fn renumber(&mut self, taken: &mut std::collections::BTreeSet<OsString>) -> bool {
        for group in &mut self.groups {
            let Some(named) = &mut group.named else { return false };
            taken.insert(named.name.clone().into());
            let Ok(name) = named.pattern.choose(taken) else { return false };
            named.name = name;
            group.name = format!("rcon-{}", named.name);
        }
        true
    }
}

impl GroupPlan {
    /// The group's directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.parent.join(OsString::from_vec(self.name.clone().into_bytes()))
    }
}
