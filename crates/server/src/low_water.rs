//! How much must have come before the kernel reports a socket as readable (`SO_RCVLOWAT`).
//!
//! One call into the C library that no crate we would depend on wraps.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

/// More than comes between two ticks, so nothing is reported; the kernel takes half the socket's
/// buffer if that is less, so a peer never waits because of it.
const RAISED_BYTES: libc::c_int = 256 << 10;

/// Nothing short of very much is reported from now on. `false` if that cannot be had.
pub(crate) fn raise(socket: &impl AsFd) -> bool {
    set(socket, RAISED_BYTES)
}

/// Anything is reported, also what is there already.
pub(crate) fn lower(socket: &impl AsFd) {
    // It was raised, so it can be lowered; a socket that is gone says so when it is read.
    set(socket, 1);
}

fn set(socket: &impl AsFd, bytes: libc::c_int) -> bool {
    let descriptor = socket.as_fd().as_raw_fd();
    let length = size_of_val(&bytes) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed, and the option is an int, which is
    // only read during the call.
    let result = unsafe {
        libc::setsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            length,
        )
    };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_reported(socket: &TcpStream) -> bool {
        let soon = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut asked = [PollFd::new(socket, PollFlags::IN)];
        poll(&mut asked, Some(&soon)).expect("a socket") > 0
    }

    #[test]
    fn little_is_reported_only_after_lowering_and_an_end_always() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("listens");
        let (socket, _) = listener.accept().expect("it came");
        assert!(raise(&socket));
        peer.write_all(b"little").expect("open");
        assert!(!is_reported(&socket));
        lower(&socket);
        assert!(is_reported(&socket));
        assert!(raise(&socket));
        drop(peer);
        assert!(is_reported(&socket));
    }
}
