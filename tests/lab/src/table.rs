//! Where what works: the lab's results as the table in README.

use crate::{
    guests::{GUESTS, Guest},
    results::{GuestResult, Verdict},
};
use std::fmt::Write;

/// A column, and the cases that prove it: one of them suffices, as some are for one cgroup version.
const COLUMNS: &[(&str, &[&str])] = &[
    ("CPU", &["basics::cpu_throttles"]),
    ("memory", &["basics::mem_kills_who_takes_more"]),
    ("tasks", &["basics::pids_refuses_a_fork"]),
    ("I/O", &["io::rates_hold_on_v1", "io::rates_hold_on_v2"]),
    ("kill -9 leaves nothing", &["anywhere::killed_a_thousand_times", "anywhere::killed_at_any_moment"]),
];

/// Markdown, a row for each guest: `yes` where the limit was seen to act, `-` where it cannot be had and is refused;
/// empty where it was not tried.
pub(crate) fn draw(results: &[GuestResult]) -> String {
    let mut text = String::from("| where | user |");
    for (name, _) in COLUMNS {
        write!(text, " {name} |").expect("writing to a string");
    }
    text += "\n|---|---|";
    text += &"---|".repeat(COLUMNS.len());
    for result in results {
        let Some(guest) = Guest::named(result.guest) else { continue };
        write!(text, "\n| {} | {} |", guest.what, user(guest)).expect("writing to a string");
        for (_, cases) in COLUMNS {
            write!(text, " {} |", cell(result, cases)).expect("writing to a string");
        }
    }
    text + "\n"
}

fn user(guest: &Guest) -> &'static str {
    if guest.is_ordinary_user() { "ordinary" } else { "root" }
}

fn cell(result: &GuestResult, cases: &[&str]) -> &'static str {
    let verdicts: Vec<&Verdict> = cases.iter().filter_map(|case| result.verdict(case)).collect();
    if verdicts.is_empty() {
        ""
    } else if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Failed(_))) {
        "FAILED"
    } else if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Passed | Verdict::Unsteady(_))) {
        "yes"
    } else {
        "-"
    }
}

/// Every guest has results, so that the table would be whole.
pub(crate) fn is_whole(results: &[GuestResult]) -> bool {
    results.len() == GUESTS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_what_was_seen() {
        let mut result = GuestResult::new("6.1-v1");
        result.report("pass\tbasics::cpu_throttles\t1").expect("a line");
        result.report("skip\tio::rates_hold_on_v2\tno").expect("a line");
        result.report("pass\tio::rates_hold_on_v1\t1").expect("a line");
        result.report("fail\tbasics::pids_refuses_a_fork\t1\twhy").expect("a line");
        let row = "| root | yes |  | FAILED | yes |  |";
        assert!(draw(&[result]).contains(row));
    }

    #[test]
    fn readme_has_a_row_for_each_guest() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));
        let readme = readme.expect("README.md");
        for guest in GUESTS {
            let row = format!("| {} | {} |", guest.what, user(guest));
            assert!(readme.contains(&row), "README's table has no {row:?}: see target/lab/where.md");
        }
    }
}
