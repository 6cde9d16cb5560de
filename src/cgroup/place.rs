//! Where a group goes in the v2 tree. Pure.
//!
//! The order of choices, and why: a group below the caller's own can never leave a limit that the caller is
//! under; anything further up might. Source: cgroup-v2.rst, "No Internal Process Constraint" and "Delegation".

use std::path::PathBuf;

use super::scope;
use crate::host::{Host, V2Node};
use crate::limits::Controller;
use crate::systemd::Scope;

/// A place in the v2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The parent's directory.
    pub parent: PathBuf,
    /// Controllers to add to the parent's `cgroup.subtree_control`.
    pub enable: Vec<Controller>,
    /// The caller must first leave the parent for a leaf of its own, because a group that passes controllers
    /// on may hold no process.
    pub step_aside: bool,
    /// Why this place and none before it.
    pub why: String,
    /// systemd makes it first, in `parent`.
    pub scope: Option<Scope>,
}

/// Why there is no place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence for each choice that was looked at.
    pub reasons: Vec<String>,
    /// What helps, where something does.
    pub way_out: Option<String>,
}

impl From<Vec<String>> for Refusal {
    fn from(reasons: Vec<String>) -> Self {
        Self { reasons, way_out: None }
    }
}

/// Chooses the parent of a v2 group that needs these controllers, or a scope of systemd's where there is none.
///
/// # Errors
/// The reasons.
pub fn choose(host: &Host, needed: &[Controller], allow_escape: bool, given: bool) -> Result<Place, Refusal> {
    let refusal = match in_tree(host, needed, allow_escape, given) {
        Err(refusal) if !given => refusal,
        result => return result,
    };
    let Some(manager) = &host.manager else { return Err(refusal) };
    match scope::offer(manager, host, needed, allow_escape) {
        Ok(place) => {
            let why = format!("in a scope that systemd makes for it: {}", refusal.reasons.join("; "));
            Ok(Place { why, ..place })
        }
        Err(Refusal { reasons, way_out }) => Err(Refusal {
            reasons: [refusal.reasons, reasons].concat(),
            way_out: way_out.or(refusal.way_out),
        }),
    }
}

/// Chooses among the groups that are there.
fn in_tree(host: &Host, needed: &[Controller], allow_escape: bool, given: bool) -> Result<Place, Refusal> {
    let mut reasons = Vec::new();
    let Some((own, above)) = host.v2_chain.split_first() else {
        return Err(match host.layout.v2.as_ref().map(|h| (&h.own, &h.mount)) {
            Some((Err(why), mount)) => Refusal {
                reasons: vec![why.clone()],
                way_out: Some(format!(
                    "a cgroup namespace of its own for this container; or --cgroup-parent / for the group that {} shows",
                    mount.display()
                )),
            },
            _ => vec!["no cgroup v2 hierarchy is mounted".to_owned()].into(),
        });
    };
    if let Some(root) = host.v2_chain.last() {
        for controller in needed {
            if !root.controllers.contains(controller.name()) {
                reasons.push(format!(
                    "the {} controller is not available in {} (it offers: {})",
                    controller.name(),
                    root.dir.display(),
                    root.controllers.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
                ));
            }
        }
        if !reasons.is_empty() {
            return Err(reasons.into());
        }
    }
    let place = |node: &V2Node, step_aside: bool, why: &str| Place {
        parent: node.dir.clone(),
        enable: needed.iter().copied().filter(|c| !node.subtree.contains(c.name())).collect(),
        step_aside,
        why: why.to_owned(),
        scope: None,
    };
    match unfit(host, own, needed) {
        Some(why) => reasons.push(why),
        None if given => return Ok(place(own, false, "--cgroup-parent names it")),
        None if own.real_root => return Ok(place(own, false, "the caller is in the root group")),
        None if needed.iter().all(|c| own.subtree.contains(c.name())) => {
            return Ok(place(own, false, "it is the caller's own group"));
        }
        None => return Ok(place(own, true, "the caller's own group holds nobody else")),
    }
    if given {
        return Err(reasons.into());
    }
    let mut crossed: Vec<String> = limits_of(own);
    for node in above {
        if let Some(why) = unfit(host, node, needed) {
            reasons.push(why);
        } else if crossed.is_empty() || allow_escape {
            return Ok(place(node, false, "it is the nearest group above the caller that may have children"));
        } else {
            reasons.push(format!(
                "a group in {} would leave limits that the caller is under: {} (--allow-escape accepts that)",
                node.dir.display(),
                crossed.join(", ")
            ));
            return Err(reasons.into());
        }
        crossed.extend(limits_of(node));
    }
    Err(Refusal { reasons, way_out: empty_it(host, own, needed) })
}

