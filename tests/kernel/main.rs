//! What rcon promises, proved by what the kernel did.
//!
//! One test binary, run on this machine by `cargo test` and inside every guest of the kernel lab by
//! `cargo xtask lab`. A case says what it needs; the harness looks at the kernel and runs or skips it.
//!
//! # Adding a case
//!
//! 1. Write a function that panics when the promise is broken:
//!
//!    ```ignore
//!    fn refuses_the_seventeenth_task() {
//!        let out = rcon(["--pids", "16", "--"]).victim("forks:40").run();
//!        assert!(out.stdout.contains("err=EAGAIN"), "{out}");
//!    }
//!    ```
//! 2. Add it to the list that its module's `tests()` returns, with what it needs:
//!    `Case::new("limits::pids", &[Need::Controller("pids")], refuses_the_seventeenth_task)`.
//! 3. A new module is one `mod` line and one line in [`cases`].
//!
//! Cases run one after another, alone on the machine. After each the harness compares groups, mounts and
//! processes with before: a case that leaves something behind has failed. Guests are 10 to 15 times slower
//! than a real machine, so no case may depend on a short time or repeat a thing
//! hundreds of times there: see [`support::slow`] and [`support::many`].
//! Anything that could hurt a machine (fork bombs, filling the memory) needs [`needs::Need::Lab`].

mod anywhere;
mod attach;
mod bare;
mod basics;
mod cage;
mod case;
mod cleanup;
mod containers;
mod control;
mod cost;
mod cpu;
mod deeds;
mod delegated;
mod diagnosis;
mod escape;
mod exec;
mod facts;
mod figures;
mod fixture;
mod groups;
mod harness;
mod hints;
mod image;
mod io;
mod jobs;
mod memory;
mod needs;
mod notify;
mod ordinary;
mod orphans;
mod place;
mod privileges;
mod profiles;
mod pty;
mod receipt;
mod refusals;
mod report;
mod rights;
mod sabotage;
mod schema;
mod shared;
mod shells;
mod sudo;
mod support;
mod systemd;
mod terminal;
mod victim;
mod weaker;

use case::Case;
use std::process::ExitCode;

fn cases() -> Vec<Case> {
    if let Some(only) = sabotage::tests() {
        return only;
    }
    // one to a line: they are added to from several sides
    #[rustfmt::skip]
    let modules = [
        harness::tests(),
        anywhere::tests(),
        basics::tests(),
        cost::tests(),
        receipt::tests(),
        figures::tests(),
        diagnosis::tests(),
        control::tests(),
        attach::tests(),
        exec::tests(),
        profiles::tests(),
        shells::tests(),
        hints::tests(),
        rights::tests(),
        systemd::tests(),
        containers::tests(),
        privileges::tests(),
        cage::tests(),
        cpu::tests(),
        memory::tests(),
        io::tests(),
        cleanup::tests(),
        shared::tests(),
        refusals::tests(),
        weaker::tests(),
        terminal::tests(),
        jobs::tests(),
        orphans::tests(),
        bare::tests(),
        notify::tests(),
        escape::tests(),
        image::tests(),
        ordinary::tests(),
        delegated::tests(),
        sudo::tests(),
    ];
    let mut cases = modules.concat();
    // The lab's: what this guest runs where time is short, modules or single cases.
    if let Ok(modules) = std::env::var("RCON_MODULES") {
        cases.retain(|case| modules.split(' ').any(|word| case.is_called(word)));
    }
    cases
}

fn main() -> ExitCode {
    if let Some(role) = victim::asked() {
        return victim::play(&role);
    }
    let mut args = libtest_mimic::Arguments::from_args();
    args.test_threads = Some(1); // each case must be alone to be measured and to be seen to clean up
    if !args.list {
        fixture::prepare();
    }
    let mut trials: Vec<_> = cases().into_iter().map(Case::into_trial).collect();
    // Several words, with commas: the cases that contain any of them.
    if let Some(words) = args.filter.take_if(|words| words.contains(',')) {
        trials.retain(|trial| words.split(',').any(|word| trial.name().contains(word)));
    }
    libtest_mimic::run(&args, trials).exit_code()
}
