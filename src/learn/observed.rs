//! The kernel's own words, line by line, become an account of which capabilities were asked for, by whom, and
//! with what answer. Pure.
//!
//! A command name is at most 15 bytes and may hold anything, line ends included; what we go by stands behind it
//! and is longer than that.

use std::collections::{BTreeMap, BTreeSet};

use crate::capabilities::Mask;
use crate::error::printable;

/// What the child writes into the trace just before it executes the command.
pub(super) const MARK: &str = "rcon: from here on it is the command";

/// The bit of cap_capable's options that says: a probe, leave no trace of it (CAP_OPT_NOAUDIT).
const NOAUDIT: u32 = 1 << 1;

/// How often a command asked for a capability: capability, command, count.
pub(super) type Tally = BTreeMap<(u8, String), u64>;

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// Granted.
    pub(super) granted: Tally,
    /// Refused.
    pub(super) refused: Tally,
    /// Only looked at: the kernel would have gone on without it in the same way, or nearly.
    pub(super) probed: Tally,
    /// Asked of whoever mounted the overlay in which the command worked, not of the command.
    pub(super) of_mounter: Tally,
    /// Asked while the kernel was in overlayfs, and not judged yet: of whom is told by the credentials.
    in_overlay: BTreeMap<(String, bool, u8, String), u64>,
    /// Credentials of those who mounted overlays.
    mounters: BTreeSet<String>,
    /// Events that the kernel had no room for.
    pub(super) lost: u64,
    /// The command has begun.
    begun: bool,
    /// Checks in the command's own user namespace are against this one.
    namespace: Option<String>,
    /// What each task is called.
    names: BTreeMap<i32, String>,
    /// The check of each task that is not judged yet.
    pending: BTreeMap<i32, Check>,
    /// The stack trace that is being read.
    stack: Option<(i32, Vec<String>)>,
}

/// One question to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Check {
    command: String,
    /// The address of the credentials that are asked, or what the kernel shows in place of it.
    credentials: String,
    namespace: String,
    capability: u8,
    options: u32,
    stack: Vec<String>,
    answer: Option<i32>,
}

impl Observed {
    /// The capabilities that were granted.
    #[must_use]
    pub(super) fn needed(&self) -> Mask {
        self.granted.keys().fold(0, |mask, (capability, _)| mask | 1 << capability)
    }

    /// Takes the next line of `trace_pipe`.
    pub(super) fn line(&mut self, line: &str) {
        if let (Some((_, frames)), Some(frame)) = (&mut self.stack, line.strip_prefix(" => ")) {
            frames.push(frame.split(['+', ' ']).next().unwrap_or_default().to_owned());
            return;
        }
        self.end_of_stack();
        if let Some(count) = lost(line) {
            self.lost += count;
            return;
        }
        let Some(Event { pid, command, words }) = Event::parse(line) else { return };
        if self.name(pid, words) {
            return;
        }
        let command = self.names.get(&pid).cloned().unwrap_or(command);
        if !self.begun {
            self.begun =
                words.strip_prefix("tracing_mark_write: ").is_some_and(|text| text.trim_end() == MARK);
            return;
        }
        if words.starts_with("<stack trace>") {
            self.stack = Some((pid, Vec::new()));
        } else if let Some(fields) = words.strip_prefix("cap_capable: ") {
            // The tracepoint: question and answer in one.
            self.ask(pid, command, Fields::Tracepoint(fields));
        } else if let Some(fields) = words.strip_prefix("ask: ") {
            self.ask(pid, command, Fields::Probe(fields));
        } else if let Some(fields) = words.strip_prefix("answer: ")
            && let Some(mut check) = self.pending.remove(&pid)
        {
            check.answer = Fields::Probe(fields).number("ret").and_then(|answer| answer.parse().ok());
            self.judge(check);
        }
    }

