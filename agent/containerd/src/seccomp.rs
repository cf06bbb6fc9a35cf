//! The system calls that a container may make: deny by default, as containerd 2 and Docker do.

use serde_json::{Value, json};

/// Always allowed, on every architecture; the runtime leaves out what the machine's does not know.
///
/// Left out on purpose: `io_uring_*` (its requests pass the filter unseen), `socketcall` (hides the address family), and
/// all that would reach out of the container's namespaces.
const ALLOWED: &str = include_str!("seccomp/allowed.txt");

/// What a capability opens beyond that.
const BY_CAPABILITY: [(&str, &[&str]); 14] = [
    ("BPF", &["bpf"]),
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("PERFMON", &["perf_event_open"]),
    ("SYSLOG", &["syslog"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "name_to_handle_at",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"]),
    ("SYS_RAWIO", &["ioperm", "iopl"]),
    ("SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
];

/// `CLONE_NEW*`: the bits of `clone` that would make namespaces.
const NAMESPACE_BITS: u64 = 0x7E02_0000;
/// `ENOSYS`: lets a C library fall back from `clone3`, whose flags a filter cannot read, to `clone`.
const NO_SUCH_CALL: u32 = 38;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Gives the filter as the runtime wants it, for these capabilities (without `CAP_`).
pub(crate) fn profile(capabilities: &[String], architecture: &str) -> Value {
    let allow = |names: &[&str]| json!({"names": names, "action": "SCMP_ACT_ALLOW"});
    let allow_if = |name: &str, value: u64, operator: &str| {
        json!({
            "names": [name], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "valueTwo": 0, "op": operator}],
        })
    };

    let mut calls = vec![allow(&ALLOWED.split_whitespace().collect::<Vec<_>>())];
    // The five personalities that programs ask for: Linux, its 32-bit form, both without randomised addresses, and "which".
    for personality in [0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF] {
        calls.push(allow_if("personality", personality, "SCMP_CMP_EQ"));
    }
    // Every address family but the kernel's crypto and the hypervisor's sockets, which no namespace holds in.
    calls.push(allow_if("socket", AF_ALG, "SCMP_CMP_LT"));
    calls.push(allow_if("socket", AF_ALG + 1, "SCMP_CMP_EQ"));
    calls.push(allow_if("socket", AF_VSOCK, "SCMP_CMP_GT"));
    for (_, names) in BY_CAPABILITY.iter().filter(|(capability, _)| capabilities.iter().any(|held| held == capability))
    {
        calls.push(allow(names));
    }
    if !capabilities.iter().any(|held| held == "SYS_ADMIN") {
        calls.push(json!({
            "names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": NAMESPACE_BITS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        }));
        calls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": NO_SUCH_CALL}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures(architecture), "syscalls": calls})
}

/// The calling conventions that a kernel of this architecture (as Rust names it) serves.
fn architectures(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "arm" => &["SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_out_of_the_container_is_not_allowed_by_default() {
        let profile = profile(&[], "x86_64");

        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        for name in
            ["mount", "unshare", "setns", "keyctl", "bpf", "io_uring_setup", "socketcall", "kexec_load", "chroot"]
        {
            assert!(rules(&profile, name).is_empty(), "{name} is allowed");
        }
        assert_eq!(rules(&profile, "clone3")[0]["errnoRet"], 38);
        assert_eq!(rules(&profile, "socket").len(), 3, "each rule for a socket names its address family");
        for name in ["read", "execve", "openat2", "futex", "fchmodat2", "epoll_pwait2"] {
            assert_eq!(rules(&profile, name).len(), 1, "{name} is not allowed");
        }
    }

    #[test]
    fn a_capability_opens_its_calls_only() {
        let profile = profile(&["SYS_TIME".to_owned()], "aarch64");

        assert_eq!(rules(&profile, "clock_settime").len(), 1);
        assert!(rules(&profile, "mount").is_empty());
        assert_eq!(profile["architectures"][0], "SCMP_ARCH_AARCH64");
    }

    fn rules<'a>(profile: &'a Value, name: &str) -> Vec<&'a Value> {
        let calls = profile["syscalls"].as_array().expect("a list");
        calls.iter().filter(|rule| rule["names"].as_array().expect("a list").iter().any(|held| held == name)).collect()
    }
}
