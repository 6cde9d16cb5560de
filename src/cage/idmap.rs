//! The maps of a new user namespace (user_namespaces(7)): which numbers inside are whose outside.

use std::fs;
use std::process::Command;

use nix::unistd::Pid;

use crate::error::Error;

/// One line of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First number inside.
    pub inside: u32,
    /// First number outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Numbers that a file lends to a user: the first, and how many.
pub type Lent = (u32, u32);

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--map-root`: the caller is 0 inside.
    pub root: bool,
    /// `--map-user`: the caller is this user inside.
    pub user: Option<u32>,
    /// `--map-group`: the caller's group is this one inside.
    pub group: Option<u32>,
    /// `--map-users`.
    pub users: Vec<Range>,
    /// `--map-groups`; the same as the users where it is not given.
    pub groups: Vec<Range>,
}

/// What the maps are made of; read only where a user namespace is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The caller's effective user and group.
    pub own: (u32, u32),
    /// May the caller write any map?
    pub privileged: bool,
    /// The caller's own uid_map and gid_map.
    pub maps: (Vec<Range>, Vec<Range>),
    /// What /etc/subuid and /etc/subgid lend to the caller: first, count.
    pub lent: (Vec<Lent>, Vec<Lent>),
}

/// Both maps, and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
    /// With newuidmap(1) and newgidmap(1), which check /etc/subuid and /etc/subgid for us.
    pub helpers: bool,
    /// An ordinary user has to give setgroups(2) up before the kernel takes a group map.
    pub deny_setgroups: bool,
    /// The caller's own number does not exist inside: the child becomes 0 there.
    pub become_zero: bool,
}

/// Reads `IN:OUT:COUNT`.
///
/// # Errors
/// What is wrong with it.
pub fn range(text: &str) -> Result<Range, String> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|word| word.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[inside, outside, count])
            if count > 0 && inside.checked_add(count).is_some() && outside.checked_add(count).is_some() =>
        {
            Ok(Range { inside, outside, count })
        }
        _ => Err("give IN:OUT:COUNT, such as 0:100000:65536".to_owned()),
    }
}

/// The lines of a map file.
#[must_use]
pub fn parse_map(text: &str) -> Vec<Range> {
    let lines = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let range = Range {
            inside: numbers.next()?.ok()?,
            outside: numbers.next()?.ok()?,
            count: numbers.next()?.ok()?,
        };
        Some(range)
    });
    lines.collect()
}

/// What /etc/subuid or /etc/subgid lends to a user, by name or number (subuid(5)).
#[must_use]
pub fn parse_lent(text: &str, name: Option<&str>, uid: u32) -> Vec<Lent> {
    let number = uid.to_string();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (owner == number || Some(owner) == name).then_some(range)
    });
    lines.collect()
}

/// Decides the maps.
///
/// # Errors
/// Numbers that the caller may not map.
pub fn plan(asked: &Asked, facts: &Facts) -> Result<Maps, Error> {
    let users = side(
        if asked.root { Some(0) } else { asked.user },
        &asked.users,
        facts.own.0,
        facts.privileged.then_some(&facts.maps.0),
    );
    let group_ranges = if asked.groups.is_empty() { &asked.users } else { &asked.groups };
    let groups = side(
        if asked.root { Some(0) } else { asked.group.or(asked.user) },
        group_ranges,
        facts.own.1,
        facts.privileged.then_some(&facts.maps.1),
    );
    let single = |ranges: &[Range], own: u32| matches!(ranges, [one] if one.count == 1 && one.outside == own);
    let plain = single(&users, facts.own.0) && single(&groups, facts.own.1);
    let helpers = !facts.privileged && !plain;
    if helpers {
        check_lent(&users, facts.own.0, &facts.lent.0, "/etc/subuid")?;
        check_lent(&groups, facts.own.1, &facts.lent.1, "/etc/subgid")?;
    }
    let become_zero = !maps(&users, facts.own.0) || !maps(&groups, facts.own.1);
    if become_zero && !(users.iter().any(|one| one.inside == 0) && groups.iter().any(|one| one.inside == 0)) {
        return Err(Error::new(
            "neither the caller nor 0 is in the map, so nobody could set the namespace up",
        )
        .option("--map-users")
        .try_this("add a range that starts at 0 inside: --map-users 0:OUT:COUNT"));
    }
    Ok(Maps { users, groups, helpers, deny_setgroups: !facts.privileged && !helpers, become_zero })
}

/// One map: the ranges, the caller's own number, or what every number is already.
fn side(own_inside: Option<u32>, ranges: &[Range], own: u32, everyone: Option<&Vec<Range>>) -> Vec<Range> {
    let mut out = ranges.to_vec();
    match (own_inside, everyone) {
        (Some(inside), _) => out.insert(0, Range { inside, outside: own, count: 1 }),
        (None, _) if !ranges.is_empty() => {}
        // Who may map anything keeps every number as it is.
        (None, Some(all)) if !all.is_empty() => {
            out = all.iter().map(|range| Range { outside: range.inside, ..*range }).collect();
        }
        (None, _) => out.push(Range { inside: own, outside: own, count: 1 }),
    }
    out
}

/// Is this number outside in the ranges?
fn maps(ranges: &[Range], number: u32) -> bool {
    ranges.iter().any(|one| number >= one.outside && number - one.outside < one.count)
}

fn check_lent(ranges: &[Range], own: u32, lent: &[Lent], file: &str) -> Result<(), Error> {
    for range in ranges {
        let itself = range.outside == own && range.count == 1;
        let covered = lent.iter().any(|(first, count)| {
            range.outside >= *first
                && u64::from(range.outside) + u64::from(range.count) <= u64::from(*first) + u64::from(*count)
        });
        if !itself && !covered {
            let has: Vec<String> = lent.iter().map(|(first, count)| format!("{first}:{count}")).collect();
            let has = if has.is_empty() { "nothing".to_owned() } else { has.join(", ") };
            return Err(Error::new(format!(
                "{}:{} is not this user's to map: {file} lends it {has}",
                range.outside, range.count
            ))
            .option(if file.ends_with("uid") { "--map-users" } else { "--map-groups" })
            .try_this(format!(
                "as root: add a line to {file}, such as NAME:100000:65536 (usermod --add-subuids)"
            )));
        }
    }
    Ok(())
}

fn lines(ranges: &[Range]) -> String {
    let each: Vec<String> =
        ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect();
    each.concat()
}

impl Maps {
    /// Writes the maps of the child's user namespace, while the child waits.
    ///
    /// # Errors
    /// The kernel's or the helper's refusal.
    pub fn write(&self, child: Pid) -> Result<(), Error> {
        if self.helpers {
            run_helper("newuidmap", child, &self.users)?;
            return run_helper("newgidmap", child, &self.groups);
        }
        let write = |file: &str, text: &str| {
            let path = format!("/proc/{child}/{file}");
            fs::write(&path, text).map_err(|error| {
                Error::new(format!("cannot write {:?} to {file} of the new user namespace", text.trim_end()))
                    .errno(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
                    .try_this("map only numbers that exist in the caller's own user namespace (cat /proc/self/uid_map)")
            })
        };
        write("uid_map", &lines(&self.users))?;
        if self.deny_setgroups {
            write("setgroups", "deny")?;
        }
        write("gid_map", &lines(&self.groups))
    }

    /// The number outside of a user inside; a user that nobody is where there is none.
    #[must_use]
    pub fn outside(&self, user: u32) -> u32 {
        let range = self.users.iter().find(|one| user >= one.inside && user - one.inside < one.count);
        range.map_or(u32::MAX, |one| one.outside + (user - one.inside))
    }

    /// Does this user outside exist inside?
    #[must_use]
    pub fn has_user(&self, user: u32) -> bool {
        maps(&self.users, user)
    }

    /// For `--explain`.
    #[must_use]
    pub fn words(&self) -> String {
        let show = |ranges: &[Range]| {
            let each: Vec<String> =
                ranges.iter().map(|r| format!("{}:{}:{}", r.inside, r.outside, r.count)).collect();
            each.join(", ")
        };
        format!(
            "map users {} and groups {} (inside:outside:count){}{}",
            show(&self.users),
            show(&self.groups),
            if self.helpers { " with newuidmap and newgidmap" } else { "" },
            if self.deny_setgroups { ", setgroups denied" } else { "" }
        )
    }
}

fn run_helper(program: &str, child: Pid, ranges: &[Range]) -> Result<(), Error> {
    crate::sys::finish_start();
    let mut command = Command::new(program);
    command.arg(child.to_string());
    for range in ranges {
        command.args([range.inside, range.outside, range.count].map(|n| n.to_string()));
    }
    match command.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(Error::new(format!(
            "{program} refused the map: {}",
            crate::error::printable(out.stderr.trim_ascii())
        ))),
        Err(error) => Err(Error::new(format!("cannot run {program}"))
            .errno(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .try_this("install it (package uidmap or shadow-utils), or map only the own user: --map-root")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range = Range { inside: 0, outside: 0, count: u32::MAX };

    #[test]
    fn an_ordinary_user_maps_itself() {
        let facts = Facts { own: (1000, 100), ..Facts::default() };
        let maps = plan(&Asked { root: true, ..Asked::default() }, &facts).unwrap();
        assert_eq!(maps.users, [Range { inside: 0, outside: 1000, count: 1 }]);
        assert_eq!(maps.groups, [Range { inside: 0, outside: 100, count: 1 }]);
        assert!(maps.deny_setgroups && !maps.helpers && !maps.become_zero);
        let maps = plan(&Asked::default(), &facts).unwrap();
        assert_eq!(maps.users, [Range { inside: 1000, outside: 1000, count: 1 }]);
    }

    #[test]
    fn only_what_is_lent_is_mapped() {
        let asked = Asked { root: true, users: vec![range("1:100000:10").unwrap()], ..Asked::default() };
        let mut facts = Facts { own: (1000, 1000), ..Facts::default() };
        assert!(plan(&asked, &facts).unwrap_err().what.contains("/etc/subuid lends it nothing"));
        let lent = parse_lent("me:100000:10\n7:1:1\n", Some("me"), 1000);
        facts.lent = (lent.clone(), lent);
        let maps = plan(&asked, &facts).unwrap();
        assert!(maps.helpers && !maps.deny_setgroups && maps.users.len() == 2);
        let more = Asked { users: vec![range("1:100000:11").unwrap()], ..asked };
        assert!(plan(&more, &facts).is_err());
    }

    #[test]
    fn root_keeps_every_number_or_becomes_zero() {
        let facts = Facts { privileged: true, maps: (vec![ALL], vec![ALL]), ..Facts::default() };
        assert_eq!(plan(&Asked::default(), &facts).unwrap().users, [ALL]);
        let asked = Asked { users: vec![range("0:100000:65536").unwrap()], ..Asked::default() };
        let maps = plan(&asked, &facts).unwrap();
        assert!(maps.become_zero && !maps.helpers && !maps.deny_setgroups);
        let asked = Asked { users: vec![range("5:100000:65536").unwrap()], ..Asked::default() };
        assert!(plan(&asked, &facts).is_err());
        assert!(range("0:1:0").is_err() && range("0:1").is_err() && range("1:4294967295:9").is_err());
        assert_eq!(parse_map("         0          0 4294967295\n"), [ALL]);
    }
}
