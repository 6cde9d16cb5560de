//! Deeds that the kernel grants or refuses by capability, and what a process has of them: the victims of the
//! cases in [`crate::privileges`].

use std::{
    error::Error,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
    },
    time::{ClockId, clock_gettime, clock_settime},
    unistd::{Pid, Uid, chown, chroot},
};

/// Does the deed and says `done`, or the name of the error.
///
/// | deed | does | capability |
/// |---|---|---|
/// | `status` | says identity and capability sets, as in /proc/self/status | |
/// | `bind:PORT` | serves one connection on loopback | net_bind_service |
/// | `chown:PATH` | gives a file away | chown |
/// | `ping` | an echo request through a raw socket, and the answer | net_raw |
/// | `mount:DIR` | mounts a tmpfs and unmounts it | sys_admin |
/// | `kill:PID` | ends a process of another user | kill |
/// | `chroot:DIR` | changes its root | sys_chroot |
/// | `clock` | sets the clock to what it says | sys_time |
/// | `exec:PATH:DEED` | executes this copy of the victim, which does the deed | |
/// | `both:PORT:PATH` | `bind` and `chown` | both |
pub(crate) fn act(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match *words {
        ["status"] => return status(),
        ["exec", path, ref deed @ ..] => {
            use std::os::unix::process::CommandExt;
            let deed = format!("--victim=may:{}", deed.join(":"));
            return Err(std::process::Command::new(path).arg(deed).exec().into());
        }
        _ => {}
    }
    let answer = match *words {
        ["bind", port] => serve(port.parse()?),
        ["chown", path] => give_away(path),
        ["ping"] => ping(),
        ["mount", dir] => mount_on(dir),
        ["kill", pid] => kill(Pid::from_raw(pid.parse()?), Signal::SIGTERM).map_err(Into::into),
        ["chroot", dir] => chroot(dir).map_err(Into::into),
        ["clock"] => clock_gettime(ClockId::CLOCK_REALTIME)
            .and_then(|now| clock_settime(ClockId::CLOCK_REALTIME, now))
            .map_err(Into::into),
        ["both", port, path] => serve(port.parse()?).and_then(|()| give_away(path)),
        _ => return Err("no such deed".into()),
    };
    match answer {
        Ok(()) => println!("done"),
        Err(error) => match error.raw_os_error() {
            Some(number) => println!("{:?}", nix::errno::Errno::from_raw(number)),
            None => println!("{error}"),
        },
    }
    Ok(())
}

fn status() -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if key.starts_with("Cap") || ["Uid", "Gid", "Groups", "NoNewPrivs"].contains(&key) {
            println!("{key}={}", value.split_whitespace().collect::<Vec<_>>().join(","));
        }
    }
    // Whoever started the command sees by this whether there is a supervisor between them.
    println!("Pid={}", std::process::id());
    Ok(())
}

fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let mut client = TcpStream::connect(("127.0.0.1", port))?;
    let (mut server, _) = listener.accept()?;
    server.write_all(b"served")?;
    drop(server);
    let mut got = String::new();
    client.read_to_string(&mut got)?;
    if got == "served" { Ok(()) } else { Err(std::io::Error::other(got)) }
}

fn give_away(path: &str) -> std::io::Result<()> {
    chown(path, Some(Uid::from_raw(12)), None).map_err(Into::into)
}

fn ping() -> std::io::Result<()> {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp)?;
    // Only a name for sendto and recv: what is sent is a whole ICMP message.
    let raw = UdpSocket::from(raw);
    raw.set_read_timeout(Some(Duration::from_secs(20)))?;
    // Echo request (RFC 792) with its checksum.
    raw.send_to(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0], ("127.0.0.1", 0))?;
    loop {
        let mut answer = [0_u8; 128];
        let length = raw.recv(&mut answer)?;
        // Behind the IP header; our own request comes by as well.
        if length >= 28 && answer[20] == 0 {
            return Ok(());
        }
    }
}

fn mount_on(dir: &str) -> std::io::Result<()> {
    mount(Some("deed"), dir, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    std::thread::sleep(Duration::from_millis(1));
    umount2(dir, MntFlags::empty()).map_err(Into::into)
}
