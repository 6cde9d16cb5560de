//! What must hold for any input: parsers give back what they print and never panic, and every set of limits
//! becomes writes or a reason, on both versions of cgroups.

use proptest::collection::vec;
use proptest::prelude::*;
use rcon::disks;
use rcon::limits::{Asked, Controller, Facts, LIMITS, Value, Version, writes};
use rcon::value::{
    Count, Cpu, IoRule, List, Size, Span, Weight, byte_rate, bytes, operation_rate, show_bytes,
};
use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

/// A value prints as a word that is read as the same value.
fn round_trip<T>(text: &str) -> Result<(), TestCaseError>
where
    T: FromStr<Err = String> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            prop_assert_eq!(shown.parse::<T>(), Ok(value), "by way of {}", shown);
        }
        // A refusal has words.
        Err(why) => prop_assert!(why.len() > 10, "{:?} of {:?}", why, text),
    }
    Ok(())
}

fn every_parser(text: &str) -> Result<(), TestCaseError> {
    round_trip::<Cpu>(text)?;
    round_trip::<Size>(text)?;
    round_trip::<Count>(text)?;
    round_trip::<Weight>(text)?;
    round_trip::<List>(text)?;
    round_trip::<Span>(text)?;
    for rate in [byte_rate as fn(&str) -> Result<Option<u64>, String>, operation_rate] {
        if let Ok(rule) = IoRule::parse(text, rate) {
            prop_assert_eq!(IoRule::parse(&rule.to_string(), rate), Ok(rule));
        }
    }
    for limit in LIMITS {
        if let Err(why) = (limit.parse)(text) {
            prop_assert!(!why.is_empty());
        }
    }
    Ok(())
}