/// The parent of a shared group that is there already.
///
/// # Errors
/// It cannot be given these controllers any more.
pub fn beside(node: &V2Node, needed: &[Controller]) -> Result<Place, Refusal> {
    if !node.can_parent(needed) {
        let names: Vec<&str> = needed.iter().map(|c| c.name()).collect();
        return Err(vec![format!(
            "the shared group is in {}, which cannot give it: {} (start the first run in it with that limit)",
            node.dir.display(),
            names.join(", ")
        )]
        .into());
    }
    Ok(Place {
        parent: node.dir.clone(),
        enable: needed.iter().copied().filter(|c| !node.subtree.contains(c.name())).collect(),
        step_aside: false,
        why: "the shared group is there".to_owned(),
        scope: None,
    })
}

/// A container's only group holds its processes: what its init can do about that, as docker's own image does.
fn empty_it(host: &Host, own: &V2Node, needed: &[Controller]) -> Option<String> {
    let busy = own.writable && own.others && !host.systemd && !own.can_parent(needed);
    let has = needed.iter().all(|c| own.controllers.contains(c.name()));
    let dir = crate::error::printable(own.dir.as_os_str().as_encoded_bytes());
    (busy && has).then(|| {
        format!("first move its processes to a leaf: mkdir {dir}/init && xargs -rn1 <{dir}/cgroup.procs >{dir}/init/cgroup.procs")
    })
}

fn limits_of(node: &V2Node) -> Vec<String> {
    node.limits.iter().map(|limit| format!("{limit} on {}", node.dir.display())).collect()
}

/// Why this group cannot be a parent; nothing if it can.
pub(crate) fn unfit(host: &Host, node: &V2Node, needed: &[Controller]) -> Option<String> {
    let dir = node.dir.display();
    let missing = |set: &std::collections::BTreeSet<String>| {
        needed.iter().filter(|c| !set.contains(c.name())).map(|c| c.name()).collect::<Vec<_>>().join(", ")
    };
    if !node.writable {
        return Some(format!("{dir} is not ours to write"));
    }
    if node.kind.contains("threaded") || node.kind.contains("invalid") {
        return Some(format!("{dir} is a threaded group ({})", node.kind));
    }
    if host.systemd && !node.delegated {
        return Some(format!("{dir} belongs to systemd, which has not delegated it"));
    }
    if needed.iter().any(|c| !node.controllers.contains(c.name())) {
        return Some(format!("{dir} has not been given: {}", missing(&node.controllers)));
    }
    if !node.can_parent(needed) {
        return Some(format!(
            "{dir} holds processes, so it cannot pass on: {} (the kernel allows that only for groups without processes)",
            missing(&node.subtree)
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::layout::Layout;

    fn node(dir: &str, controllers: &str, subtree: &str) -> V2Node {
        let set = |words: &str| words.split_whitespace().map(str::to_owned).collect();
        V2Node {
            dir: dir.into(),
            controllers: set(controllers),
            subtree: set(subtree),
            writable: true,
            kind: "domain".to_owned(),
            ..V2Node::default()
        }
    }

    fn host(chain: Vec<V2Node>) -> Host {
        let layout = Layout::parse(b"1 2 0:3 / /c rw - cgroup2 c rw\n", b"0::/\n");
        Host { layout, v2_chain: chain, ..Host::default() }
    }

    const MEMORY: &[Controller] = &[Controller::Memory];

    #[test]
    fn the_real_root_is_used_and_gets_what_it_lacks() {
        let root = V2Node { real_root: true, others: false, ..node("/c", "cpu memory", "cpu") };
        let place = choose(&host(vec![root]), MEMORY, false, false).unwrap();
        assert_eq!((place.enable.as_slice(), place.step_aside), (MEMORY, false));
    }

    #[test]
    fn alone_in_our_group_we_step_aside() {
        let chain = vec![node("/c/a", "memory", ""), node("/c", "memory", "memory")];
        let place = choose(&host(chain), MEMORY, false, false).unwrap();
        assert_eq!((place.parent.to_str(), place.step_aside), (Some("/c/a"), true));
    }

    #[test]
    fn a_limit_is_never_left_unasked() {
        let mut own = V2Node { others: true, ..node("/c/a", "memory", "") };
        let root = V2Node { real_root: true, ..node("/c", "memory", "memory") };
        let free = choose(&host(vec![own.clone(), root.clone()]), MEMORY, false, false).unwrap();
        assert_eq!(free.parent.to_str(), Some("/c"));
        own.limits = vec!["memory.max=1".to_owned()];
        let host = host(vec![own, root]);
        let refusal = choose(&host, MEMORY, false, false).unwrap_err();
        assert!(refusal.reasons.last().unwrap().contains("memory.max=1 on /c/a"), "{refusal:?}");
        assert!(choose(&host, MEMORY, true, false).is_ok());
    }

    #[test]
    fn what_systemd_has_not_delegated_is_left_alone() {
        let root = V2Node { real_root: true, ..node("/c", "memory", "memory") };
        let mut host = host(vec![root]);
        host.systemd = true;
        assert!(choose(&host, MEMORY, true, false).unwrap_err().reasons[0].contains("systemd"));
        host.v2_chain[0].delegated = true;
        assert!(choose(&host, MEMORY, false, false).is_ok());
    }
}
