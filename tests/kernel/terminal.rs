//! At a terminal it is as if we were not there, without a group and behind an init too: every case drives an interactive
//! shell in a pseudo-terminal, with the command wrapped and bare, and wants to see the same.

use crate::{
    case::Case,
    groups::until,
    jobs::{state, terminal},
    needs::Need,
    pty::{self, Terminal},
    support::{RCON, rcon, slow},
};
use nix::unistd::Pid;
use std::{thread::sleep, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    const BASH: &[Need] = &[Need::Tool("bash")];
    vec![
        Case::new("terminal::ctrl_c_comes_once", BASH, || both(pty::ctrl_c_comes_once)),
        Case::new("terminal::ctrl_c_stops_the_shells_loop_too", BASH, ctrl_c_stops_the_shells_loop_too),
        Case::new("terminal::ctrl_c_ends_the_command", BASH, || both(pty::ctrl_c_ends_the_command)),
        Case::new("terminal::ctrl_backslash_quits", BASH, || both(pty::ctrl_backslash_quits)),
        Case::new("terminal::ctrl_z_and_fg", BASH, || both(pty::ctrl_z_and_fg)),
        Case::new("terminal::bg_goes_on_in_the_background", BASH, || both(pty::bg_goes_on_in_the_background)),
        Case::new(
            "terminal::who_does_not_stop_does_not_make_us_stop",
            BASH,
            who_does_not_stop_does_not_make_us_stop,
        ),
        Case::new("terminal::who_stops_itself_makes_us_stop", BASH, who_stops_itself_makes_us_stop),
        Case::new("terminal::who_reads_in_the_background_stops", BASH, who_reads_in_the_background_stops),
        Case::new("terminal::an_interactive_shell_inside_has_its_own_jobs", BASH, || {
            both(pty::an_interactive_shell_inside_has_its_own_jobs)
        }),
        Case::new("terminal::a_shell_inside_can_suspend_itself", BASH, a_shell_inside_can_suspend_itself),
        Case::new("terminal::the_size_of_the_window_reaches_the_command", BASH, || {
            both(pty::the_size_of_the_window_reaches_the_command)
        }),
        Case::new("terminal::a_hangup_ends_the_command", BASH, a_hangup_ends_the_command),
    ]
}

/// The same with us and without.
fn both(case: impl Fn(&mut Terminal)) {
    case(&mut terminal(""));
    case(&mut terminal(&format!("{RCON} --")));
    case(&mut terminal(&format!("{RCON} --wait-all --")));
    // Behind the init of a pid namespace, which an ordinary user may not have everywhere.
    let tried = rcon(["--unshare", "pid", "--", "true"]).run();
    if tried.status.success() {
        case(&mut terminal(&format!("{RCON} --unshare pid --")));
    } else {
        eprintln!("not behind an init: {tried}");
    }
}

fn ctrl_c_stops_the_shells_loop_too() {
    both(|terminal| {
        terminal.line("for i in 1 2 3; do echo ro''und; $W sleep 5; echo next; done; echo after");
        terminal.expect("round");
        sleep(slow(Duration::from_millis(300)));
        terminal.key('c');
        terminal.line("echo \"st=$?\"");
        let between = terminal.expect("st=130");
        assert!(!between.contains("next") && !between.contains("round"), "{between:?}");
    });
}

fn who_does_not_stop_does_not_make_us_stop() {
    both(|terminal| {
        terminal.line(
            "$W bash -c 'trap \"\" TSTP; echo rea\"\"dy; sleep 0.7; echo fini\"\"shed'; echo \"st=$?\"",
        );
        terminal.expect("ready");
        terminal.key('z');
        let before = terminal.expect("finished");
        assert!(!before.contains("Stopped"), "{before:?}");
        terminal.expect("st=0");
    });
}

fn who_stops_itself_makes_us_stop() {
    for signal in ["TSTP", "STOP"] {
        both(|terminal| {
            terminal
                .line(&format!("$W bash -c 'kill -{signal} $$; echo fini\"\"shed; exit 3'; echo \"st=$?\""));
            terminal.expect("Stopped");
            terminal.line("fg; echo \"fg=$?\"");
            terminal.expect("finished");
            terminal.expect("fg=3");
        });
    }
}

fn who_reads_in_the_background_stops() {
    both(|terminal| {
        terminal.line("$W bash -c 'read line; echo \"got:$line:\"' &");
        terminal.line("while ! jobs -s | grep -q .; do sleep 0.05; done; jobs");
        terminal.expect("Stopped");
        terminal.line("fg");
        sleep(slow(Duration::from_millis(300)));
        terminal.line("words");
        terminal.expect("got:words:");
    });
}

fn a_shell_inside_can_suspend_itself() {
    both(|terminal| {
        terminal.line("$W bash --norc --noprofile -i; echo \"outer=$?\"");
        terminal.line("echo in''side; suspend -f");
        terminal.expect("inside");
        terminal.expect("Stopped");
        terminal.line("echo outer''most; fg; echo \"fg=$?\"");
        terminal.expect("outermost");
        sleep(slow(Duration::from_millis(300)));
        terminal.line("echo aga''in; exit 4");
        terminal.expect("again");
        terminal.expect("fg=4");
    });
}

fn a_hangup_ends_the_command() {
    for wrapper in ["", &format!("{RCON} --")] {
        let mut terminal = terminal(wrapper);
        terminal.line("$W bash -c 'echo \"pid=$$.\"; exec sleep 600'");
        terminal.expect("pid=");
        let pid = Pid::from_raw(terminal.expect(".").parse().expect("a number"));
        // The window is closed.
        drop(terminal);
        until("it outlives its terminal", || matches!(state(pid), 'Z' | 'X').then_some(()));
    }
}
