//! The systemd units are valid, and keep the promises that their words make.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let folder = std::env::temp_dir().join(format!("wherry-units{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["wherry-agent.service", "wherry-scheduler.service"] {
        // systemd-analyze wants the program to be there; what is installed here does not matter for the unit.
        let text = unit(name).replace("ExecStart=/usr/bin/wherry-", "ExecStart=/bin/true wherry-");
        fs::write(folder.join(name), text).unwrap();
    }

    let units = ["wherry-agent.service", "wherry-scheduler.service"].map(|name| folder.join(name));
    let verdict = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();

    let said = String::from_utf8_lossy(&verdict.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("wherry")).collect();
    assert!(verdict.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_agent_keeps_the_mount_namespace_of_the_machine() {
    // Each of these gives a unit a mount namespace of its own: network namespaces pinned there are seen by nobody else.
    let parting = [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "ProtectProc",
        "PrivateIPC",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "NoExecPaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "MountFlags",
        "PrivateMounts",
        "RootDirectory",
        "RootImage",
        "DynamicUser",
        "ProcSubset",
    ];

    let unit = unit("wherry-agent.service");

    let set: Vec<&str> = unit.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
    let found: Vec<&&str> = parting.iter().filter(|key| set.contains(*key)).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(
        unit.contains("\nKillMode=process\n"),
        "a restart of the agent must not end what containerd started for it"
    );
}

fn unit(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd").join(name);
    fs::read_to_string(path).expect("the unit is in packaging/systemd")
}
