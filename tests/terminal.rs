//! At a terminal it is as if we were not there: every case drives an interactive shell in a pseudo-terminal, with
//! the command wrapped and bare, and wants to see the same.

use std::process::Command;
use std::time::{Duration, Instant};

use pty::Terminal;

mod pty;

const RCON: &str = env!("CARGO_BIN_EXE_rcon");

/// How long anything may take on a busy machine before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

const SHELLS: [&str; 2] = ["bash", "bash --norc --noprofile -i"];

fn terminal(wrapper: &str) -> Terminal {
    Terminal::new(wrapper, SHELLS, PATIENCE)
}

/// The same with us and without.
fn both(case: impl Fn(&mut Terminal)) {
    case(&mut terminal(""));
    case(&mut terminal(&format!("{RCON} --")));
    case(&mut terminal(&format!("{RCON} --wait-all --")));
    // Behind the init of a pid namespace, which an ordinary user may not have everywhere.
    let caged = format!("{RCON} --unshare pid --");
    let tried = Command::new(RCON).args(["--unshare", "pid", "--", "true"]).output().expect("rcon");
    if tried.status.success() {
        case(&mut terminal(&caged));
    } else {
        eprintln!("not behind an init: {}", String::from_utf8_lossy(&tried.stderr));
    }
}

#[test]
fn ctrl_c_comes_once() {
    both(pty::ctrl_c_comes_once);
}

#[test]
fn ctrl_c_stops_the_shells_loop_too() {
    both(|terminal| {
        terminal.line("for i in 1 2 3; do echo ro''und; $W sleep 5; echo next; done; echo after");
        terminal.expect("round");
        std::thread::sleep(Duration::from_millis(300));
        terminal.key('c');
        terminal.line("echo \"st=$?\"");
        let between = terminal.expect("st=130");
        assert!(!between.contains("next") && !between.contains("round"), "{between:?}");
    });
}

#[test]
fn ctrl_c_ends_the_command() {
    both(pty::ctrl_c_ends_the_command);
}

#[test]
fn ctrl_backslash_quits() {
    both(pty::ctrl_backslash_quits);
}

#[test]
fn ctrl_z_and_fg() {
    both(pty::ctrl_z_and_fg);
}

#[test]
fn bg_goes_on_in_the_background() {
    both(pty::bg_goes_on_in_the_background);
}

#[test]
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

#[test]
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

#[test]
fn who_reads_in_the_background_stops() {
    both(|terminal| {
        terminal.line("$W bash -c 'read line; echo \"got:$line:\"' &");
        terminal.line("while ! jobs -s | grep -q .; do sleep 0.05; done; jobs");
        terminal.expect("Stopped");
        terminal.line("fg");
        std::thread::sleep(Duration::from_millis(300));
        terminal.line("words");
        terminal.expect("got:words:");
    });
}

#[test]
fn an_interactive_shell_inside_has_its_own_jobs() {
    both(pty::an_interactive_shell_inside_has_its_own_jobs);
}

#[test]
fn a_shell_inside_can_suspend_itself() {
    both(|terminal| {
        terminal.line("$W bash --norc --noprofile -i; echo \"outer=$?\"");
        terminal.line("echo in''side; suspend -f");
        terminal.expect("inside");
        terminal.expect("Stopped");
        terminal.line("echo outer''most; fg; echo \"fg=$?\"");
        terminal.expect("outermost");
        std::thread::sleep(Duration::from_millis(300));
        terminal.line("echo aga''in; exit 4");
        terminal.expect("again");
        terminal.expect("fg=4");
    });
}

#[test]
fn the_size_of_the_window_reaches_the_command() {
    both(pty::the_size_of_the_window_reaches_the_command);
}

#[test]
fn a_hangup_ends_the_command() {
    for wrapper in ["", &format!("{RCON} --")] {
        let mut terminal = terminal(wrapper);
        terminal.line("$W bash -c 'echo \"pid=$$.\"; exec sleep 600'");
        terminal.expect("pid=");
        let pid = terminal.expect(".");
        drop(terminal.keyboard.try_clone());
        // The window is closed: the last descriptor of the master goes.
        let Terminal { .. } = &terminal;
        drop(terminal);
        let deadline = Instant::now() + PATIENCE;
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "{pid} outlives its terminal");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
