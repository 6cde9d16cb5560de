//! Groups whose only use is that the kernel counts in them, for the report. A run goes without those that cannot
//! be had: the report then says why.

use super::placing::Placing;
use super::{GroupPlan, Version};
use crate::limits::Controller;
use crate::usage::Counting;

/// What a report tells about, besides CPU time.
pub(crate) const FIGURES: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Io];

impl Placing<'_> {
    /// Adds to the groups that the limits need what the report needs.
    pub(super) fn counting(&self, groups: &mut Vec<GroupPlan>) -> Counting {
        let mut counting = Counting::default();
        if !self.receipt.counts() {
            return counting;
        }
        let needed = groups.len();
        let layout = &self.host.layout;
        counting.layout = layout.name();
        let mut on_v2 = Vec::new();
        for controller in FIGURES {
            if groups.iter().any(|group| group.controllers.contains(&controller)) {
                continue;
            }
            match layout.v1_of(controller) {
                Some(hierarchy) => {
                    if let Err(error) = self.add_v1(groups, hierarchy, Some(controller)) {
                        counting.missing.push((controller, error.what));
                    }
                }
                None => on_v2.push(controller),
            }
        }
        if groups.iter().any(|group| group.version == Version::V2) {
            self.extend(groups, &on_v2, &mut counting);
        } else {
            self.add_v2_counters(groups, &on_v2, &mut counting);
        }
        for group in groups.iter_mut().skip(needed) {
            group.spare = true;
        }
        counting.blkio = layout.v1_of(Controller::Io).map(|hierarchy| hierarchy.mount.clone());
        counting
    }

    /// A v2 group for these controllers, or for as many as can be had; with none of them it still counts CPU time
    /// and pressure. Where that cannot be had either, v1 counts CPU time.
    fn add_v2_counters(&self, groups: &mut Vec<GroupPlan>, wanted: &[Controller], counting: &mut Counting) {
        // A report is no reason to leave a limit.
        let careful = Placing { allow_escape: false, ..*self };
        if careful.add_v2(groups, wanted).is_ok() {
            return;
        }
        match careful.add_v2(groups, &[]) {
            Ok(()) => self.extend(groups, wanted, counting),
            Err(error) => {
                counting.missing.extend(wanted.iter().map(|controller| (*controller, error.what.clone())));
                let cpuacct = self.host.layout.v1_of(Controller::Cpuacct);
                let added = cpuacct
                    .map(|hierarchy| self.add_v1(groups, hierarchy, Some(Controller::Cpuacct)))
                    .unwrap_or(Err(error));
                if let Err(error) = added {
                    counting.missing.push((Controller::Cpuacct, error.what));
                }
            }
        }
    }

    /// Lets the v2 group that is there have more controllers, as far as its parent may pass them on.
    fn extend(&self, groups: &mut [GroupPlan], wanted: &[Controller], counting: &mut Counting) {
        let Some(group) = groups.iter_mut().find(|group| group.version == Version::V2) else { return };
        if let (Some(_), Some(manager)) = (&group.scope, &self.host.manager) {
            let (has, lacks): (Vec<Controller>, Vec<_>) =
                wanted.iter().partition(|controller| manager.controllers.contains(controller.name()));
            for list in [&mut group.controllers, &mut group.optional, &mut group.enable] {
                list.extend(&has);
            }
            let why = format!("{} has not been given it", manager.dir.display());
            counting.missing.extend(lacks.into_iter().map(|controller| (controller, why.clone())));
            return;
        }
        let Some(parent) = self.host.v2_chain.iter().find(|node| node.dir == group.parent) else { return };
        for controller in wanted {
            let name = controller.name();
            let passed_on = parent.subtree.contains(name);
            // A group that passes controllers on may hold no process, the root excepted; we step aside already
            // or are not in it.
            let is_own = self.host.v2_chain.first() == Some(parent) && !self.given;
            let may = parent.real_root || (!parent.others && (!is_own || group.aside.is_some()));
            if passed_on || (parent.controllers.contains(name) && may) {
                group.controllers.push(*controller);
                group.optional.push(*controller);
                if !passed_on {
                    group.enable.push(*controller);
                }
            } else {
                let why = format!("{} does not pass on the {name} controller", parent.dir.display());
                counting.missing.push((*controller, why));
            }
        }
    }
}
