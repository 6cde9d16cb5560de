//! Process groups that nobody can continue (orphaned ones, as setpgid(2) has them): the only command of a terminal, and a
//! job whose shell has died. And Ctrl-C and Ctrl-Z before there is a command.

use crate::{
    anywhere::{gone, processes, tag},
    case::Case,
    groups::{descendants, until},
    jobs::{runs_script, state, terminal},
    needs::Need,
    pty::Terminal,
    support::{RCON, many, slow},
    victim::program,
};
use nix::{
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpgrp, tcsetpgrp},
};
use std::{error::Error, io::stdin, os::unix::process::CommandExt, process::Command, thread, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("orphans::ctrl_z_is_for_nobody", &[Need::Root], ctrl_z_is_for_nobody),
        Case::new("orphans::a_stop_on_purpose_stays", &[Need::Root], a_stop_on_purpose_stays),
        Case::new("orphans::reads_in_the_background_end", &[Need::Root], reads_in_the_background_end),
        Case::new("orphans::a_stopped_job_whose_shell_dies", &[Need::Root], a_stopped_job_whose_shell_dies),
        Case::new("orphans::keys_at_any_moment", &[Need::Root], keys_at_any_moment),
    ]
}

/// Without us, with a keeper, and with an init alone.
const WRAPPERS: [&[&str]; 3] = [&[], &[RCON, "--"], &[RCON, "--unshare", "pid", "--"]];

fn patience() -> Duration {
    slow(Duration::from_secs(20))
}

/// `sh -c SCRIPT` as the only thing in a terminal, as `tmux new-window` and `ssh -t` have it.
fn alone(wrapper: &[&str], script: &str) -> Terminal {
    Terminal::of(&[wrapper, &["sh", "-c", script]].concat(), patience())
}

/// Without us the kernel does not stop it; with us somebody would have to continue it.
fn ctrl_z_is_for_nobody() {
    for wrapper in WRAPPERS {
        let mut terminal = alone(wrapper, "stty -echo; echo ready; while read word; do echo got $word; done");
        terminal.expect("ready");
        for word in ["one", "two"] {
            thread::sleep(Duration::from_millis(50));
            terminal.key('z');
            terminal.line(word);
            terminal.expect(&format!("got {word}"));
        }
    }
}

/// Who stops itself waits for somebody.
fn a_stop_on_purpose_stays() {
    for wrapper in WRAPPERS {
        let mut terminal = alone(wrapper, "echo ready; kill -STOP $$; echo on; read word");
        terminal.expect("ready");
        let top = terminal.shell.id();
        let stopped = || {
            let all = std::iter::once(top).chain(descendants(top));
            all.map(|pid| Pid::from_raw(pid as i32))
                .find(|pid| runs_script(*pid, "kill -STOP") && state(*pid) == 'T')
        };
        let command = until("it does not stop", stopped);
        thread::sleep(slow(Duration::from_millis(200)));
        assert_eq!(state(command), 'T', "{wrapper:?}: somebody has woken it");
        kill(command, Signal::SIGCONT).expect("kill");
        terminal.expect("on");
    }
}

/// The kernel refuses them without us (EIO). With us the command would be stopped for ever, and dies of what a stopped
/// job dies of that nobody can continue; the shell that it is the command of goes on.
fn reads_in_the_background_end() {
    let soon = slow(Duration::from_millis(300)).as_secs_f64();
    for (wrapper, status) in WRAPPERS.into_iter().zip(["1", "129", "1"]) {
        let mut terminal = terminal(&wrapper.join(" "));
        for _ in 0..many(5) {
            terminal.line(&format!("((sleep {soon}; $W cat </dev/tty 2>/dev/null; echo ended''=$?.) &)"));
            terminal.expect(&format!("ended={status}."));
        }
    }
}

/// The kernel hangs up on it without us.
fn a_stopped_job_whose_shell_dies() {
    for (number, wrapper) in (30..).zip(WRAPPERS) {
        let tag = tag(number);
        let mut terminal = terminal(&wrapper.join(" "));
        let shell = terminal.shell.id();
        terminal.line(&format!("$W $S -c 'sleep {tag} & while :; do sleep 0.1; echo ti\"\"ck; done'"));
        terminal.expect("tick");
        let front = until("it has no child", || descendants(shell).first().copied());
        terminal.key('z');
        terminal.expect("Stopped");
        until("it does not stop", || {
            processes(&tag).first().and_then(|pid| (state(*pid) == 'T').then_some(()))
        });
        kill(Pid::from_raw(shell as i32), Signal::SIGKILL).expect("kill");
        until("it stays stopped", || processes(&tag).is_empty().then_some(()));
        gone(front, &tag);
    }
}

/// However early a key is pressed, the job ends or stops: nothing hangs, and next to no key is lost.
fn keys_at_any_moment() {
    const ROUNDS: u64 = 60;
    for wrapper in WRAPPERS {
        let line = [wrapper, &["sleep", "1000"]].concat().join(" ");
        let role = format!("--victim=session:{ROUNDS}:{line}");
        let program = program().display().to_string();
        let mut terminal = Terminal::of(&[&program, &role], patience());
        let mut lost = 0;
        for round in 0..ROUNDS {
            terminal.expect(&format!("begin{round}."));
            // To the command's start and beyond.
            thread::sleep(slow(Duration::from_micros(round * 60)));
            let key = if round % 2 == 0 { 'c' } else { 'z' };
            terminal.key(key);
            while !terminal.says(&format!("end{round}."), slow(Duration::from_millis(500))) {
                lost += 1;
                assert!(lost < 10, "{wrapper:?}: {key} of round {round}, for one, does not end or stop it");
                terminal.key(key);
            }
        }
    }
}

/// A shell's part, without a shell, which may itself fall victim to a key that comes while it forks.
pub(crate) fn session(rounds: u64, line: &str) -> Result<(), Box<dyn Error>> {
    // Of the background, where we are when a job has ended.
    let refused = SigSet::from_iter([Signal::SIGTTOU]);
    let words: Vec<&str> = line.split(' ').collect();
    let (program, words) = words.split_first().ok_or("no words")?;
    for round in 0..rounds {
        let mut job = Command::new(program).args(words).process_group(0).spawn()?;
        let pid = Pid::from_raw(job.id() as i32);
        tcsetpgrp(stdin(), pid)?;
        println!("begin{round}.");
        if let WaitStatus::Stopped(..) = waitpid(pid, Some(WaitPidFlag::WUNTRACED))? {
            killpg(pid, Signal::SIGKILL)?;
            job.wait()?;
        }
        refused.thread_block()?;
        tcsetpgrp(stdin(), getpgrp())?;
        refused.thread_unblock()?;
        println!("end{round}.");
    }
    Ok(())
}
