//! The place that systemd gives to who asks: a scope in the caller's slice. Pure.

use std::path::Path;

use super::place::{Place, Refusal};
use crate::host::{Host, V2Node};
use crate::limits::Controller;
use crate::systemd::{Manager, Scope, is_unit};

/// The parent of a scope for a group with these controllers; `Place::parent` is its slice.
///
/// # Errors
/// The reasons.
pub fn offer(
    manager: &Manager,
    host: &Host,
    needed: &[Controller],
    allow_escape: bool,
) -> Result<Place, Refusal> {
    let refuse = |why: String, way_out: Option<String>| Err(Refusal { reasons: vec![why], way_out });
    if let Some(why) = &manager.silent {
        return refuse(why.clone(), None);
    }
    let missing: Vec<&str> =
        needed.iter().map(|c| c.name()).filter(|name| !manager.controllers.contains(*name)).collect();
    if !missing.is_empty() {
        let all = manager.controllers.iter().map(String::as_str).chain(missing.iter().copied());
        return refuse(
            format!("{} has not been given: {}", manager.dir.display(), missing.join(", ")),
            manager.user.then(|| {
                format!("as root: systemctl edit user@.service, and there [Service] Delegate={}", {
                    all.collect::<Vec<_>>().join(" ")
                })
            }),
        );
    }
    let chain = &host.v2_chain;
    // The nearest slice that is this systemd's: not of one that runs below it.
    let top = chain.iter().position(|node| node.dir == manager.dir).unwrap_or(0);
    let own = chain.get(..top).unwrap_or_default();
    let from = own.iter().rposition(|node| node.manager).map_or(0, |at| at + 1);
    let is_slice = |node: &V2Node| node.name().ends_with(".slice") && is_unit(node.name());
    let at = (from..own.len()).find(|at| own.get(*at).is_some_and(is_slice));
    let (slice, parent) = match at.and_then(|at| own.get(at)) {
        Some(node) => (node.name().to_owned(), node.dir.clone()),
        None => {
            let slice = if manager.user { "app.slice" } else { "system.slice" };
            (slice.to_owned(), manager.dir.join(slice))
        }
    };
    let unit = at.and_then(|at| own.get(at.checked_sub(1)?)).map(V2Node::name).filter(|name| is_unit(name));
    let left: Vec<String> = chain
        .iter()
        .filter(|node| !parent.starts_with(&node.dir))
        .flat_map(|node| node.limits.iter().map(move |limit| (node, limit)))
        .filter(|(_, limit)| !is_everybodys(limit, manager))
        .map(|(node, limit)| format!("{limit} on {}", node.dir.display()))
        .collect();
    if !left.is_empty() && !allow_escape {
        return refuse(
            format!("a scope in {slice} would leave limits that the caller is under: {}", left.join(", ")),
            unit.map(|unit| match Path::new(unit).extension() {
                Some(kind) if kind == "service" => format!(
                    "systemctl edit {unit}, and there [Service] Delegate=yes; or --allow-escape accepts that"
                ),
                _ => "--allow-escape accepts that".to_owned(),
            }),
        );
    }
    let part_of = unit.map(str::to_owned);
    Ok(Place {
        parent,
        enable: needed.to_vec(),
        step_aside: true,
        why: String::new(),
        scope: Some(Scope { user: manager.user, slice, part_of, description: String::new() }),
    })
}

/// A limit that nobody has set: each unit has it from the start, and so will the scope.
fn is_everybodys(limit: &str, manager: &Manager) -> bool {
    manager.tasks_max.is_some_and(|max| limit == format!("pids.max={max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(dir: &str, limits: &[&str]) -> V2Node {
        V2Node {
            dir: dir.into(),
            limits: limits.iter().map(|&limit| limit.to_owned()).collect(),
            ..V2Node::default()
        }
    }

    fn manager(dir: &str, user: bool) -> Manager {
        let controllers = ["memory", "pids"].map(str::to_owned).into();
        Manager { user, dir: dir.into(), controllers, tasks_max: Some(4000), silent: None }
    }

    fn offered(manager: &Manager, chain: Vec<V2Node>) -> Result<(String, Scope), Refusal> {
        let host = Host { v2_chain: chain, ..Host::default() };
        offer(manager, &host, &[Controller::Memory], false)
            .map(|place| (place.parent.display().to_string(), place.scope.unwrap()))
    }

    #[test]
    fn it_is_made_beside_the_service() {
        let chain = vec![
            node("/c/system.slice/a.service/x", &[]),
            node("/c/system.slice/a.service", &["pids.max=4000"]),
            node("/c/system.slice", &["memory.max=9"]),
            V2Node { manager: true, ..node("/c", &[]) },
        ];
        let (parent, scope) = offered(&manager("/c", false), chain.clone()).unwrap();
        assert_eq!((parent.as_str(), scope.slice.as_str()), ("/c/system.slice", "system.slice"));
        assert_eq!(scope.part_of.as_deref(), Some("a.service"));
        let mut limited = chain;
        limited[1].limits = vec!["memory.max=100".to_owned()];
        let refusal = offered(&manager("/c", false), limited).unwrap_err();
        assert!(refusal.reasons[0].contains("memory.max=100 on /c/system.slice/a.service"), "{refusal:?}");
        assert!(refusal.way_out.unwrap().contains("systemctl edit a.service"));
    }

    #[test]
    fn a_user_has_a_systemd_of_its_own() {
        let own = "/c/user.slice/user-7.slice/user@7.service";
        let session = vec![
            node("/c/user.slice/user-7.slice/session-2.scope", &[]),
            node("/c/user.slice/user-7.slice", &["pids.max=9"]),
            node("/c/user.slice", &[]),
            V2Node { manager: true, ..node("/c", &[]) },
        ];
        let (parent, scope) = offered(&manager(own, true), session).unwrap();
        assert_eq!((parent, scope.user, scope.part_of), (format!("{own}/app.slice"), true, None));
        // Root in a terminal of that user's asks the system's, which leaves all of it.
        let terminal = vec![
            node(&format!("{own}/app.slice/term.scope"), &[]),
            node(&format!("{own}/app.slice"), &[]),
            V2Node { manager: true, ..node(own, &["memory.max=5"]) },
            node("/c/user.slice/user-7.slice", &[]),
            node("/c/user.slice", &[]),
            V2Node { manager: true, ..node("/c", &[]) },
        ];
        assert!(
            offered(&manager("/c", false), terminal.clone()).unwrap_err().reasons[0].contains("memory.max=5")
        );
        let (parent, scope) = offered(&manager(own, true), terminal).unwrap();
        assert_eq!(parent, format!("{own}/app.slice"));
        assert_eq!(scope.part_of.as_deref(), Some("term.scope"));
    }
}
