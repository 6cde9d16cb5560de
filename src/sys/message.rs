//! Messages that bring descriptors (unix(7), recvmsg(2)).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// What has come.
#[derive(Debug)]
pub struct Message {
    /// Bytes of it that are in the buffer.
    pub length: usize,
    /// Its descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Who sent it, where the socket tells.
    pub user: Option<u32>,
    /// It had more descriptors than this process may have open.
    pub cut: bool,
}

/// Takes one message that has come. Does not block.
///
/// # Errors
/// EAGAIN: there is none.
pub fn receive(from: BorrowedFd, buffer: &mut [u8]) -> Result<Message, Errno> {
    // For credentials, and for as many descriptors as a message can have (SCM_MAX_FD, 253). Aligned for a cmsghdr.
    let mut space = [0_u64; 144];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr: no name, no parts, no space.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    // Its type, as that of the lengths below, is another one in another C library.
    header.msg_controllen = size_of_val(&space) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: `header` names one part, the buffer, and the space for control messages, each with its true length.
        match Errno::result(unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut header, flags) }) {
            Err(Errno::EINTR) => {}
            other => break usize::try_from(other?).unwrap_or(0),
        }
    };
    let cut = header.msg_flags & libc::MSG_CTRUNC != 0;
    let mut message = Message { length, fds: Vec::new(), user: None, cut };
    // Also where it was cut: descriptors that are here are open, and nobody else would close them.
    // SAFETY: the kernel has set the length to what it has written, which is whole headers in `space`.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !at.is_null() {
        // SAFETY: a header that CMSG_FIRSTHDR or CMSG_NXTHDR gives is in `space`, aligned as it is.
        let control = unsafe { at.read() };
        // SAFETY: only calculates where its data begin, right after it.
        let data = unsafe { libc::CMSG_DATA(at) };
        // SAFETY: only calculates.
        let before = unsafe { libc::CMSG_LEN(0) } as usize;
        let bytes = (control.cmsg_len as usize).saturating_sub(before);
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for number in 0..bytes / size_of::<RawFd>() {
                    // SAFETY: the kernel has written so many whole numbers there, each a descriptor that it has made.
                    let fd = unsafe { data.cast::<RawFd>().wrapping_add(number).read_unaligned() };
                    message.fds.push(super::own(fd));
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if bytes >= size_of::<libc::ucred>() => {
                // SAFETY: the kernel has written a ucred there.
                message.user = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() }.uid);
            }
            _ => {}
        }
        // SAFETY: `at` is a header in the space that `header` names.
        at = unsafe { libc::CMSG_NXTHDR(&raw const header, at) };
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
    };
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    fn send(out: &OwnedFd, count: usize) {
        let fds = vec![out.as_raw_fd(); count];
        let control = [ControlMessage::ScmRights(&fds)];
        let control = if count == 0 { &[][..] } else { &control[..] };
        sendmsg::<()>(out.as_raw_fd(), &[IoSlice::new(b"word")], control, MsgFlags::empty(), None).unwrap();
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        let pair = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC).unwrap();
        setsockopt(&pair.0, sockopt::PassCred, &true).unwrap();
        pair
    }

    #[test]
    fn all_that_a_message_can_bring() {
        let (from, out) = pair();
        for count in [0, 1, 253] {
            send(&out, count);
            let message = receive(from.as_fd(), &mut [0; 8]).unwrap();
            assert_eq!((message.length, message.fds.len(), message.cut), (4, count, false));
            assert_eq!(message.user, Some(nix::unistd::getuid().as_raw()));
        }
        assert_eq!(receive(from.as_fd(), &mut [0; 8]).unwrap_err(), Errno::EAGAIN);
    }

    /// The limit is of a process, so this one runs alone in one.
    #[test]
    fn no_descriptor_of_a_message_that_was_cut_stays_open() {
        if std::env::var_os("RCON_TEST_ALONE").is_none() {
            let name = "sys::message::tests::no_descriptor_of_a_message_that_was_cut_stays_open";
            let out = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env("RCON_TEST_ALONE", "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (from, out) = pair();
        setrlimit(Resource::RLIMIT_NOFILE, 64, getrlimit(Resource::RLIMIT_NOFILE).unwrap().1).unwrap();
        let before = open();
        for _ in 0..3 {
            send(&out, 100);
            let message = receive(from.as_fd(), &mut [0; 8]).unwrap();
            assert!(message.cut && !message.fds.is_empty() && message.fds.len() < 64, "{message:?}");
            drop(message);
            assert_eq!(open(), before);
        }
    }
}
