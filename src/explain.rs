//! The plan in words and in JSON: the same plan that a run executes.

use serde_json::{Value, json};

use crate::capabilities::{names, securebit_names};
use crate::error::printable;
use crate::host::Host;
use crate::limits::{How, Version};
use crate::plan::{Ending, GroupPlan, Plan};
use crate::step::{Expected, Step};
use crate::sys::caps::Posix;

/// One step, as a clause that starts with a verb.
#[must_use]
pub fn step(step: &Step, plan: &Plan) -> String {
    match step {
        Step::Join(group) => match plan.groups.get(*group) {
            Some(group) => format!("join {}", group.dir().display()),
            None => "join a group".to_owned(),
        },
        Step::DropBounding { keep, .. } => format!("leave in the bounding set: {}", names(*keep)),
        Step::KeepCapabilities => "keep capabilities over the change of user".to_owned(),
        Step::SetGroups(groups) => format!("set the supplementary groups: {}", numbers(groups)),
        Step::SetGroup(gid) => format!("become group {gid}"),
        Step::SetUser(uid) => format!("become user {uid}"),
        Step::SetCapabilities(sets) => {
            let Posix { effective, permitted, inheritable } = *sets;
            if effective == permitted {
                format!(
                    "set permitted and effective: {}; inheritable: {}",
                    names(permitted),
                    names(inheritable)
                )
            } else {
                format!(
                    "set permitted: {}; effective: {}; inheritable: {}",
                    names(permitted),
                    names(effective),
                    names(inheritable)
                )
            }
        }
        Step::SetAmbient(set) => format!("set ambient: {}", names(*set)),
        Step::SetSecurebits(bits) => format!("set securebits: {}", securebit_names(*bits)),
        Step::NoNewPrivs => "set no_new_privs".to_owned(),
        Step::Verify(expected) => format!("find on reading back that {}", expectation(expected)),
        Step::OpenRelay => "make a socket for messages to the service manager".to_owned(),
        Step::PutPid => "put the command's number into LISTEN_PID and WATCHDOG_PID".to_owned(),
        Step::Mark(..) => "mark the beginning of the command in the trace".to_owned(),
        Step::Cage(step) => step.words(),
        Step::JoinJob => "go back to the caller's process group".to_owned(),
        Step::DieWithKeeper => "be killed should rcon's keeper die".to_owned(),
        Step::RestoreSignals => "give signals back as the caller had them".to_owned(),
        Step::Exec(exec) => {
            let words: Vec<String> = exec.argv.iter().map(|word| quoted(word.as_bytes())).collect();
            format!("execute {}", words.join(" "))
        }
    }
}

fn expectation(expected: &Expected) -> String {
    match expected {
        Expected::User(uid) => format!("the user is {uid}"),
        Expected::Group(gid) => format!("the group is {gid}"),
        Expected::Supplementary(groups) => format!("the supplementary groups are {}", numbers(groups)),
        Expected::Bounding { set, .. } => format!("the bounding set is {}", names(*set)),
        Expected::Capabilities(_) => "permitted, effective and inheritable are as set".to_owned(),
        Expected::Ambient { set, .. } => format!("the ambient set is {}", names(*set)),
        Expected::Securebits(bits) => format!("securebits are {}", securebit_names(*bits)),
        Expected::NoNewPrivs => "no_new_privs is set".to_owned(),
    }
}

fn numbers(list: &[u32]) -> String {
    if list.is_empty() {
        return "none".to_owned();
    }
    list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// A word as a shell would need it, and safe for a terminal.
fn quoted(word: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(b);
    if !word.is_empty() && word.iter().all(plain) {
        printable(word)
    } else {
        format!("'{}'", printable(word).replace('\'', "'\\''"))
    }
}

fn version(group: &GroupPlan) -> &'static str {
    match group.version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    }
}

fn serves(group: &GroupPlan) -> String {
    let names: Vec<&str> = group.controllers.iter().map(|c| c.name()).collect();
    match (names.is_empty(), group.shared) {
        (true, true) => "whatever limits it has".to_owned(),
        (true, false) => "to find and end its processes".to_owned(),
        (false, _) => names.join(", "),
    }
}

fn ending(plan: &Plan) -> &'static str {
    match (plan.ending, plan.groups.iter().any(|g| g.shared)) {
        (Ending::WaitAll, _) => "wait for all its processes; remove the groups",
        (Ending::Kill, true) => "end what the command has left behind; the last run in the group removes it",
        (Ending::Kill, false) => "kill what is left in the group; remove the groups",
    }
}

