//! What will be done: arguments and machine become one plan. Pure and total: it decides everything, and does
//! nothing. `--explain` prints this plan, a run executes it.

mod counting;
mod placing;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::cage;
use crate::cage::namespaces::Kind;
use crate::cage::process::Setting;
use crate::cage::step::CageStep;
use crate::capabilities::Sets;
use crate::cli::Args;
use crate::environment;
use crate::error::Error;
use crate::guardian::OnDeath;
use crate::host::Host;
use crate::limits::{Asked, Controller, Value, Version, Write};
use crate::notify::{self, Relay};
use crate::privileges;
use crate::receipt;
use crate::runs::Name;
use crate::step::{Exec, Step};
use crate::systemd::Scope;
use crate::usage::Counting;
use crate::weaker::{self, StandIn};
pub(crate) use counting::FIGURES;
pub use placing::freezer;
use placing::{Less, Lost, Placing};

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
    /// `parent` is a scope that systemd makes first.
    pub scope: Option<Scope>,
    /// Why here.
    pub why: String,
    /// The limits.
    pub writes: Vec<Write>,
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
        hint_env,
        cage,
        on_wrapper_death,
        control: crate::runs::Asked { name, profiles: _ }, // became options
        privileges,
        receipt,
    } = args;
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
    let had = |groups| Less { groups, limits: limits.clone(), receipt: receipt.clone(), lost: Vec::new() };
    let Less { mut groups, limits: kept, receipt: told, lost } = match (args.needs_group(), *best_effort) {
        (false, _) => had(Vec::new()),
        (true, false) => had(place.groups()?),
        (true, true) => place.groups_with_less()?,
    };
    let counting = place.counting(&mut groups);
    if let Some(scope) = groups.iter_mut().find_map(|group| group.scope.as_mut()) {
        scope.description = placing::description(command);
    }
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
    let (waived, stand_ins) = instead(&lost, receipt, &settings, birth.new.has(Kind::User), host);
    let privileges = privileges::plan(privileges, host.privileges.as_ref(), inside.as_ref())?;
    let mut brought: Vec<(OsString, OsString)> = host.cage.variables.clone();
    brought.extend(privileges.variables);
    if *hint_env {
        brought.extend(crate::hints::variables(&kept, &host.hints, host.facts.memory, &host.environment));
    }
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
    let stand_ins = stand_ins.into_iter().map(CageStep::Process);
    steps.extend(enter.into_iter().chain(stand_ins).chain(settings).map(Step::Cage));
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
    steps.push(Step::Exec(exec(command, path, host.root)?));
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
        receipt: told,
        counting,
    })
}

/// What is said of limits that cannot be had, and what is set in their place. What the user sets by another option
/// stays as the user says.
fn instead(
    lost: &[Lost],
    asked: &receipt::Asked,
    settings: &[CageStep],
    apart: bool,
    host: &Host,
) -> (Vec<String>, Vec<Setting>) {
    let (mut waived, mut stand_ins) = (Vec::new(), Vec::<Setting>::new());
    for Lost { spelled, why, limit } in lost {
        let stand_in = host.weaker.as_ref().and_then(|own| match limit {
            Some(limit) => weaker::of_limit(limit, &host.facts, own, apart),
            None if spelled.starts_with("--cpu-time ") => {
                asked.cpu_time.map(|span| weaker::of_cpu_time(span.0, asked.grace(), own))
            }
            None => None,
        });
        let said = |setting: &Setting| {
            settings.iter().any(|step| matches!(step, CageStep::Process(one) if one.replaces(setting)))
        };
        match stand_in {
            Some(StandIn { setting, words }) if !setting.as_ref().is_some_and(said) => {
                waived.push(format!("{spelled}: {why}; {words}"));
                stand_ins.retain(|one| !setting.as_ref().is_some_and(|setting| setting.replaces(one)));
                stand_ins.extend(setting);
            }
            _ => waived.push(format!("{spelled}: {why}")),
        }
    }
    (waived, stand_ins)
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

/// The command's candidates: as execvp(3) does, without its fall-back to a shell. For root an entry of PATH that
/// depends on where one stands (`.`, an empty one) counts for nothing, as with sudo's ignore_dot: the directory may
/// be somebody else's.
fn exec(command: &[OsString], path: Option<&OsStr>, root: bool) -> Result<Exec, Error> {
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
            .filter(|dir| !root || dir.starts_with(b"/"))
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

    /// Would nothing stay behind if this process were killed? What the command starts is in a pid namespace whose init
    /// the kernel ends with us, and there are no groups and no files. And need nobody look at clocks or counters while
    /// we are a stopped job?
    #[must_use]
    pub fn leaves_nothing(&self) -> bool {
        let birth = &self.birth;
        birth.init
            && birth.new.has(Kind::Pid)
            && birth.relay.is_none()
            && birth.scratch.is_none()
            && birth.copies.is_none()
            && self.groups.is_empty()
            && self.ending == Ending::Kill
            && self.receipt == receipt::Asked::default()
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
            if group.scope.is_some() {
                group.parent.set_file_name(placing::unit(&group.name));
            }
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
