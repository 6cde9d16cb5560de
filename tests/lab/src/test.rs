//! `cargo xtask test`: everything that can be tested from here.

use crate::{
    Result,
    guests::Machine,
    lab::{self, Order, conclude},
    prepare::{Places, packages},
    results::{Counts, GuestResult},
};
use clap::ArgMatches;
use nix::unistd::geteuid;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

pub(crate) fn main(args: &ArgMatches) -> Result<bool> {
    let places = Places::find()?;
    let mut order = Order { all: args.get_flag("all"), ..Order::from(args) };
    let (mut counts, here) = on_this_machine(&places, &order)?;
    let guests = order.guests.len();
    order.guests.retain(|guest| guest.machine != Machine::Host); // its results are here already
    let missing = packages::missing(&order.guests);
    let mut fine = counts.failed == 0;
    if !missing.is_empty() && !geteuid().is_root() && !args.get_flag("require-lab") {
        let list = missing.join(" ");
        println!(
            "\nSKIPPED: the kernel lab and its {} guests: these Debian packages are missing: {list}",
            guests - 1
        );
        println!("try: sudo apt-get install {list}");
        counts.skipped += order.guests.len();
    } else {
        let mut results = lab::run(&places, &order)?;
        results.insert(0, here);
        let (in_guests, all_well) = conclude(&places, &results)?;
        // this machine's cases are in both
        let twice = results[0].counts();
        counts += in_guests;
        counts.passed -= twice.passed;
        counts.failed -= twice.failed;
        counts.skipped -= twice.skipped;
        fine &= all_well;
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    Ok(fine)
}

/// `cargo test` as anybody would run it, its sums added up; and the kernel tests' report of it.
fn on_this_machine(places: &Places, order: &Order<'_>) -> Result<(Counts, GuestResult)> {
    let report = places.lab.join("host.report");
    fs::write(&report, "").map_err(|error| format!("{}: {error}", report.display()))?;
    let start = Instant::now();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace", "--no-fail-fast"]).current_dir(&places.project);
    cargo.env("RCON_KERNEL_REPORT", &report).env("RCON_MUST", "host").envs(order.environment.iter().cloned());
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo: {error}"))?;
    let mut counts = Counts::default();
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.map_err(|error| format!("cargo: {error}"))?;
        println!("{line}");
        counts += sums(&line).unwrap_or_default();
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    if !status.success() && counts.failed == 0 {
        counts.failed += 1; // it did not build, or a test binary died
    }
    let mut here = GuestResult::new("host");
    let text = fs::read_to_string(&report).map_err(|error| format!("{}: {error}", report.display()))?;
    text.lines()
        .try_for_each(|line| here.report(line))
        .map_err(|line| format!("not a line of a report: {line:?}"))?;
    here.close();
    here.took = start.elapsed();
    Ok((counts, here))
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; …`
fn sums(line: &str) -> Option<Counts> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        let part = rest.split("; ").find(|part| part.ends_with(what))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")?, skipped: number(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_sums_are_read() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.03s";
        assert_eq!(sums(line), Some(Counts { passed: 12, failed: 1, skipped: 3 }));
        assert_eq!(sums("test result of something else"), None);
    }
}