/// For people.
#[must_use]
pub fn text(plan: &Plan, host: &Host) -> String {
    let mut lines = vec![format!("layout: {}", host.layout.name())];
    if plan.groups.is_empty() {
        lines.push("groups: none needed".to_owned());
    }
    for group in &plan.groups {
        let (dir, parent) = (group.dir(), group.parent.display());
        lines.push(format!(
            "make group {} ({}: {}), {}",
            dir.display(),
            version(group),
            serves(group),
            group.why
        ));
        if let Some(scope) = &group.scope {
            let whose = if scope.user { "the user's systemd" } else { "systemd" };
            lines.push(format!("  first let {whose} put rcon itself into {parent}, delegated"));
        }
        if let Some(leaf) = &group.aside {
            lines.push(format!("  first move rcon itself to {}", group.parent.join(leaf).display()));
        }
        for controller in &group.enable {
            lines.push(format!("  first add {} to cgroup.subtree_control of {parent}", controller.name()));
        }
        for write in &group.writes {
            let files: Vec<String> =
                write.alternatives.iter().map(|(file, value)| format!("{file} = {value}")).collect();
            let files = match write.how {
                How::First => files.join(" or "),
                How::Every => files.join(" and "),
                How::IfEmpty => format!("{}, if it is empty", files.join(" or ")),
            };
            lines.push(format!("  {files:<44} {}", write.option));
        }
    }
    for group in plan.groups.iter().filter(|g| g.version == Version::V2) {
        lines.push(format!("create the child inside {}", group.dir().display()));
    }
    lines.extend(abroad(plan));
    if !plan.birth.new.is_empty() {
        let names: Vec<&str> = plan.birth.new.kinds().map(|kind| kind.name()).collect();
        lines.push(format!("create the child in new namespaces: {}", names.join(", ")));
    }
    if let Some(relay) = &plan.birth.relay {
        lines.push(format!(
            "pass the command's messages on to its service manager at {}",
            printable(relay.manager.as_encoded_bytes())
        ));
    }
    lines.extend(plan.steps.iter().map(|one| step(one, plan)));
    if let Some(sets) = plan.sets {
        lines.extend(sets.rows().map(|(name, set)| format!("  the command's {name:<12} {}", names(set))));
    }
    if !plan.groups.is_empty() || plan.ending == Ending::WaitAll {
        lines.push(format!("when it has ended: {}", ending(plan)));
    }
    lines.extend(plan.notes.iter().map(|one| format!("note: {one}")));
    lines.extend(plan.waived.iter().map(|one| format!("not honoured: {one}")));
    lines.push(String::new());
    lines.join("\n")
}

/// What is done for the child to be born elsewhere.
fn abroad(plan: &Plan) -> impl Iterator<Item = String> {
    plan.birth.abroad.iter().map(|step| format!("{} while the child is created", step.words()))
}

/// For programs.
#[must_use]
pub fn json(plan: &Plan, host: &Host) -> Value {
    let groups: Vec<Value> = plan
        .groups
        .iter()
        .map(|group| {
            json!({
                "path": group.dir(),
                "version": group.version,
                "controllers": group.controllers.iter().map(|c| c.name()).collect::<Vec<_>>(),
                "why": group.why,
                "enable": group.enable.iter().map(|c| c.name()).collect::<Vec<_>>(),
                "aside": group.aside,
                "scope": group.scope.as_ref().map(|scope| json!({
                    "unit": group.parent.file_name().map(|name| name.to_string_lossy()),
                    "slice": scope.slice,
                    "user": scope.user,
                    "part_of": scope.part_of,
                })),
                "writes": group.writes,
            })
        })
        .collect();
    json!({
        "schema_version": 1,
        "layout": host.layout.name(),
        "groups": groups,
        "namespaces": plan.birth.new.kinds().map(|kind| kind.name()).collect::<Vec<_>>(),
        "steps": abroad(plan).chain(plan.steps.iter().map(|one| step(one, plan))).collect::<Vec<_>>(),
        "capabilities": plan.sets.map(crate::capabilities::json),
        "notes": plan.notes,
        "in_place": plan.in_place,
        "ending": ending(plan),
        "not_honoured": plan.waived,
    })
}
