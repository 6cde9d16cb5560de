//! Job control of a shell around us and inside of us, within limits; and what of a stopped job is left when a process
//! behind it is killed.

use crate::{
    anywhere::{gone, keeper, processes, tag},
    case::Case,
    groups::until,
    needs::Need,
    pty::{self, Terminal},
    support::{RCON, rcon, slow, victim_line},
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use std::{fs, path::Path, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    const PIDS: Need = Need::Controller("pids");
    vec![
        Case::new("jobs::ctrl_z_and_fg", &[PIDS], || both(pty::ctrl_z_and_fg)),
        Case::new("jobs::bg_goes_on", &[PIDS], || both(pty::bg_goes_on_in_the_background)),
        Case::new("jobs::ctrl_c_comes_once", &[PIDS], || both(pty::ctrl_c_comes_once)),
        Case::new("jobs::of_a_shell_inside", &[PIDS], || {
            both(pty::an_interactive_shell_inside_has_its_own_jobs)
        }),
        Case::new("jobs::stopped_and_the_front_killed", &[PIDS], || {
            stopped_and_killed(|front, _| kill(front, Signal::SIGKILL))
        }),
        Case::new("jobs::stopped_and_the_keeper_killed", &[PIDS], || {
            stopped_and_killed(|_, keeper| kill(keeper, Signal::SIGKILL))
        }),
        Case::new("jobs::stopped_and_the_job_killed", &[PIDS], || {
            stopped_and_killed(|front, _| killpg(front, Signal::SIGKILL))
        }),
        Case::new("jobs::fg_continues_once", &[PIDS, Need::Root], fg_continues_once),
        Case::new("jobs::a_stop_that_is_over", &[PIDS, Need::Root], a_stop_that_is_over),
        Case::new("jobs::stopped_and_kept", &[PIDS], stopped_and_kept),
        Case::new("jobs::make_in_parallel", &[PIDS, Need::Tool("make")], make_in_parallel),
    ]
}

/// bash where it is there, else the guest's own.
pub(crate) fn terminal(wrapper: &str) -> Terminal {
    let bash = Path::new("/bin/bash").exists();
    let shells = if bash { ["bash", "bash --norc --noprofile -i"] } else { ["sh", "sh -i"] };
    Terminal::new(wrapper, shells, slow(Duration::from_secs(30)))
}

/// The shell does with us and limits as it does without.
fn both(case: fn(&mut Terminal)) {
    case(&mut terminal(""));
    case(&mut terminal(&format!("{RCON} --pids 64 --")));
}

/// A job with a process that is stopped with it and one that has left it, after Ctrl-Z; the front and the keeper. Ctrl-C
/// ends it at any moment: without its trap bash goes on where the `sleep` has just ended by itself.
fn stopped(options: &str, tag: &str) -> (Terminal, Pid, Pid) {
    let mut terminal = terminal(&format!("{RCON} {options} --"));
    terminal.line(&format!(
        "$W $S -c 'trap \"exit 130\" INT; (setsid sleep {tag} >/dev/null 2>&1 &); sleep {tag} & while :; do sleep 0.1; echo ti\"\"ck; done'"
    ));
    terminal.expect("tick");
    until("the two do not sleep", || (processes(tag).len() >= 2).then_some(()));
    let front = keeper(terminal.shell.id()).expect("the shell's child");
    let keeper = keeper(front.as_raw() as u32).expect("a keeper");
    terminal.key('z');
    terminal.expect("Stopped");
    (terminal, front, keeper)
}

fn stopped_and_killed(whom: fn(Pid, Pid) -> nix::Result<()>) {
    let tag = tag(20);
    let (mut terminal, front, keeper) = stopped("--pids 64", &tag);
    whom(front, keeper).expect("kill");
    gone(front.as_raw() as u32, &tag);
    // And the shell is told.
    until("the job is not killed", || {
        terminal.line("jobs; echo ro''und");
        terminal.expect("round").contains("Killed").then_some(())
    });
}

/// The shell's SIGCONT reaches the command, as it is in its job. Another one from us would undo a Ctrl-Z that comes in
/// between, as here, where it comes at once.
fn fg_continues_once() {
    const ROUNDS: usize = 10;
    let line = victim_line("continued").map(|word| word.into_string().expect("UTF-8")).join(" ");
    for wrapper in ["", "--pids 64", "--unshare pid", "--pids 64 --unshare pid"] {
        let wrapper = if wrapper.is_empty() { String::new() } else { format!("{RCON} {wrapper} --") };
        let mut terminal = terminal(&wrapper);
        terminal.line(&format!("$W {line}"));
        terminal.expect("ready");
        for round in 1..=ROUNDS {
            terminal.key('z');
            terminal.expect("Stopped");
            terminal.line("fg");
            terminal.expect(&format!("continued {round}."));
        }
        assert!(
            !terminal.says(&format!("continued {}.", ROUNDS + 1), slow(Duration::from_millis(200))),
            "{wrapper}"
        );
        terminal.key('c');
    }
}

/// What the command did while rcon was stopped is no reason to stop once more when both go on.
fn a_stop_that_is_over() {
    // The second is without a keeper.
    for options in ["--pids 64", "--unshare pid"] {
        let (mut terminal, front, _) = stopped(options, &tag(22));
        let ticks = until("there is no command", || {
            let all = crate::groups::descendants(front.as_raw() as u32);
            all.into_iter().map(|pid| Pid::from_raw(pid as i32)).find(|pid| runs_script(*pid, "while :"))
        });
        for (signal, stopped) in [(Signal::SIGCONT, false), (Signal::SIGTSTP, true)] {
            kill(ticks, signal).expect("kill");
            until("it does not act on the signal", || ((state(ticks) == 'T') == stopped).then_some(()));
        }
        // For as long as the word takes to the front.
        std::thread::sleep(slow(Duration::from_millis(100)));
        terminal.line("fg; echo fg''=$?");
        let mut said = terminal.expect("tick");
        std::thread::sleep(slow(Duration::from_millis(300)));
        said += &terminal.expect("tick");
        assert!(!said.contains("Stopped") && !said.contains("fg="), "{options}: {said}");
        // The whole line with it.
        terminal.interrupt_ticks();
        until("it does not end", || (state(ticks) == 'X').then_some(()));
    }
}

/// The shell that has these words in its script, not what stands before it on its command line or what it has started; who
/// has gone meanwhile is neither.
pub(crate) fn runs_script(pid: Pid, words: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    !exe.ends_with("rcon") && String::from_utf8_lossy(&line).contains(words)
}

/// Who asked for it to be kept does not find it stopped for ever.
fn stopped_and_kept() {
    let tag = tag(21);
    let (terminal, front, keeps) = stopped("--pids 64 --on-wrapper-death keep", &tag);
    let sleeping = || processes(&tag).into_iter().map(state).collect::<Vec<_>>();
    // That the front has stopped, as the shell says, is not that these have.
    until("it does not stop", || sleeping().contains(&'T').then_some(()));
    kill(front, Signal::SIGKILL).expect("kill");
    until("it stays stopped", || (!sleeping().is_empty() && !sleeping().contains(&'T')).then_some(()));
    // Until it ends, and what it left with it.
    kill(keeper(keeps.as_raw() as u32).expect("the command"), Signal::SIGTERM).expect("kill");
    until("it does not end", || processes(&tag).is_empty().then_some(()));
    gone(front.as_raw() as u32, &tag);
    drop(terminal);
}

/// proc_pid_stat(5); `X`: it is gone.
pub(crate) fn state(pid: Pid) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('X')
}