/// Words that are nearly right.
fn nearly() -> impl Strategy<Value = String> {
    let number = "[0-9]{1,20}(\\.[0-9]{0,8})?";
    let unit =
        prop_oneof!["[KMGTPEkmgtpe]?(i?[Bb])?", "%", "cpus?", "(ns|us|ms|s|m|h|d|days|w|M|y| years)", ":"];
    prop_oneof![
        (number, unit).prop_map(|(number, unit)| number + &unit),
        "[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?){0,4}",
        "([0-9]{1,4}(ns|us|ms|s|min|h|days) ?){1,4}",
        "(/[a-z:]{0,4}|[0-9]{1,3}:[0-9]{1,3}):[0-9]{1,9}[KM]?",
        "[-+ .eE0-9%KMx]{0,6}",
        Just("max".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_parser_panics_and_all_round_trip(text in any::<String>()) {
        every_parser(&text)?;
    }

    #[test]
    fn nearly_right_words_too(text in nearly()) {
        every_parser(&text)?;
    }

    #[test]
    fn any_size_is_read_back(n in prop_oneof![0..1u64 << 20, any::<u64>().prop_map(|n| n >> 1)]) {
        prop_assert_eq!(bytes(&n.to_string()), Ok(n));
        prop_assert_eq!(Size::Bytes(n).to_string().parse(), Ok(Size::Bytes(n)));
        // What is shown to people is at most a tenth of a unit below the truth, and never above it.
        if let Ok(shown) = bytes(&show_bytes(n)) {
            prop_assert!(shown <= n.saturating_add(1) && n - shown.min(n) <= (n / 10).max(1), "{} for {}", shown, n);
        }
    }

    #[test]
    fn letters_are_powers_of_1024_and_spelled_out_ones_of_1000(n in 0..1000u64, power in 1..5u32) {
        let letter = ["K", "M", "G", "T"][power as usize - 1];
        for unit in [letter.to_owned(), letter.to_lowercase(), format!("{letter}iB"), format!("{letter}i")] {
            prop_assert_eq!(bytes(&format!("{n}{unit}")), Ok(n * 1024u64.pow(power)));
        }
        prop_assert_eq!(bytes(&format!("{n}{letter}B")), Ok(n * 1000u64.pow(power)));
        prop_assert_eq!(bytes(&format!("{n}.5{letter}")), Ok(n * 1024u64.pow(power) + 1024u64.pow(power) / 2));
    }

    #[test]
    fn a_share_is_the_same_in_percent_and_in_cpus(hundredths in 1..1_000_000u64) {
        let percent: Cpu = format!("{}.{:02}%", hundredths / 100, hundredths % 100).parse().unwrap();
        let cpus: Cpu = format!("{}.{:04}cpus", hundredths / 10_000, hundredths % 10_000).parse().unwrap();
        prop_assert_eq!(percent, cpus);
        prop_assert_eq!(percent.quota_us(100_000), hundredths * 10);
    }

    #[test]
    fn lists_are_sorted_joined_and_keep_their_members(parts in vec((0..200u32, 0..20u32), 1..8)) {
        let text: Vec<String> = parts.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
        let list: List = text.join(",").parse().unwrap();
        for pair in list.0.windows(2) {
            prop_assert!(pair[0].1 + 1 < pair[1].0, "{list}");
        }
        for cpu in 0..240 {
            let asked = parts.iter().any(|(first, more)| (*first..=first + more).contains(&cpu));
            let listed = list.0.iter().any(|(first, last)| (*first..=*last).contains(&cpu));
            prop_assert_eq!(asked, listed, "{} in {}", cpu, list);
        }
    }

    #[test]
    fn any_set_of_limits_is_writes_or_a_reason(
        chosen in vec((0..LIMITS.len(), nearly()), 0..8),
        good in vec((0..LIMITS.len(), 0..GOOD.len()), 0..8),
        facts in facts(),
        v1 in vec(any::<bool>(), 7),
    ) {
        let words = chosen.into_iter().chain(good.into_iter().map(|(row, word)| (row, GOOD[word].to_owned())));
        let asked: Vec<Asked> = words
            .filter_map(|(row, text)| {
                let limit = &LIMITS[row];
                let value = (limit.parse)(&text).ok()?;
                Some(Asked { limit, spelled: format!("--{} {text}", limit.name), value })
            })
            .collect();
        let version = |controller| {
            let at = Controller::ALL.iter().position(|c| *c == controller)?;
            Some(if v1[at] { Version::V1 } else { Version::V2 })
        };
        match writes(&asked, &facts, version) {
            Ok(writes) => {
                for write in &writes {
                    prop_assert!(!write.alternatives.is_empty());
                    prop_assert!(asked.iter().any(|one| one.spelled == write.option), "{}", write.option);
                    for (file, value) in &write.alternatives {
                        prop_assert!(file.split_once('.').is_some() && !file.contains('/'), "{}", file);
                        prop_assert!(!value.contains('\n'), "{value:?}");
                    }
                }
                // Nothing that was asked for is forgotten: each last word of an option has a write of its own,
                // but for the period, which may be part of another's.
                for (at, one) in asked.iter().enumerate() {
                    let replaced = !one.limit.repeatable
                        && asked[at + 1..].iter().any(|later| later.limit.name == one.limit.name);
                    let no_disk = matches!(&one.value, Value::Io(rule)
                        if facts.disks.iter().any(|(place, disks)| *place == rule.place && *disks == Ok(vec![])));
                    let served = writes.iter().any(|write| write.option == one.spelled);
                    prop_assert!(served || replaced || no_disk || one.limit.name == "cpu-period", "{}", one.spelled);
                }
            }
            Err(error) => {
                prop_assert!(asked.iter().any(|one| Some(&one.spelled) == error.option.as_ref()), "{}", error);
                prop_assert!(!error.what.is_empty());
            }
        }
    }

    #[test]
    fn any_place_is_a_disk_or_a_reason(place in "\\PC{0,12}") {
        if let Err(error) = disks::resolve(Path::new("/"), Some(&place)) {
            prop_assert!(!error.what.is_empty());
        }
    }
}

const GOOD: [&str; 12] =
    ["30%", "2cpus", "64M", "25%", "max", "0", "100", "20ms", "0-1", "8:0:10M", "8:0:100", "4096"];

fn facts() -> impl Strategy<Value = Facts> {
    let place = prop_oneof![Just(None), Just(Some("8:0".to_owned())), Just(Some("/".to_owned()))];
    let disks = prop_oneof![
        vec("[0-9]{1,3}:[0-9]{1,3}", 0..3).prop_map(Ok),
        Just(Err(rcon::error::Error::new("it is on tmpfs"))),
    ];
    let page = prop_oneof![Just(0), Just(4096), Just(65_536)];
    (page, any::<u64>(), vec((place, disks), 0..4), any::<bool>()).prop_map(
        |(page, memory, disks, shared)| Facts {
            page,
            memory,
            cpuset: ("0-1".to_owned(), "0".to_owned()),
            disks,
            shared,
        },
    )
}
