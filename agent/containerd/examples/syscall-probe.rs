//! Runs inside a container of `tests/runtime/hardening.rs`: makes system calls and prints `NAME ERRNO` for each, 0 where it was let through.
#![expect(unsafe_code, reason = "the calls are made by number, as no wrapper offers those that must be refused")]

use std::io;

fn main() {
    let nothing = 0_usize;
    let socket = |family: libc::c_int| [family as usize, libc::SOCK_DGRAM as usize, 0];
    say("unshare", libc::SYS_unshare, [libc::CLONE_NEWNS as usize, nothing, nothing]);
    say("setns", libc::SYS_setns, [0, nothing, nothing]);
    say("mount", libc::SYS_mount, [nothing, nothing, nothing]);
    say("keyctl", libc::SYS_keyctl, [0, nothing, nothing]);
    say("bpf", libc::SYS_bpf, [0, nothing, nothing]);
    say("io_uring_setup", libc::SYS_io_uring_setup, [1, nothing, nothing]);
    say("chroot", libc::SYS_chroot, [nothing, nothing, nothing]);
    say("clone3", libc::SYS_clone3, [nothing, nothing, nothing]);
    say("clone_namespace", libc::SYS_clone, [libc::CLONE_NEWUSER as usize, nothing, nothing]);
    say("socket_alg", libc::SYS_socket, socket(libc::AF_ALG));
    say("socket_vsock", libc::SYS_socket, socket(libc::AF_VSOCK));
    say("socket_inet", libc::SYS_socket, socket(libc::AF_INET));
    say("socket_netlink", libc::SYS_socket, socket(libc::AF_NETLINK));
    say("getpid", libc::SYS_getpid, [nothing, nothing, nothing]);
    say("memfd_create", libc::SYS_memfd_create, [c"x".as_ptr() as usize, nothing, nothing]);
    // The C library tries clone3 for a thread and must find its way back to clone.
    let thread = std::thread::spawn(|| 7).join().map_or(libc::EPERM, |_| 0);
    print("thread", thread);
}

fn say(name: &str, number: libc::c_long, arguments: [usize; 3]) {
    // SAFETY: every pointer among the arguments is null or a string with NUL; calls that act on success make a file
    // descriptor or nothing, and this process ends soon.
    let outcome = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2], 0, 0, 0) };
    let errno = if outcome < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    print(name, errno);
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn print(name: &str, errno: i32) {
    println!("{name} {errno}");
}