/// make with its job server, also of a make below; and its children count as anybody's.
fn make_in_parallel() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let targets: Vec<String> = (0..24).map(|number| format!("t{number}")).collect();
    let text = format!(
        "all: below {list}\n{list}: ; @sleep 0.2; echo $@ >$@\nbelow: ; @$(MAKE) -s inner\n\
         inner: i1 i2 i3 i4\ni1 i2 i3 i4: ; @sleep 0.2; echo $@ >$@\n",
        list = targets.join(" ")
    );
    fs::write(dir.path().join("Makefile"), text).expect("write");
    let make = |pids: &str, jobs: &str| {
        let mut run = rcon(["--pids", pids, "--", "make", "-s", jobs]);
        run.command.current_dir(dir.path());
        run.limit(Duration::from_secs(60)).run()
    };
    let out = make("40", "-j8");
    assert_eq!((out.status.code(), out.stdout.as_str(), out.stderr.as_str()), (Some(0), "", ""), "{out}");
    for target in targets.iter().map(String::as_str).chain(["i1", "i4"]) {
        assert_eq!(fs::read_to_string(dir.path().join(target)).expect("built"), format!("{target}\n"));
        fs::remove_file(dir.path().join(target)).expect("remove");
    }
    // More jobs than tasks: make cannot fork, or the shell of one of its jobs, and says so.
    let out = make("8", "-j24");
    let says =
        ["Resource temporarily unavailable", "Cannot fork"].iter().any(|words| out.stderr.contains(words));
    assert!(!out.status.success() && says, "{out}");
}
