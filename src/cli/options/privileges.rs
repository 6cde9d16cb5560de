//! Options of capabilities and identity, and the original capcon's spellings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use caps::Capability;

use super::{Apply, DETAIL, Opt, PRIVILEGES, Takes};
use crate::capabilities::{self, List};
use crate::cli::{Args, Format, text};
use crate::identity::{self, Who};
use crate::learn::Learn;

/// One of the original's switches.
macro_rules! legacy {
    ($name:literal, $capability:ident) => {
        row($name, Takes::Nothing, None, "The same as --allow with this capability", |args, _| {
            let named = 1 << Capability::$capability as u8;
            args.privileges.allow.get_or_insert_default().add(List { all: false, named });
            Ok(())
        })
    };
}

pub(super) static ROWS: &[Opt] = &[
    row(
        "allow",
        Takes::Value("CAP,..."),
        PRIVILEGES,
        "These capabilities and no other; 'none', 'all'",
        |args, value| {
            let list = list(value)?;
            args.privileges.allow.get_or_insert_default().add(list);
            Ok(())
        },
    ),
    row(
        "drop",
        Takes::Value("CAP,..."),
        PRIVILEGES,
        "All capabilities that the caller has but these",
        |args, value| {
            let list = list(value)?;
            args.privileges.drop.get_or_insert_default().add(list);
            Ok(())
        },
    ),
    row(
        "user",
        Takes::Value("USER[:GROUP]"),
        PRIVILEGES,
        "Run as this user, with its groups; names or numbers",
        |args, value| {
            let mut parts = value.as_bytes().splitn(2, |byte| *byte == b':');
            let user = identity::who(parts.next().unwrap_or_default())?;
            let group = parts.next().map(identity::who).transpose()?;
            let asked = &mut args.privileges.identity;
            asked.user = Some(user);
            asked.group_of_user |= group.is_some();
            asked.group = group.or(asked.group.take());
            Ok(())
        },
    ),
    row(
        "gid",
        Takes::Value("GROUP"),
        PRIVILEGES,
        "Run as this group (with capcon also --group)",
        |args, value| {
            args.privileges.identity.group = Some(identity::who(value.as_bytes())?);
            args.privileges.identity.group_of_user = false;
            Ok(())
        },
    ),
    row(
        "groups",
        Takes::Value("GROUP,..."),
        PRIVILEGES,
        "Exactly these supplementary groups; 'none'",
        |args, value| {
            args.privileges.identity.groups = Some(groups(value)?);
            Ok(())
        },
    ),
    row(
        "keep-env",
        Takes::Nothing,
        PRIVILEGES,
        "Leave HOME, USER, LOGNAME and SHELL to the caller's",
        |args, _| {
            args.privileges.identity.keep_env = true;
            Ok(())
        },
    ),
    row(
        "no-new-privs",
        Takes::Optional("yes|no"),
        PRIVILEGES,
        "No program gains privileges by exec [capcon: yes, rcon: no]",
        |args, value| {
            args.privileges.no_new_privs = Some(match value.as_bytes() {
                b"" | b"yes" => true,
                b"no" => false,
                _ => return Err("give yes or no".to_owned()),
            });
            Ok(())
        },
    ),
    row(
        "learn",
        Takes::Nothing,
        PRIVILEGES,
        "Watch which capabilities it needs, and say the shortest --allow",
        |args, _| {
            args.privileges.learn.get_or_insert_default();
            Ok(())
        },
    ),
    row(
        "verify",
        Takes::Nothing,
        DETAIL,
        "With --learn: run it again with these alone, and compare",
        |args, _| {
            args.privileges.learn = Some(Learn { verify: true });
            Ok(())
        },
    ),
    row(
        "bounding",
        Takes::Value("CAP,..."),
        DETAIL,
        "Set the bounding set: the most that any exec can give",
        |args, value| set(args, 0, value),
    ),
    row(
        "permitted",
        Takes::Value("CAP,..."),
        DETAIL,
        "Set the permitted set: what may become effective",
        |args, value| set(args, 1, value),
    ),
    row(
        "effective",
        Takes::Value("CAP,..."),
        DETAIL,
        "Set the effective set: what the kernel asks for",
        |args, value| set(args, 2, value),
    ),
    row(
        "inheritable",
        Takes::Value("CAP,..."),
        DETAIL,
        "Set the inheritable set: kept over exec where the file agrees",
        |args, value| set(args, 3, value),
    ),
    row(
        "ambient",
        Takes::Value("CAP,..."),
        DETAIL,
        "Set the ambient set: kept over exec by ordinary users",
        |args, value| set(args, 4, value),
    ),
    row(
        "securebits",
        Takes::Value("BIT,..."),
        DETAIL,
        "noroot, no-setuid-fixup, keep-caps, no-cap-ambient-raise, ...-locked",
        |args, value| {
            args.privileges.securebits = Some(capabilities::securebits(text(value)?)?);
            Ok(())
        },
    ),
    row(
        "show",
        Takes::Nothing,
        DETAIL,
        "Print the capability sets of the caller, or of --pid, and stop",
        |args, _| {
            args.privileges.show.get_or_insert_default();
            Ok(())
        },
    ),
    row("pid", Takes::Value("PID"), DETAIL, "With --show: of this process", |args, value| {
        let pid = text(value)?.parse().ok().filter(|pid| *pid > 0).ok_or("give the number of a process")?;
        args.privileges.show.get_or_insert_default().pid = Some(pid);
        Ok(())
    }),
    row(
        "format",
        Takes::Value("text|json"),
        DETAIL,
        "With --show: for people, or for programs",
        |args, value| {
            let format = match value.as_bytes() {
                b"text" => Format::Text,
                b"json" => Format::Json,
                _ => return Err("give text or json".to_owned()),
            };
            args.privileges.show.get_or_insert_default().format = Some(format);
            Ok(())
        },
    ),
    legacy!("cap-chown", CAP_CHOWN),
    legacy!("cap-dac-override", CAP_DAC_OVERRIDE),
    legacy!("cap-dac-read-search", CAP_DAC_READ_SEARCH),
    legacy!("cap-fowner", CAP_FOWNER),
    legacy!("cap-fsetid", CAP_FSETID),
    legacy!("cap-kill", CAP_KILL),
    legacy!("cap-setgid", CAP_SETGID),
    legacy!("cap-setuid", CAP_SETUID),
    legacy!("cap-setpcap", CAP_SETPCAP),
    legacy!("cap-linux-immutable", CAP_LINUX_IMMUTABLE),
    legacy!("cap-net-bind-service", CAP_NET_BIND_SERVICE),
    legacy!("cap-net-broadcast", CAP_NET_BROADCAST),
    legacy!("cap-net-admin", CAP_NET_ADMIN),
    legacy!("cap-net-raw", CAP_NET_RAW),
    legacy!("cap-ipc-lock", CAP_IPC_LOCK),
    legacy!("cap-ipc-owner", CAP_IPC_OWNER),
    legacy!("cap-sys-module", CAP_SYS_MODULE),
    legacy!("cap-sys-rawio", CAP_SYS_RAWIO),
    legacy!("cap-sys-chroot", CAP_SYS_CHROOT),
    legacy!("cap-sys-ptrace", CAP_SYS_PTRACE),
    legacy!("cap-sys-pacct", CAP_SYS_PACCT),
    legacy!("cap-sys-admin", CAP_SYS_ADMIN),
    legacy!("cap-sys-boot", CAP_SYS_BOOT),
    legacy!("cap-sys-nice", CAP_SYS_NICE),
    legacy!("cap-sys-resource", CAP_SYS_RESOURCE),
    legacy!("cap-sys-time", CAP_SYS_TIME),
    legacy!("cap-sys-tty-config", CAP_SYS_TTY_CONFIG),
    legacy!("cap-mknod", CAP_MKNOD),
    legacy!("cap-lease", CAP_LEASE),
    legacy!("cap-audit-write", CAP_AUDIT_WRITE),
    legacy!("cap-audit-control", CAP_AUDIT_CONTROL),
    legacy!("cap-setfcap", CAP_SETFCAP),
    legacy!("cap-mac-override", CAP_MAC_OVERRIDE),
    legacy!("cap-mac-admin", CAP_MAC_ADMIN),
    legacy!("cap-syslog", CAP_SYSLOG),
    legacy!("cap-wake-alarm", CAP_WAKE_ALARM),
    legacy!("cap-block-suspend", CAP_BLOCK_SUSPEND),
    legacy!("cap-audit-read", CAP_AUDIT_READ),
    legacy!("cap-perfmon", CAP_PERFMON),
    legacy!("cap-bpf", CAP_BPF),
    legacy!("cap-checkpoint-restore", CAP_CHECKPOINT_RESTORE),
];

const fn row(
    name: &'static str,
    takes: Takes,
    heading: Option<&'static str>,
    help: &'static str,
    set: fn(&mut Args, &OsStr) -> Result<(), String>,
) -> Opt {
    Opt { name, short: None, takes, heading, help, apply: Apply::Set(set) }
}

fn list(value: &OsStr) -> Result<List, String> {
    capabilities::list(text(value)?)
}

fn set(args: &mut Args, which: usize, value: &OsStr) -> Result<(), String> {
    let list = list(value)?;
    if let Some(slot) = args.privileges.sets.get_mut(which) {
        *slot = Some(list);
    }
    Ok(())
}

fn groups(value: &OsStr) -> Result<Vec<Who>, String> {
    if value == "none" {
        return Ok(Vec::new());
    }
    value.as_bytes().split(|byte| *byte == b',').map(identity::who).collect()
}
