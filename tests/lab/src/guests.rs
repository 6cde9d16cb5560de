//! The guests: which kernels, cgroup layouts and users the promises are proved on.

/// A machine of the lab.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) machine: Machine,
    pub(crate) layout: Layout,
    /// Needs (tests/kernel/needs.rs) that are met here: if one is not, its cases fail instead of being skipped.
    pub(crate) must: &'static str,
    /// Modules that it runs where time is short, on top of [`EVERYWHERE`].
    pub(crate) share: &'static str,
}

/// Modules of cases that every guest runs. All others are spread, so that where time is short each runs
/// under one kernel with v1 and one with v2 at least, and where it belongs; `--all` runs everything everywhere.
const EVERYWHERE: &str = "harness basics refusals limits cost rights";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// The one that the lab runs on.
    Host,
    /// User-mode Linux: a kernel as a process.
    Uml,
    /// QEMU with Debian's cloud kernel, these words added to its command line.
    Qemu(Kernel, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    V6_1,
    V6_12,
}

/// What is mounted where, where in the tree the tests run, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As the machine is.
    Given,
    /// cgroup v2, the tests in its root.
    V2,
    /// cgroup v2, the tests in a group that has no limits, below the root.
    V2Leaf,
    /// Each v1 controller mounted by itself.
    V1Separate,
    /// v1 as systemd mounts it: cpu,cpuacct and net_cls,net_prio joined, with links, and name=systemd.
    V1Joined,
    /// Each v1 controller by itself, name=systemd, and a v2 hierarchy without controllers.
    Hybrid,
    /// Memory on v1, everything else on v2.
    Mixed,
    /// As in a container: a cgroup namespace below a group with limits; the tests in a leaf of it.
    Container,
    /// The same, the tests in the namespace's root itself, as a container's only process is.
    ContainerBusy,
    /// An ordinary user in a subtree that was delegated to it.
    Delegated,
    /// An ordinary user in a group of root's.
    Undelegated,
    /// cgroup v2, mounted read-only.
    ReadOnly,
    /// No cgroup file system at all.
    Nothing,
    /// Debian with systemd as init; the tests run as this kind of unit.
    Systemd(Unit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A service with MemoryMax and without delegation.
    Service,
    /// A service with Delegate=yes.
    Delegate,
    /// A service that a timer starts.
    Timer,
    /// `systemd-run --user` in a user's session.
    User,
}

const V2_ALL: &str = "lab root v2:cpu v2:memory v2:pids v2:io v2:cpuset v2:hugetlb v2:misc cgroup-kill userns overlay \
    swap disk psi cpus:2";
const V1_ALL: &str = "lab root v1:cpu v1:memory v1:pids v1:blkio v1:cpuset v1:freezer v1:devices v1:hugetlb \
    no-v2:memory userns overlay swap disk cpus:2";

