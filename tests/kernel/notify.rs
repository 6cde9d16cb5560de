//! Service managers: readiness and sockets go through rcon, with and without a cage.

use crate::{
    case::Case,
    needs::Need,
    support::{RCON, Run, rcon, run, slow, victim_line},
};
use std::{fs, io::ErrorKind, os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

pub(crate) fn tests() -> Vec<Case> {
    vec![
        Case::new("notify::messages_reach_the_manager", &[], messages_reach_the_manager),
        Case::new("notify::messages_leave_the_cage", &[Need::Root], messages_leave_the_cage),
        Case::new(
            "notify::what_means_nothing_outside_is_not_said",
            &[],
            what_means_nothing_outside_is_not_said,
        ),
        Case::new("notify::descriptors_do_not_pile_up", &[Need::Root], descriptors_do_not_pile_up),
        Case::new("notify::a_manager_that_is_gone", &[], a_manager_that_is_gone),
        Case::new("notify::sockets_are_handed_on", &[Need::Root], sockets_are_handed_on),
        Case::new(
            "notify::a_unit_is_ready_when_its_server_says_so",
            &[Need::Root, Need::Systemd],
            a_unit_is_ready,
        ),
        Case::new("notify::nothing_without_a_manager", &[], nothing_without_a_manager),
    ]
}

/// A service manager's end.
struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("bind");
        socket.set_read_timeout(Some(slow(Duration::from_secs(5)))).expect("timeout");
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::PassCred, &true)
            .expect("credentials");
        Self { dir, socket }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// The next message and who sent it. Descriptors that come with it are closed.
    fn next(&self) -> (String, i32) {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg};
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
        let mut buffer = [0; 4096];
        let mut space = nix::cmsg_space!(UnixCredentials, [RawFd; 8]);
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let message =
            recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
                .expect("a message");
        let mut sender = 0;
        for control in message.cmsgs().expect("control") {
            match control {
                ControlMessageOwned::ScmCredentials(who) => sender = who.pid(),
                ControlMessageOwned::ScmRights(fds) => {
                    #[allow(unsafe_code)]
                    // SAFETY: the kernel has just given them to us.
                    fds.into_iter().for_each(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd) }));
                }
                _ => {}
            }
        }
        let length = message.bytes;
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), sender)
    }

    fn is_silent(&self) -> bool {
        self.socket.set_nonblocking(true).expect("nonblocking");
        let silent = self.socket.recv(&mut [0; 16]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).expect("blocking");
        silent
    }
}

fn root() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let [program, _] = victim_line("");
    fs::write(dir.path().join("victim"), "").expect("mount point");
    fs::create_dir(dir.path().join("proc")).expect("mkdir");
    let bind = format!("{}:/victim", program.display());
    (dir, bind)
}

fn caged(options: &[&str], role: &str) -> (tempfile::TempDir, Run) {
    let (dir, bind) = root();
    let run = rcon(["--root"]).args([dir.path()]).args(["--ro-bind", &bind]).args(options);
    (dir, run.args(["--", "/victim", &format!("--victim={role}")]))
}

fn messages_reach_the_manager() {
    let manager = Manager::new();
    let mut run =
        rcon(["--"]).victim("notify:READY=1|STATUS=up").env("NOTIFY_SOCKET", manager.path()).start();
    // The manager listens to the process that it started, and that is rcon.
    let rcon = run.child.id() as i32;
    assert_eq!(manager.next(), ("READY=1\nSTATUS=up".to_owned(), rcon));
    assert_eq!(manager.next(), ("BARRIER=1".to_owned(), rcon));
    run.wait_for("notified");
    assert_eq!(run.finish().shell_status(), 0);
    // An abstract name is as good as a path.
    let name = format!("rcon-test-{rcon}");
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
    let socket = UnixDatagram::bind_addr(&address.expect("address")).expect("bind");
    let run = crate::support::rcon(["--"])
        .victim("notify:READY=1")
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .start();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("a message");
    assert_eq!(&buffer[..length], b"READY=1");
    drop(socket); // with the barrier in it
    assert_eq!(run.finish().shell_status(), 0);
}

fn messages_leave_the_cage() {
    for options in [
        &[][..],
        &["--unshare", "pid"],
        &["--unshare", "net"],
        &["--unshare", crate::cage::all_kinds()],
        &["--map-users", "0:100000:65536", "--unshare", "net"],
    ] {
        let manager = Manager::new();
        let (_dir, run) = caged(options, "notify:READY=1|MAINPID=2");
        let run = run.env("NOTIFY_SOCKET", manager.path()).start();
        let rcon = run.child.id() as i32;
        let said = format!("READY=1\nMAINPID={rcon}");
        assert_eq!(manager.next(), (said, rcon), "{options:?}");
        assert_eq!(manager.next(), ("BARRIER=1".to_owned(), rcon), "{options:?}");
        let out = run.finish();
        assert_eq!((out.shell_status(), out.stderr.as_str()), (0, ""), "{out}");
    }
}

fn what_means_nothing_outside_is_not_said() {
    let manager = Manager::new();
    let run = rcon(["--"]).victim("notify:FDSTORE=1|FDNAME=x").env("NOTIFY_SOCKET", manager.path()).start();
    assert_eq!(manager.next().0, "BARRIER=1");
    let out = run.finish();
    assert!(out.stderr.contains("FDSTORE=1") && out.shell_status() == 0, "{out}");
    assert!(manager.is_silent());
}

