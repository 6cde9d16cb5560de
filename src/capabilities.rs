//! Capabilities as data: names, sets, and the kernel's rules about them (capabilities(7)). Pure.

use std::str::FromStr;

use caps::Capability;

use crate::error::printable;

/// A set of capabilities: bit N is capability number N.
pub type Mask = u64;

/// CAP_SETUID, CAP_SETGID and CAP_SETPCAP: what changing users, groups and sets needs.
pub const SETUID: Mask = 1 << Capability::CAP_SETUID as u8;
/// See [`SETUID`].
pub const SETGID: Mask = 1 << Capability::CAP_SETGID as u8;
/// See [`SETUID`].
pub const SETPCAP: Mask = 1 << Capability::CAP_SETPCAP as u8;

/// One more than the highest number that a mask can hold.
const LIMIT: u8 = 64;

/// The capability with this number as people write it: `net_bind_service`; a number that the crate has no name
/// for stays a number.
#[must_use]
pub fn name(number: u8) -> String {
    known()
        .find(|capability| capability.index() == number)
        .map_or_else(|| number.to_string(), |capability| short(&capability))
}

fn known() -> impl Iterator<Item = Capability> {
    caps::all().into_iter()
}

fn short(capability: &Capability) -> String {
    capability.to_string().trim_start_matches("CAP_").to_ascii_lowercase()
}

/// The numbers in a set, ascending.
pub fn numbers(mask: Mask) -> impl Iterator<Item = u8> {
    (0..LIMIT).filter(move |number| mask >> number & 1 == 1)
}

/// The set as a list of names; `none`.
#[must_use]
pub fn names(mask: Mask) -> String {
    if mask == 0 {
        return "none".to_owned();
    }
    numbers(mask).map(name).collect::<Vec<_>>().join(",")
}

/// The set in few words, where `all` are those that the kernel has.
#[must_use]
pub fn brief(mask: Mask, all: Mask) -> String {
    let missing = all & !mask;
    if mask == all {
        "all".to_owned()
    } else if mask & !all == 0 && missing.count_ones() < mask.count_ones() / 2 {
        format!("all but {}", names(missing))
    } else {
        names(mask)
    }
}

/// A list as it was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// `all` was in it: what the machine and the caller have decides.
    pub all: bool,
    /// Those that were named.
    pub named: Mask,
}

impl List {
    /// The set, given what `all` means.
    #[must_use]
    pub fn of(self, all: Mask) -> Mask {
        self.named | if self.all { all } else { 0 }
    }

    /// Adds another list.
    pub fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.named |= other.named;
    }
}

/// Reads `net_raw,CAP_CHOWN,40`, `all` or `none`.
///
/// # Errors
/// A word that names none; the nearest name is offered.
pub fn list(text: &str) -> Result<List, String> {
    let mut out = List::default();
    for word in text.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "all" => out.all = true,
            "none" => {
                if text.contains(',') {
                    return Err("'none' stands alone".to_owned());
                }
            }
            "" => return Err("an empty name in the list".to_owned()),
            word => out.named |= 1 << number(word)?,
        }
    }
    Ok(out)
}

/// The number of a name in lower case, with or without `cap_`, or a number.
fn number(word: &str) -> Result<u8, String> {
    if let Ok(number) = word.parse::<u8>() {
        return if number < LIMIT {
            Ok(number)
        } else {
            Err(format!("capabilities are numbered from 0 to {}", LIMIT - 1))
        };
    }
    let plain = word.strip_prefix("cap_").or(word.strip_prefix("cap-")).unwrap_or(word).replace('-', "_");
    let full = format!("CAP_{}", plain.to_ascii_uppercase());
    Capability::from_str(&full).map(|capability| capability.index()).map_err(|_| {
        let distance = |name: &String| strsim::osa_distance(name, &plain);
        let shown = printable(word.as_bytes());
        match known().map(|capability| short(&capability)).min_by_key(|name| (distance(name), name.clone())) {
            Some(nearest) if distance(&nearest) <= plain.len().max(6) / 2 => {
                format!("no capability is called '{shown}'; did you mean {nearest}?")
            }
            _ => format!("no capability is called '{shown}' (capabilities(7) lists them)"),
        }
    })
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What an exec may give at most (but for the inheritable ones).
    pub bounding: Mask,
    /// What may be made effective.
    pub permitted: Mask,
    /// What the kernel asks for.
    pub effective: Mask,
    /// What passes an exec of a file that agrees.
    pub inheritable: Mask,
    /// What passes an exec of any ordinary file.
    pub ambient: Mask,
}

impl Sets {
    /// The sets by name, in the order in which they are set and shown.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, Mask); 5] {
        [
            ("bounding", self.bounding),
            ("permitted", self.permitted),
            ("effective", self.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ]
    }

    /// What a process with these sets has after it executed a file that has neither a set-user-ID bit nor
    /// capabilities of its own ("Transformation of capabilities during execve()" in capabilities(7), and the
    /// sections on root and on no_new_privs).
    #[must_use]
    pub fn after_exec(self, real_root: bool, effective_root: bool, bits: u32, no_new_privs: bool) -> Self {
        let root = bits & NOROOT == 0;
        let mut permitted = 0;
        if root && (real_root || effective_root) {
            permitted = self.bounding | self.inheritable;
            if no_new_privs {
                permitted &= self.permitted;
            }
        }
        permitted |= self.ambient;
        let effective = if root && effective_root { permitted } else { self.ambient };
        Self { permitted, effective, ..self }
    }
}