    /// There will be no more lines.
    pub(super) fn end(&mut self) {
        self.end_of_stack();
        for (_, check) in std::mem::take(&mut self.pending) {
            self.judge(check);
        }
        for ((credentials, granted, capability, command), count) in std::mem::take(&mut self.in_overlay) {
            let tally = match granted {
                _ if self.mounters.contains(&credentials) => &mut self.of_mounter,
                true => &mut self.granted,
                false => &mut self.refused,
            };
            *tally.entry((capability, command)).or_default() += count;
        }
    }

    /// Takes the name of a new task, or a task's new name.
    fn name(&mut self, pid: i32, words: &str) -> bool {
        let (text, key, end) =
            match (words.strip_prefix("task_newtask: "), words.strip_prefix("task_rename: ")) {
                (Some(text), _) => (text, " comm=", " clone_flags="),
                (_, Some(text)) => (text, "newcomm=", " oom_score_adj="),
                _ => return false,
            };
        let of = text
            .strip_prefix("pid=")
            .and_then(|text| text.split(' ').next())
            .and_then(|pid| pid.parse().ok());
        if let Some((_, name)) = text.split_once(key) {
            let name = name.rsplit_once(end).map_or(name, |(name, _)| name);
            self.names.insert(of.unwrap_or(pid), printable(name.as_bytes()));
        }
        true
    }

    fn ask(&mut self, pid: i32, command: String, fields: Fields) {
        let number = |name| fields.number(name);
        let Some(capability) = number("cap").and_then(|word| word.parse().ok()) else { return };
        let check = Check {
            command,
            // Always there: the trace point tells them, and our own probe fetches them.
            credentials: number("cred").unwrap_or_default().to_owned(),
            namespace: number("target_ns").or(number("ns")).unwrap_or_default().to_owned(),
            capability,
            options: number("opts").and_then(hexadecimal).unwrap_or_default(),
            stack: Vec::new(),
            answer: number("ret").and_then(|word| word.parse().ok()),
        };
        if let Some(before) = self.pending.insert(pid, check) {
            self.judge(before);
        }
    }

    fn end_of_stack(&mut self) {
        let Some((pid, frames)) = self.stack.take() else { return };
        let Some(check) = self.pending.get_mut(&pid) else { return };
        check.stack = frames;
        if check.answer.is_some()
            && let Some(check) = self.pending.remove(&pid)
        {
            self.judge(check);
        }
    }

    fn judge(&mut self, check: Check) {
        // The child's own question, right after the mark: it tells the command's user namespace.
        let Some(namespace) = &self.namespace else {
            self.namespace = Some(check.namespace);
            return;
        };
        // In a user namespace that it made itself it has everything anyhow.
        if check.namespace != *namespace {
            return;
        }
        let Some(granted) = check.answer.map(|answer| answer == 0) else { return };
        let tally = if check.is_in_layer() {
            self.mounters.insert(check.credentials);
            &mut self.of_mounter
        } else if check.is_probe() {
            &mut self.probed
        } else if check.is_in_overlay() {
            let key = (check.credentials, granted, check.capability, check.command);
            *self.in_overlay.entry(key).or_default() += 1;
            return;
        } else if granted {
            &mut self.granted
        } else {
            &mut self.refused
        };
        *tally.entry((check.capability, check.command)).or_default() += 1;
    }
}

impl Check {
    /// Does nothing hang on the answer but what the kernel does about it in silence? By the options where they
    /// are told, and by the functions that pass NOAUDIT, which stand next to cap_capable on the stack.
    fn is_probe(&self) -> bool {
        let near = || self.stack.iter().take(6);
        // Without no_new_privs a filter needs sys_admin: asked quietly, but the answer decides.
        if near().any(|frame| frame.starts_with("seccomp_") || frame.contains("do_seccomp")) {
            return false;
        }
        self.options & NOAUDIT != 0
            || near().any(|frame| frame.contains("_noaudit") || frame.contains("vm_enough_memory"))
    }