/// A command must not be able to use up the descriptors of the process that keeps it to its limits. Root, because others
/// may not have many on the way at once.
fn descriptors_do_not_pile_up() {
    for (said, lost) in [("BARRIER=1", true), ("FDSTORE=1|STATUS=up", false)] {
        let manager = Manager::new();
        // Each message has more than there is room for.
        let run = run("sh").args(["-c", "ulimit -n 64; exec \"$@\"", "sh", RCON, "--"]);
        let run = run.victim(&format!("notify-fds:{said}:58:3")).env("NOTIFY_SOCKET", manager.path()).start();
        if !lost {
            (0..3).for_each(|_| assert_eq!(manager.next().0, "STATUS=up"));
        }
        assert_eq!(manager.next().0, "READY=1");
        // There is still room for its descriptor.
        assert_eq!(manager.next().0, "BARRIER=1");
        let out = run.finish();
        assert_eq!(out.shell_status(), 0, "{out}");
        let told = out.stderr.matches("it had more descriptors than may be open here (ulimit -n)").count();
        assert_eq!(told, if lost { 3 } else { 0 }, "{out}");
    }
}

fn a_manager_that_is_gone() {
    let out = rcon(["--"]).victim("notify:READY=1").env("NOTIFY_SOCKET", "/nonexistent/notify").run();
    assert_eq!(out.shell_status(), 0, "{out}");
    assert!(out.stderr.contains("did not reach its service manager at /nonexistent/notify"), "{out}");
}

fn sockets_are_handed_on() {
    let line = "exec 3</etc/passwd 4</etc/group 5</etc; export LISTEN_FDS=2 LISTEN_FDNAMES=a:b LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\"";
    let start = |run: Run| {
        let words: Vec<std::ffi::OsString> = run.command.get_args().map(ToOwned::to_owned).collect();
        crate::support::run("sh").args(["-c", line, "sh", crate::support::RCON]).args(words).run()
    };
    let out = start(rcon(["--"]).victim("listen"));
    assert_eq!(
        out.stdout, "own=true count=2 names=a:b watchdog=true 3=/etc/passwd 4=/etc/group 5=/etc\n",
        "{out}"
    );
    for options in [&["--proc"][..], &["--unshare", "pid"], &["--unshare", crate::cage::all_kinds()]] {
        let (_dir, run) = caged(options, "listen");
        let out = start(run);
        // No longer in the root, but open; and 5 was not passed.
        assert!(out.stdout.starts_with("own=true count=2 names=a:b watchdog=true 3="), "{out}");
        assert!(out.stdout.contains(" 4=") && !out.stdout.contains(" 5="), "{out}");
    }
    // Meant for somebody else: not touched.
    let out =
        run("env").args(["LISTEN_PID=1", "LISTEN_FDS=1", crate::support::RCON, "--"]).victim("listen").run();
    assert!(out.stdout.starts_with("own=false count=1"), "{out}");
}

fn nothing_without_a_manager() {
    let out = rcon(["--", "sh", "-c", "echo ${NOTIFY_SOCKET-none}"]).run();
    assert_eq!(out.stdout, "none\n", "{out}");
    let out = rcon(["--", "sh", "-c", "echo $NOTIFY_SOCKET"]).env("NOTIFY_SOCKET", "vsock:2:1").run();
    assert_eq!(out.stdout, "vsock:2:1\n", "{out}");
}

/// systemd itself: starting a unit of this type ends when the server has said that it is ready.
fn a_unit_is_ready() {
    let (dir, bind) = root();
    let root = dir.path().display().to_string();
    let [program, _] = victim_line("");
    let program = program.to_string_lossy().into_owned();
    let caged = ["--root", &root, "--ro-bind", &bind, "--unshare", "pid,net", "--", "/victim"];
    for (number, words) in [&["--", program.as_str()][..], &caged[..]].into_iter().enumerate() {
        let unit = format!("rcon-test-{}-{number}", std::process::id());
        let start = |role: &str, limit: &str| {
            let flags = [
                "--service-type=notify",
                "--collect",
                &format!("--property=TimeoutStartSec={limit}"),
                &format!("--unit={unit}"),
            ];
            let run = run("systemd-run").args(flags).args([crate::support::RCON]).args(words);
            run.args([format!("--victim={role}")]).limit(Duration::from_secs(60)).run()
        };
        let out = start("notify:READY=1|STATUS=it is up:600", "60");
        assert_eq!(out.shell_status(), 0, "{out}");
        let shown = run("systemctl").args(["show", &unit, "--property=ActiveState,StatusText"]).run();
        assert!(
            shown.stdout.contains("ActiveState=active") && shown.stdout.contains("StatusText=it is up"),
            "{shown}"
        );
        let out = run("systemctl").args(["stop", &unit]).limit(Duration::from_secs(60)).run();
        assert_eq!(out.shell_status(), 0, "{out}");
        // One that never says so never is: it is the server's word that counts.
        let out = start("sleep:600", "3");
        assert_ne!(out.shell_status(), 0, "{out}");
    }
}
