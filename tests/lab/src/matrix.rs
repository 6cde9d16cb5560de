//! Test × guest.

use crate::results::{GuestResult, Verdict};
use std::fmt::Write;

/// Names of all cases, in the order in which they were first seen.
fn cases(results: &[GuestResult]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for case in results.iter().flat_map(|result| &result.cases) {
        if !names.contains(&case.name.as_str()) {
            names.push(&case.name);
        }
    }
    names
}

/// Cases that were skipped everywhere: they prove nothing.
pub(crate) fn ran_nowhere(results: &[GuestResult]) -> Vec<&str> {
    let ran = |name: &&str| {
        results.iter().any(|result| {
            matches!(result.verdict(name), Some(Verdict::Passed | Verdict::Unsteady(_) | Verdict::Failed(_)))
        })
    };
    cases(results).into_iter().filter(|name| !ran(name)).collect()
}

/// The matrix as text: a column per guest, numbered, with its name below.
pub(crate) fn draw(results: &[GuestResult]) -> String {
    let names = cases(results);
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut text = String::from(
        "\ntest × guest: + passed, ~ failed once and then passed, F failed, . skipped, blank not run\n\n",
    );
    let head: String = (1..=results.len()).map(|number| format!("{number:>3}")).collect();
    line(&mut text, &format!("{:width$}{head}", ""));
    for name in names {
        let row: String = results.iter().map(|result| format!("{:>3}", mark(result.verdict(name)))).collect();
        line(&mut text, &format!("{name:width$}{row}"));
    }
    line(&mut text, "");
    for (number, result) in results.iter().enumerate() {
        let counts = result.counts();
        let state = if result.trouble.is_some() { "  GUEST FAILED" } else { "" };
        let numbers =
            format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
        let took = result.took.as_secs_f64();
        line(&mut text, &format!("{:>3} {:20} {numbers}, {took:.1} s{state}", number + 1, result.guest));
    }
    text
}

fn mark(verdict: Option<&Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Passed) => "+",
        Some(Verdict::Unsteady(_)) => "~",
        Some(Verdict::Failed(_)) => "F",
        Some(Verdict::Skipped(_)) => ".",
        None => "",
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_nowhere_is_found() {
        let mut here = GuestResult::new("here");
        here.report("skip\ta\tno").expect("a line");
        here.report("skip\tb\tno").expect("a line");
        let mut there = GuestResult::new("there");
        there.report("pass\ta\t1").expect("a line");
        there.report("skip\tb\tno").expect("a line");
        assert_eq!(ran_nowhere(&[here, there]), ["b"]);
    }
}