    /// Was it asked by overlayfs? That asks the command whether it may do what it does (permissions, a change of
    /// owner), and whoever mounted the overlay for all that it then does in the layers (overlayfs.rst, "Permission
    /// model"), such as to read its `trusted.overlay.*` attributes, which takes his sys_admin, or to copy a file up.
    /// While an overlay is mounted the two are one.
    fn is_in_overlay(&self) -> bool {
        self.stack.iter().any(|frame| frame.starts_with("ovl_"))
            && !self.stack.iter().any(|frame| frame == "ovl_fill_super" || frame == "ovl_get_tree")
    }

    /// Was it asked by the file system of a layer? That is always about whoever mounted the overlay, so that his
    /// credentials are known from then on: a copy that overlayfs made for itself, which is no task's own.
    fn is_in_layer(&self) -> bool {
        const LAYER: [&str; 4] = ["vfs_", "__vfs_", "inode_permission", "notify_change"];
        let pairs = self.stack.iter().zip(self.stack.iter().skip(1));
        let enters = |(callee, caller): (&String, &String)| {
            caller.starts_with("ovl_") && LAYER.iter().any(|start| callee.starts_with(start))
        };
        self.is_in_overlay() && { pairs }.any(enters)
    }
}

/// The fields of an event: `cap 10, ret 0` or `cap=10 ret=0`.
#[derive(Clone, Copy)]
enum Fields<'a> {
    Tracepoint(&'a str),
    Probe(&'a str),
}

impl<'a> Fields<'a> {
    fn number(self, name: &str) -> Option<&'a str> {
        match self {
            Self::Tracepoint(text) => {
                text.split(", ").find_map(|field| field.trim().strip_prefix(name)?.strip_prefix(' '))
            }
            Self::Probe(text) => {
                text.split(' ').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
            }
        }
    }
}

fn hexadecimal(word: &str) -> Option<u32> {
    u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// `CPU:1 [LOST 12 EVENTS]`.
fn lost(line: &str) -> Option<u64> {
    line.strip_prefix("CPU:")?.split_once("[LOST ")?.1.strip_suffix(" EVENTS]")?.parse().ok()
}

/// The part that all events have: `command-PID [CPU] flags time: words`.
struct Event<'a> {
    pid: i32,
    command: String,
    words: &'a str,
}

impl<'a> Event<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // The command may hold brackets and colons too, but nothing behind the CPU holds another bracket before
        // the time; so the last ` [NNN] ` that is followed by a time is the CPU.
        let (head, rest) = line.rmatch_indices(" [").find_map(|(at, _)| {
            let (cpu, rest) = line.get(at + 2..)?.split_once("] ")?;
            let time = rest.split_whitespace().nth(1)?.strip_suffix(':')?;
            let numeric =
                |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            (numeric(cpu) && numeric(time)).then_some((line.get(..at)?, rest))
        })?;
        let words = rest.split_once(": ")?.1;
        let (command, pid) = head.trim_end().rsplit_once('-')?;
        Some(Self { pid: pid.parse().ok()?, command: printable(command.trim_start().as_bytes()), words })
    }
}