/// The five sets as lists of names.
#[must_use]
pub fn json(sets: Sets) -> serde_json::Value {
    let list = |mask| numbers(mask).map(name).collect::<Vec<_>>();
    let mut out = serde_json::Map::new();
    out.extend(sets.rows().into_iter().map(|(name, mask)| (name.to_owned(), list(mask).into())));
    out.into()
}

/// uid 0 is not special at exec.
pub const NOROOT: u32 = 1 << 0;
/// A change of uid does not touch the sets.
pub const NO_SETUID_FIXUP: u32 = 1 << 2;
/// The permitted set outlives a change of uid; ends at exec.
pub const KEEP_CAPS: u32 = 1 << 4;
/// The ambient set cannot be added to.
pub const NO_AMBIENT_RAISE: u32 = 1 << 6;

/// Names of securebits; the lock of each is the next bit (linux/securebits.h).
const SECUREBITS: [(&str, u32); 6] = [
    ("noroot", NOROOT),
    ("no-setuid-fixup", NO_SETUID_FIXUP),
    ("keep-caps", KEEP_CAPS),
    ("no-cap-ambient-raise", NO_AMBIENT_RAISE),
    // Linux 6.14
    ("exec-restrict-file", 1 << 8),
    ("exec-deny-interactive", 1 << 10),
];

/// Those of `bits` that a lock in `bits` belongs to: what cannot be changed any more.
#[must_use]
pub fn locked(bits: u32) -> u32 {
    SECUREBITS.iter().map(|(_, bit)| bit).filter(|bit| bits & (*bit << 1) != 0).sum()
}

/// Reads `noroot,noroot-locked` or `none`.
///
/// # Errors
/// An unknown name; a lock without what it would lock on.
pub fn securebits(text: &str) -> Result<u32, String> {
    if text == "none" {
        return Ok(0);
    }
    let mut bits = 0;
    for word in text.split(',') {
        let plain = word.to_ascii_lowercase().replace('_', "-");
        let (base, lock) = match plain.strip_suffix("-locked") {
            Some(base) => (base, true),
            None => (plain.as_str(), false),
        };
        let Some((_, bit)) = SECUREBITS.iter().find(|(name, _)| *name == base) else {
            let all: Vec<&str> = SECUREBITS.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "no securebit is called '{}': there are {}, each also with -locked",
                printable(word.as_bytes()),
                all.join(", ")
            ));
        };
        bits |= if lock { bit << 1 } else { *bit };
    }
    for (name, bit) in SECUREBITS {
        if bits & (bit << 1) != 0 && bits & bit == 0 {
            return Err(format!(
                "{name}-locked without {name} would lock it off for good: say {name},{name}-locked"
            ));
        }
    }
    Ok(bits)
}

/// The securebits by name; `none`.
#[must_use]
pub fn securebit_names(bits: u32) -> String {
    let mut out = Vec::new();
    for (name, bit) in SECUREBITS {
        if bits & bit != 0 {
            out.push(name.to_owned());
        }
        if bits & (bit << 1) != 0 {
            out.push(format!("{name}-locked"));
        }
    }
    if out.is_empty() { "none".to_owned() } else { out.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_all_spellings() {
        for word in
            ["net_bind_service", "CAP_NET_BIND_SERVICE", "Net-Bind-Service", "cap-net-bind-service", "10"]
        {
            assert_eq!(list(word), Ok(List { all: false, named: 1 << 10 }), "{word}");
        }
        assert_eq!(list("none"), Ok(List::default()));
        assert_eq!(list("all,41"), Ok(List { all: true, named: 1 << 41 }));
        for wrong in ["none,chown", "chown,", "64", "-1", ""] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_name_offers_the_nearest() {
        for (wrong, right) in
            [("net_bnd_service", "net_bind_service"), ("sysadmin", "sys_admin"), ("chwon", "chown")]
        {
            let message = list(wrong).unwrap_err();
            assert!(message.ends_with(&format!("did you mean {right}?")), "{message}");
        }
        assert!(!list("\u{1b}[31mxyzzyplugh").unwrap_err().contains('\u{1b}'));
    }

    #[test]
    fn securebits_need_what_they_lock() {
        assert_eq!(securebits("noroot,noroot-locked"), Ok(3));
        assert_eq!(securebits("NO_SETUID_FIXUP"), Ok(4));
        assert!(securebits("noroot-locked").unwrap_err().contains("lock it off"));
        assert!(securebits("root").is_err() && securebits("").is_err());
        assert_eq!(locked(3 | 1 << 6), NOROOT);
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read(mask: u64) {
            prop_assert_eq!(list(&names(mask)).map(|list| list.named), Ok(mask));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            drop(list(&text));
            drop(securebits(&text));
        }

        #[test]
        fn securebits_are_read_as_printed(bits in 0_u32..1 << 12) {
            if let Ok(read) = securebits(&securebit_names(bits)) {
                prop_assert_eq!(read, bits);
            }
        }
    }
}