pub(crate) static GUESTS: &[Guest] = &[
    Guest {
        name: "host",
        what: "this machine, as it is",
        machine: Machine::Host,
        layout: Layout::Given,
        must: "host",
        share: "",
    },
    Guest {
        name: "uml-v2",
        what: "User-mode Linux 6.1, cgroup v2: cpu, memory, pids, io",
        machine: Machine::Uml,
        layout: Layout::V2,
        must: "lab root v2:cpu v2:memory v2:pids v2:io cgroup-kill userns disk",
        share: "memory io cpu shared set",
    },
    Guest {
        name: "6.1-v2",
        what: "cgroup v2 alone, every controller, tests in the root group",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::V2,
        must: V2_ALL,
        share: "anywhere orphans",
    },
    Guest {
        name: "6.12-v2",
        what: "the same on 6.12",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::V2,
        must: V2_ALL,
        share: "privileges cage escape notify image cpuset io profiles bare",
    },
    Guest {
        name: "6.12-v2-leaf",
        what: "cgroup v2 alone, tests in a group of their own below the root",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::V2Leaf,
        must: V2_ALL,
        share: "cleanup memory cpu shared attach exec freeze",
    },
    Guest {
        name: "6.1-v1",
        what: "cgroup v1 alone, each controller mounted by itself",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::V1Separate,
        must: V1_ALL,
        share: "cleanup memory cpu cpuset shared io jobs delegated",
    },
    Guest {
        name: "6.1-v1-joined",
        what: "cgroup v1 alone, cpu,cpuacct joined, with links",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::V1Joined,
        must: V1_ALL,
        share: "figures receipt diagnosis bare orphans",
    },
    Guest {
        name: "6.1-hybrid",
        what: "controllers on v1, and a v2 hierarchy without any beside them",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Hybrid,
        must: "lab root hybrid v1:cpu v1:memory v1:pids v1:blkio no-v2:memory cgroup-kill",
        share: "anywhere",
    },
    Guest {
        name: "6.1-mixed",
        what: "memory on v1, everything else on v2",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Mixed,
        must: "lab root hybrid v1:memory no-v2:memory v2:cpu v2:pids v2:io v2:cpuset",
        share: "control set attach freeze exec hints",
    },
    Guest {
        name: "6.12-v1",
        what: "cgroup v1 alone on 6.12, which has no memory and no cpuset there",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::V1Separate,
        must: "lab root v1:cpu v1:pids v1:blkio no-controller:memory no-controller:cpuset",
        share: "escape notify cpu io",
    },
    Guest {
        name: "6.1-container",
        what: "a cgroup namespace below a group with limits, its root free of processes",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Container,
        must: "lab root v2:cpu v2:memory v2:pids",
        share: "figures receipt diagnosis hints",
    },
    Guest {
        name: "6.12-container-busy",
        what: "the same, with processes in the namespace's root",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::ContainerBusy,
        must: "lab root no-place:memory no-place:cpu",
        share: "weaker",
    },
    Guest {
        name: "6.1-user-delegated",
        what: "an ordinary user with a delegated subtree",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Delegated,
        must: "lab non-root v2:cpu v2:memory v2:pids userns",
        share: "ordinary cpu memory",
    },
    Guest {
        name: "6.12-user",
        what: "an ordinary user without one",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::Undelegated,
        must: "lab non-root no-place:memory userns",
        share: "ordinary image weaker",
    },
    Guest {
        name: "6.1-read-only",
        what: "cgroup v2 mounted read-only",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::ReadOnly,
        must: "lab root read-only-cgroupfs",
        share: "",
    },
    Guest {
        name: "6.12-no-cgroupfs",
        what: "no cgroup file system mounted",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::Nothing,
        must: "lab root no-cgroupfs",
        share: "receipt",
    },
    Guest {
        name: "6.1-no-memory",
        what: "cgroup v2 with the memory controller switched off at boot",
        machine: Machine::Qemu(Kernel::V6_1, "cgroup_disable=memory"),
        layout: Layout::V2,
        must: "lab root no-controller:memory v2:cpu v2:pids v2:io",
        share: "control set freeze",
    },
    Guest {
        name: "systemd-service",
        what: "systemd: a service with MemoryMax, not delegated",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Systemd(Unit::Service),
        must: "lab root systemd no-place:memory no-place:pids",
        share: "systemd notify",
    },
    Guest {
        name: "systemd-delegate",
        what: "systemd: a service with Delegate=yes",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Systemd(Unit::Delegate),
        must: "lab root systemd v2:cpu v2:memory v2:pids sudo:tty sudo:pty",
        share: "systemd containers jobs sudo",
    },
    Guest {
        name: "systemd-timer",
        what: "systemd: a service started by a timer",
        machine: Machine::Qemu(Kernel::V6_12, ""),
        layout: Layout::Systemd(Unit::Timer),
        must: "lab root systemd scope v2:cpu v2:memory v2:pids",
        share: "systemd containers",
    },
    Guest {
        name: "systemd-user",
        what: "systemd: an ordinary user's session, systemd-run --user",
        machine: Machine::Qemu(Kernel::V6_1, ""),
        layout: Layout::Systemd(Unit::User),
        must: "lab non-root systemd scope v2:cpu v2:memory v2:pids sudo:tty sudo:pty",
        share: "systemd sudo",
    },
];

impl Guest {
    pub(crate) fn named(name: &str) -> Option<&'static Guest> {
        GUESTS.iter().find(|guest| guest.name == name)
    }

    pub(crate) fn has_systemd(&self) -> bool {
        matches!(self.layout, Layout::Systemd(_))
    }

    /// The modules that it runs where time is short.
    pub(crate) fn modules(&self) -> String {
        format!("{EVERYWHERE} {}", self.share)
    }

    /// The user that the tests run as.
    pub(crate) fn is_ordinary_user(&self) -> bool {
        matches!(self.layout, Layout::Delegated | Layout::Undelegated | Layout::Systemd(Unit::User))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        for (index, guest) in GUESTS.iter().enumerate() {
            assert!(
                GUESTS[..index].iter().all(|other| other.name != guest.name),
                "{} is there twice",
                guest.name
            );
            assert!(guest.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
            assert_eq!(
                guest.must.split(' ').any(|word| word == "lab"),
                guest.machine != Machine::Host,
                "{}",
                guest.name
            );
        }
    }
}
