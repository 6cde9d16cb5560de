//! From sets and identity to steps, by the kernel's own rules, so that what cannot be is said in words before
//! anything starts. Pure.

use super::{Asked, Facts, Planned};
use crate::capabilities::{self, List, Mask, SETGID, SETPCAP, SETUID, Sets, names};
use crate::error::Error;
use crate::identity::Identity;
use crate::step::{Expected, Step};
use crate::sys::caps::Posix;

pub(super) struct Planner<'a> {
    pub(super) asked: &'a Asked,
    pub(super) facts: &'a Facts,
    pub(super) no_new_privs: bool,
}

impl Planner<'_> {
    /// The order is the one that works (capabilities(7), measured): the bounding set while CAP_SETPCAP is
    /// there, the groups before the user, the sets after the user, whose change clears them, ambient last of
    /// them; securebits need CAP_SETPCAP once more, so the final sets may come after.
    #[inline(never)]
    pub(super) fn plan(&self) -> Result<Planned, Error> {
        let mut out = Planned { variables: self.facts.identity.variables.clone(), ..Planned::default() };
        self.check_known()?;
        let target = self.target(&mut out.notes)?;
        let bits = self.securebits()?;
        let dropped = self.facts.sets.bounding & !target.bounding;
        if dropped != 0 {
            out.steps.push(Step::DropBounding { drop: dropped, keep: target.bounding });
        }
        let sets_change = self.asks_sets() || bits.is_some();
        let interim = if bits.is_some() { SETPCAP } else { 0 };
        // What becomes inheritable must be permitted at that moment, even if it does not stay so.
        let needed = target.permitted | target.inheritable & !self.facts.sets.inheritable | interim;
        if sets_change && self.loses_all() && needed != 0 {
            let bits = self.facts.securebits;
            if capabilities::locked(bits) & !bits & capabilities::KEEP_CAPS != 0 {
                return Err(Error::new(
                    "securebits of the caller lock keep-caps off: no capability can be kept over a change of user",
                ));
            }
            out.steps.push(Step::KeepCapabilities);
        }
        self.identity(&mut out)?;
        if sets_change {
            let posix = |extra| Posix {
                effective: target.effective | extra,
                permitted: target.permitted | extra,
                inheritable: target.inheritable,
            };
            out.steps.push(Step::SetCapabilities(posix(interim)));
            if target.ambient != self.after_identity().ambient {
                out.steps.push(Step::SetAmbient(target.ambient));
            }
            if let Some(bits) = bits {
                out.steps.push(Step::SetSecurebits(bits));
                out.checks.push(Step::Verify(Expected::Securebits(bits)));
                if target.permitted & target.effective & SETPCAP == 0 {
                    out.steps.push(Step::SetCapabilities(posix(0)));
                }
            }
        }
        if self.no_new_privs {
            if !self.facts.no_new_privs {
                out.steps.push(Step::NoNewPrivs);
            }
            out.checks.push(Step::Verify(Expected::NoNewPrivs));
        }
        if sets_change || self.changes_user() {
            let Sets { permitted, effective, inheritable, .. } = target;
            out.checks.extend([
                Step::Verify(Expected::Bounding { set: target.bounding, known: self.facts.known }),
                Step::Verify(Expected::Capabilities(Posix { effective, permitted, inheritable })),
                Step::Verify(Expected::Ambient { set: target.ambient, among: permitted & inheritable }),
            ]);
            let bits = bits.unwrap_or(self.facts.securebits);
            let [real, effective] = self.users_after().map(|uid| uid == 0);
            out.sets =
                Some(target.after_exec(real, effective, bits, self.no_new_privs || self.facts.no_new_privs));
        }
        Ok(out)
    }

    fn asks_sets(&self) -> bool {
        self.asked.allow.is_some() || self.asked.drop.is_some() || self.asked.sets.iter().any(Option::is_some)
    }

    /// Real and effective user of the command.
    fn users_after(&self) -> [u32; 2] {
        let [real, effective, _] = self.facts.users;
        self.facts.identity.uid.map_or([real, effective], |uid| [uid; 2])
    }

    fn changes_user(&self) -> bool {
        self.facts.identity.uid.is_some_and(|uid| self.facts.users != [uid; 3])
    }

    /// From root to somebody else: the kernel clears permitted, effective and ambient.
    fn loses_all(&self) -> bool {
        self.changes_user()
            && self.facts.users.contains(&0)
            && self.facts.identity.uid != Some(0)
            && self.facts.securebits & capabilities::NO_SETUID_FIXUP == 0
    }

    /// The sets as the change of user leaves them ("Effect of user ID changes on capabilities").
    fn after_identity(&self) -> Sets {
        let mut sets = self.facts.sets;
        if !self.changes_user() || self.facts.securebits & capabilities::NO_SETUID_FIXUP != 0 {
            return sets;
        }
        let [_, before, _] = self.facts.users;
        let [_, after] = self.users_after();
        if self.loses_all() {
            sets = Sets { permitted: 0, effective: 0, ambient: 0, ..sets };
        } else if before == 0 && after != 0 {
            sets.effective = 0;
        } else if before != 0 && after == 0 {
            sets.effective = sets.permitted;
        }
        sets
    }

    fn check_known(&self) -> Result<(), Error> {
        let Asked { allow, drop, sets, .. } = self.asked;
        let mut lists = vec![("--allow", allow), ("--drop", drop)];
        let rows = Sets::default().rows();
        lists.extend(rows.iter().zip(sets).map(|((name, _), list)| (option_of(name), list)));
        for (option, list) in lists {
            let unknown = list.unwrap_or_default().named & !self.facts.known;
            if unknown != 0 {
                let last = 63 - self.facts.known.leading_zeros();
                return Err(Error::new(format!(
                    "this kernel has no capability {} (its last is {last}, {})",
                    names(unknown),
                    capabilities::name(last as u8)
                ))
                .option(option));
            }
        }
        Ok(())
    }

    /// The sets just before exec.
    fn target(&self, notes: &mut Vec<String>) -> Result<Sets, Error> {
        let caller = self.facts.sets;
        let bits = self.asked.securebits.unwrap_or(self.facts.securebits);
        let [real, effective] = self.users_after();
        let nnp = self.no_new_privs || self.facts.no_new_privs;
        // uid 0 gets the bounding set back at exec; no_new_privs keeps it to what it has.
        let root = bits & capabilities::NOROOT == 0 && (real == 0 || effective == 0);
        let regains = root && effective == 0 && !nnp;
        let mut target = self.after_identity();
        if let Some(want) = self.want(regains, notes)? {
            target.bounding = want;
            target.permitted = want & caller.permitted;
            target.effective = target.permitted;
            // For root these have no use, and would only reach what it becomes later.
            let carried = if root && effective == 0 { 0 } else { want };
            target.inheritable = carried;
            target.ambient = carried;
        }
        let [bounding, permitted, effective, inheritable, ambient] = self.asked.sets;
        let set = |list: Option<List>, all, slot: &mut Mask| {
            if let Some(list) = list {
                *slot = list.of(all);
            }
        };
        set(bounding, caller.bounding, &mut target.bounding);
        set(permitted, caller.permitted, &mut target.permitted);
        set(inheritable, caller.permitted, &mut target.inheritable);
        target.effective &= target.permitted;
        target.ambient &= target.permitted & target.inheritable;
        set(effective, caller.permitted, &mut target.effective);
        set(ambient, caller.permitted, &mut target.ambient);
        self.check(&mut target, nnp)?;
        Ok(target)
    }

    /// What `--allow` and `--drop` leave.
    fn want(&self, regains: bool, notes: &mut Vec<String>) -> Result<Option<Mask>, Error> {
        let caller = self.facts.sets;
        let all = if regains { caller.bounding } else { caller.bounding & caller.permitted };
        let (option, allowed) = match (self.asked.allow, self.asked.drop) {
            (None, None) => return Ok(None),
            (None, Some(_)) => ("--drop", all),
            (Some(list), _) => ("--allow", list.of(all)),
        };
        let dropped = self.asked.drop.unwrap_or_default();
        let both = self.asked.allow.unwrap_or_default().named & dropped.of(self.facts.known);
        if both != 0 {
            notes.push(format!("{} is in --allow and in --drop: it is dropped", names(both)));
        }
        let want = allowed & !dropped.of(self.facts.known);
        lacking(option, want & !caller.bounding, "bounding", "no program that it starts can have it")?;
        if !regains {
            lacking(option, want & !caller.permitted, "permitted", "it cannot pass it on")?;
        }
        Ok(Some(want))
    }

    /// The kernel's rules, before the kernel says EPERM.
    fn check(&self, target: &mut Sets, nnp: bool) -> Result<(), Error> {
        let caller = self.facts.sets;
        lacking("--bounding", target.bounding & !caller.bounding, "bounding", "nothing can be added to it")?;
        lacking(
            "--permitted",
            target.permitted & !caller.permitted,
            "permitted",
            "nothing can be added to it",
        )?;
        let within = |option: &str, extra: Mask, other: &str| match extra {
            0 => Ok(()),
            _ => Err(Error::new(format!("{} must be in the {other} set too", names(extra))).option(option)),
        };
        within("--effective", target.effective & !target.permitted, "permitted")?;
        if caller.bounding & !target.bounding != 0 && caller.effective & SETPCAP == 0 {
            let option = if self.asked.sets[0].is_some() { "--bounding" } else { "--allow" };
            if !nnp || self.asked.sets[0].is_some() {
                return Err(Error::new(
                    "the bounding set cannot be narrowed: setpcap is not in the caller's effective set, and a \
                     set-user-ID program could get the rest",
                )
                .option(option)
                .try_this("--no-new-privs, under which no program gains anything; or --unshare user"));
            }
            // Under no_new_privs no exec adds anything, whatever the bounding set holds.
            target.bounding = caller.bounding;
        }
        lacking(
            "--inheritable",
            target.inheritable & !(caller.inheritable | caller.permitted),
            "permitted",
            "it cannot be made inheritable",
        )?;
        within("--inheritable", target.inheritable & !(caller.inheritable | target.bounding), "bounding")?;
        within("--ambient", target.ambient & !target.permitted, "permitted")?;
        within("--ambient", target.ambient & !target.inheritable, "inheritable")?;
        if target.ambient & !self.after_identity().ambient != 0
            && self.facts.securebits & capabilities::NO_AMBIENT_RAISE != 0
        {
            return Err(Error::new(
                "the caller's securebits (no-cap-ambient-raise) forbid to add to the ambient set, without which an exec loses the capabilities of an ordinary user",
            ));
        }
        Ok(())
    }

    /// The flags to set, where they differ from the caller's.
    fn securebits(&self) -> Result<Option<u32>, Error> {
        let now = self.facts.securebits;
        let Some(bits) = self.asked.securebits.filter(|bits| *bits != now) else { return Ok(None) };
        let option = format!("--securebits {}", capabilities::securebit_names(bits));
        let locks = now & 0xaaaa_aaaa;
        if (now ^ bits) & capabilities::locked(now) != 0 || locks & !bits != 0 {
            return Err(Error::new(format!(
                "the caller's are locked: {}",
                capabilities::securebit_names(now)
            ))
            .option(option));
        }
        lacking(&option, SETPCAP & !self.facts.sets.effective, "effective", "securebits cannot be changed")?;
        Ok(Some(bits))
    }

    fn identity(&self, out: &mut Planned) -> Result<(), Error> {
        let Identity { uid, gid, groups, .. } = &self.facts.identity;
        let effective = self.facts.sets.effective;
        if let Some(groups) = groups {
            let now = &self.facts.supplementary;
            if now.len() != groups.len() || !groups.iter().all(|gid| now.contains(gid)) {
                lacking("--groups", SETGID & !effective, "effective", "groups cannot be changed")?;
                out.steps.push(Step::SetGroups(groups.clone()));
            }
            out.checks.push(Step::Verify(Expected::Supplementary(groups.clone())));
        }
        if let Some(gid) = *gid {
            if self.facts.groups != [gid; 3] {
                if !self.facts.groups.contains(&gid) {
                    lacking("--gid", SETGID & !effective, "effective", "the group cannot be changed")?;
                }
                out.steps.push(Step::SetGroup(gid));
            }
            out.checks.push(Step::Verify(Expected::Group(gid)));
        }
        if let Some(uid) = *uid {
            if self.changes_user() {
                if !self.facts.users.contains(&uid) {
                    lacking("--user", SETUID & !effective, "effective", "the user cannot be changed")?;
                }
                out.steps.push(Step::SetUser(uid));
            }
            out.checks.push(Step::Verify(Expected::User(uid)));
        }
        Ok(())
    }
}

/// An error, if anything is missing.
fn lacking(option: &str, missing: Mask, set: &str, so: &str) -> Result<(), Error> {
    if missing == 0 {
        return Ok(());
    }
    let verb = if missing.count_ones() == 1 { "is" } else { "are" };
    Err(Error::new(format!("{} {verb} not in the caller's {set} set: {so}", names(missing)))
        .option(option)
        .try_this("a caller that has it (capcon --show tells); or --unshare user, to have it over what belongs to a user namespace of its own"))
}

fn option_of(set: &str) -> &'static str {
    match set {
        "bounding" => "--bounding",
        "permitted" => "--permitted",
        "effective" => "--effective",
        "inheritable" => "--inheritable",
        _ => "--ambient",
    }
}