/// Our own number, as the kernel counts, from the line of a mark that we wrote.
pub(super) fn own_pid(trace: &str, mark: &str) -> Option<i32> {
    trace
        .lines()
        .filter_map(Event::parse)
        .find(|event| event.words.trim_end().ends_with(mark))
        .map(|event| event.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "           <...>-7       [000] ..... 1.000000: tracing_mark_write: rcon: from here on it is the command
           <...>-7       [000] ..... 1.000001: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 8, ret 0
           <...>-7       [000] ..... 1.000002: <stack trace>
 => cap_capable
 => security_capable
 => ns_capable
";

    fn observe(text: &str) -> Observed {
        let mut out = Observed::default();
        text.lines().for_each(|line| out.line(line));
        out.end();
        out
    }

    fn tally(entries: &[(u8, &str, u64)]) -> Tally {
        entries.iter().map(|(cap, command, count)| ((*cap, (*command).to_owned()), *count)).collect()
    }

    #[test]
    fn the_tracepoint_of_6_18() {
        let seen = observe(&format!(
            "            bash-6       [001] ..... 0.9: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 0, ret 0
{HEAD}          server-7       [000] ..... 2.000000: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 10, ret 0
           other-8       [001] ..... 2.000001: cap_capable: cred 02, target_ns aa, capable_ns (null), cap 24, ret -1
          server-7       [000] ..... 2.000002: <stack trace>
 => trace_event_raw_event_cap_capable
 => cap_capable
 => security_capable
 => ns_capable
 => inet_bind
           other-8       [001] ..... 2.000003: <stack trace>
 => cap_capable
 => security_capable
 => capable
 => do_prlimit
CPU:1 [LOST 12 EVENTS]
          server-7       [000] ..... 3.000000: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 21, ret 0
          server-7       [000] ..... 3.000001: <stack trace>
 => cap_capable
 => security_vm_enough_memory_mm
 => dup_mmap
          server-7       [000] ..... 4.000000: cap_capable: cred 01, target_ns bb, capable_ns bb, cap 1, ret 0
          server-7       [000] ..... 4.000001: <stack trace>
 => cap_capable
"
        ));
        assert_eq!(seen.granted, tally(&[(10, "server", 1)]));
        assert_eq!(seen.refused, tally(&[(24, "other", 1)]));
        assert_eq!(seen.probed, tally(&[(21, "server", 1)]));
        assert_eq!((seen.needed(), seen.lost), (1 << 10, 12));
    }

    #[test]
    fn the_probes_of_older_kernels() {
        let seen = observe(
            "  <...>-7 [000] ..... 1.0: tracing_mark_write: rcon: from here on it is the command
  <...>-7 [000] ..... 1.1: ask: (cap_capable+0x0/0x70) ns=0xffffffff8286ae60 cap=8 opts=0x0
  <...>-7 [000] ..... 1.2: answer: (security_capable+0x3c/0x60 <- cap_capable) ret=-1
  srv-7 [000] ..... 1.3: ask: (cap_capable+0x0/0x70) ns=0xffffffff8286ae60 cap=10 opts=0x0
  srv-7 [000] ..... 1.3: <stack trace>
 => cap_capable
 => security_capable
 => inet_bind
  srv-7 [000] ..... 1.4: answer: (security_capable+0x3c/0x60 <- cap_capable) ret=0
  srv-7 [000] ..... 1.5: ask: (cap_capable+0x0/0x70) ns=0xffffffff8286ae60 cap=21 opts=0x2
  srv-7 [000] ..... 1.6: answer: (cap_vm_enough_memory+0x20/0x50 <- cap_capable) ret=0
  srv-7 [000] ..... 1.7: ask: (cap_capable+0x0/0x70) ns=0xffffffff8286ae60 cap=21 opts=0x2
  srv-7 [000] ..... 1.7: <stack trace>
 => cap_capable
 => ns_capable_noaudit
 => seccomp_prepare_filter
  srv-7 [000] ..... 1.8: answer: (security_capable+0x3c/0x60 <- cap_capable) ret=0
",
        );
        assert_eq!(seen.granted, tally(&[(10, "srv", 1), (21, "srv", 1)]));
        assert_eq!((seen.probed, seen.refused), (tally(&[(21, "srv", 1)]), Tally::new()));
    }

    #[test]
    fn what_an_overlay_does_in_its_layers_is_its_mounters() {
        let judged = |checks: &[(u8, &str, &[&str])]| {
            let lines = checks.iter().map(|(capability, cred, frames)| {
                let stack: String = frames.iter().map(|frame| format!(" => {frame}\n")).collect();
                format!(
                    "  srv-7 [000] ..... 2.0: cap_capable: cred {cred}, target_ns aa, capable_ns aa, cap {capability}, ret 0
  srv-7 [000] ..... 2.1: <stack trace>
 => cap_capable
 => security_capable
 => capable
{stack} => do_syscall_64
"
                )
            });
            observe(&lines.fold(HEAD.to_owned(), |text, line| text + &line))
        };
        let layers: [(u8, &str, &[&str]); 3] = [
            (
                21,
                "99",
                &["vfs_getxattr", "ovl_path_getxattr [overlay]", "ovl_lookup [overlay]", "path_openat"],
            ),
            (1, "99", &["generic_permission", "inode_permission", "ovl_permission", "link_path_walk"]),
            (0, "99", &["setattr_prepare", "ext4_setattr", "notify_change", "ovl_setattr", "notify_change"]),
        ];
        for check in layers {
            let seen = judged(&[check]);
            assert_eq!((seen.needed(), &seen.of_mounter), (0, &tally(&[(check.0, "srv", 1)])), "{check:?}");
        }
        let own: [(u8, &str, &[&str]); 5] = [
            (21, "01", &["xattr_permission", "vfs_getxattr", "do_getxattr"]),
            (1, "01", &["generic_permission", "ovl_permission", "inode_permission"]),
            (0, "01", &["setattr_prepare", "ovl_setattr", "notify_change", "chown_common"]),
            (21, "01", &["ovl_xattr_set", "__vfs_setxattr", "vfs_setxattr"]),
            (21, "01", &["vfs_getxattr", "ovl_make_workdir", "ovl_fill_super", "vfs_get_tree"]),
        ];
        for check in own {
            for checks in [&[check][..], &[check, layers[0]]] {
                let seen = judged(checks);
                assert_eq!(seen.granted, tally(&[(check.0, "srv", 1)]), "{checks:?}");
            }
        }
        // Overlayfs itself asks with the mounter's credentials, before and after they are known.
        let direct: (u8, &str, &[&str]) = (2, "99", &["ovl_can_decode_fh", "ovl_copy_up_one", "ovl_setattr"]);
        let seen = judged(&[direct, layers[0], direct]);
        assert_eq!((seen.needed(), seen.of_mounter), (0, tally(&[(2, "srv", 2), (21, "srv", 1)])));
        assert_eq!(judged(&[direct]).needed(), 1 << 2, "not known whose they are: counted");
    }

    #[test]
    fn the_name_is_that_of_the_moment() {
        let seen = observe(&format!(
            "{HEAD}  true-7 [000] ..... 2.0: task_newtask: pid=9 comm=sh clone_flags=1200000 oom_score_adj=0
  true-9 [000] ..... 2.1: task_rename: pid=9 oldcomm=sh newcomm=a b oom_score_adj=0
  true-9 [000] ..... 2.2: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 18, ret 0
  true-9 [000] ..... 2.3: task_rename: oldcomm=a b newcomm=true oom_score_adj=0
  true-9 [000] ..... 2.4: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 0, ret 0
"
        ));
        assert_eq!(seen.granted, tally(&[(0, "true", 1), (18, "a b", 1)]));
    }

    #[test]
    fn hostile_command_names_stay_names() {
        for name in ["x-1 [000] .", "a: b", "-", "cap_capable: ", "] [", "\u{1b}[2J"] {
            let seen = observe(&format!(
                "{HEAD}  {name}-7 [000] ..... 2.0: cap_capable: cred 01, target_ns aa, capable_ns aa, cap 10, ret 0\n"
            ));
            assert_eq!(seen.needed(), 1 << 10, "{name}");
            assert!(seen.granted.keys().all(|(_, command)| !command.contains('\u{1b}')));
        }
        let line = "   x-1 [000] .-4321 [001] ..... 2.0: tracing_mark_write: where am I";
        assert_eq!(own_pid(line, "where am I"), Some(4321));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".*\n.*\n => .*\nx-1 .0. . 1.0: .*") {
            observe(&text);
            observe(&format!("{HEAD}{text}"));
        }
    }
}
