//! Which groups a run has, in which hierarchies, and where in each.

use crate::cgroup::layout::Hierarchy;
use crate::cgroup::place::{self, Place, Refusal};
use crate::error::Error;
use crate::host::{Host, V2Node};
use crate::limits::{self, Asked, Controller, Version};
use crate::receipt;

use nix::errno::Errno;

use super::{GroupPlan, Named};

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

/// What decides where groups go.
pub(super) struct Placing<'a> {
    pub(super) host: &'a Host,
    pub(super) limits: &'a [Asked],
    pub(super) group: Option<&'a str>,
    pub(super) named: Option<&'a Named>,
    pub(super) given: bool,
    pub(super) allow_escape: bool,
    pub(super) receipt: &'a receipt::Asked,
}

/// A file system that is mounted read-only takes no groups.
fn writable(hierarchy: &Hierarchy) -> Result<(), Error> {
    if !hierarchy.read_only {
        return Ok(());
    }
    let mount = hierarchy.mount.display();
    Err(Error::new(format!("{mount} is mounted read-only"))
        .try_this(format!("mount -o remount,rw {mount} (in a container: let it have a writable one)")))
}

/// What can be had of what was asked.
#[derive(Debug, Default)]
pub(super) struct Less {
    pub(super) groups: Vec<GroupPlan>,
    pub(super) limits: Vec<Asked>,
    pub(super) receipt: receipt::Asked,
    pub(super) lost: Vec<Lost>,
}

/// What cannot be had, and why.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) spelled: String,
    pub(super) why: String,
    pub(super) limit: Option<Asked>,
}

impl Less {
    fn lose(&mut self, spelled: String, why: String, limit: Option<Asked>) {
        self.lost.push(Lost { spelled, why, limit });
    }
}

impl Placing<'_> {
    /// Leaves out one limit after the other until the rest can be had, and says which.
    pub(super) fn groups_with_less(&self) -> Result<Less, Error> {
        let mut less =
            Less { limits: self.limits.to_vec(), receipt: self.receipt.clone(), ..Less::default() };
        loop {
            let attempt = Placing { limits: &less.limits, receipt: &less.receipt, ..*self };
            let error = match attempt.groups() {
                Ok(groups) => {
                    less.groups = groups;
                    break;
                }
                Err(error) => error,
            };
            let at = less.limits.iter().position(|asked| Some(&asked.spelled) == error.option.as_ref());
            match at {
                Some(at) => {
                    let asked = less.limits.remove(at);
                    less.lose(asked.spelled.clone(), error.what, Some(asked));
                }
                None if less.receipt.needs_group() && error.option == Some(less.receipt.spelled()) => {
                    less.lose(less.receipt.spelled(), error.what, None);
                    less.receipt.need_less();
                }
                None => return Err(error),
            }
            if less.limits.is_empty()
                && self.group.is_none()
                && self.named.is_none()
                && !self.given
                && !less.receipt.needs_group()
            {
                break;
            }
        }
        let grows = less.receipt.mem_grow.is_some();
        if grows && !less.limits.iter().any(|asked| asked.limit.name == "mem") {
            less.receipt.mem_grow = None;
            less.lose("--mem-grow".to_owned(), "there is no --mem to begin at".to_owned(), None);
        }
        Ok(less)
    }

    pub(super) fn groups(&self) -> Result<Vec<GroupPlan>, Error> {
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
        let v1 = [Controller::Pids, Controller::Freezer].into_iter().filter_map(|one| layout.v1_of(one));
        let mut refused = None;
        for hierarchy in v1 {
            match self.add_v1(groups, hierarchy, None) {
                Ok(()) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        // Neither is v1's here, or the caller's: then they may be v2's.
        if layout.v2.is_some() {
            match self.add_v2(groups, &[]) {
                Ok(()) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if groups.is_empty() {
            return Err(refused.unwrap_or_else(|| {
                Error::new("no cgroup hierarchy is there to make a group in")
                    .try_this("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
            }));
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

    pub(super) fn add_v1(
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
        writable(hierarchy)?;
        if self.host.closed.contains(&parent) {
            let dir = crate::error::printable(parent.as_os_str().as_encoded_bytes());
            return Err(Error::new(format!("{dir} is not ours to write")).errno(Errno::EACCES).try_this(format!(
                "as root; or where root lets you: mkdir {dir}/NAME && chown USER {dir}/NAME && echo PID >{dir}/NAME/cgroup.procs"
            )));
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
            scope: None,
            why: if self.given { "--cgroup-parent names it" } else { "below the caller's own group" }
                .to_owned(),
            writes: Vec::new(),
            optional: Vec::new(),
            spare: false,
        });
        Ok(())
    }

    pub(super) fn add_v2(&self, groups: &mut Vec<GroupPlan>, needed: &[Controller]) -> Result<(), Error> {
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
        writable(hierarchy)?;
        let place = match self.named_on_v2() {
            Some(node) => place::beside(node, needed),
            None => place::choose(self.host, needed, self.allow_escape, self.given),
        };
        let Place { parent, enable, step_aside, why, scope } = place.map_err(|Refusal { reasons, way_out }| {
            let usual = match self.host.systemd {
                true => "systemd-run --user --scope -p Delegate=yes rcon ... (as root without --user), or --cgroup-parent PATH",
                false => "--cgroup-parent PATH of a group that is yours and holds no process; or --best-effort, which goes on with less",
            };
            Error::new(format!("no place for a group: {}", reasons.join("; ")))
                .try_this(way_out.unwrap_or_else(|| usual.to_owned()))
        })?;
        if scope.is_some() && self.group.is_some() {
            return Err(Error::new(
                "systemd would make each run a scope of its own, where no group is shared",
            )
            .try_this("systemd-run --scope -p Delegate=yes (with --user, but for root) around all of them"));
        }
        let parent = if scope.is_some() { parent.join(unit(&self.name())) } else { parent };
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
            scope,
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

/// The scope around a group. A name may hold what a unit's may not.
pub(super) fn unit(group: &str) -> String {
    format!("{}.scope", group.replace('+', "_"))
}

/// What systemd shows of the scope: the command.
pub(super) fn description(command: &[std::ffi::OsString]) -> String {
    let words: Vec<String> =
        command.iter().map(|word| crate::error::printable(word.as_encoded_bytes())).collect();
    let line = words.join(" ");
    line.char_indices().nth(200).map_or(line.clone(), |(end, _)| format!("{}...", line.split_at(end).0))
}
