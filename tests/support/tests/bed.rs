//! The bed by itself: a registry, a bare containerd, an image, a container, and nothing left afterwards.

use std::{fs, net::Ipv4Addr, path::PathBuf, process};

use tests_support::{containerd::Containerd, netns, oci::Image, registry::Registry, sweep::Ground, wait};

/// How long anything may take on a slow and busy machine.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

#[test]
fn a_container_runs_on_a_bare_bed_and_nothing_is_left() {
    let name = format!("wherry-bed{}", process::id());
    let ground = Ground::new(&name, &std::env::temp_dir().join(&name));
    ground.prepare().unwrap();
    let swept = Sweep(&ground);
    let folder = std::env::temp_dir().join(&name);
    let lan = netns::Lan::new(&name).unwrap();
    lan.attach("registry", Ipv4Addr::new(10, 77, 0, 3)).unwrap();
    lan.attach("node", Ipv4Addr::new(10, 77, 0, 11)).unwrap();
    let registry_netns = netns::path(&lan.namespace("registry"));
    let registry = Registry::start(&folder.join("registry"), &registry_netns, Ipv4Addr::new(10, 77, 0, 3)).unwrap();
    let node_netns = netns::path(&lan.namespace("node"));
    let mut containerd = Containerd::start(&folder.join("node"), Some(&node_netns)).unwrap();
    let namespace = format!("{name}.node");
    let image = Image::busybox().unwrap();

    let reference = registry.push(&image, "test/box", "1").unwrap();
    let archive = folder.join("box.tar");
    fs::write(&archive, image.archive("example.org/test/box:1").unwrap()).unwrap();
    let ctr = |arguments: &[&str]| {
        let output = containerd.ctr(&namespace, arguments).unwrap();
        assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ctr(&["image", "import", &archive.to_string_lossy()]);
    let cgroup = format!("/{name}.node/box");
    ctr(&["run", "--detach", "--cgroup", &cgroup, "example.org/test/box:1", "box", "/bin/sleep", "1000"]);

    assert!(reference.ends_with("/test/box:1"), "{reference}");
    assert!(ctr(&["task", "ls"]).contains("RUNNING"));
    assert!(cgroup_folders(&name) > 0, "the container is in the node's own cgroup");
    containerd.kill();
    drop(swept);
    assert_eq!(ground.leftovers(), Vec::<String>::new());
}

#[test]
fn what_is_cleared_away_of_one_bed_is_no_other_beds() {
    let beds = ["one", "other"].map(|which| {
        let name = format!("wherry-{which}{}", process::id());
        let folder = std::env::temp_dir().join(&name);
        (Ground::new(&name, &folder), name, folder)
    });
    let _swept = beds.each_ref().map(|(ground, ..)| Sweep(ground));
    // Both in the network namespace of the machine, where the kernel lists the sockets of all shims together.
    let mut daemons = beds.each_ref().map(|(ground, name, folder)| {
        ground.prepare().unwrap();
        let daemon = Containerd::start(&folder.join("node"), None).unwrap();
        let archive = folder.join("box.tar");
        fs::write(&archive, Image::busybox().unwrap().archive("example.org/test/box:1").unwrap()).unwrap();
        let cgroup = format!("/{name}.node/box");
        let run = [
            "run",
            "--detach",
            "--cgroup",
            &cgroup,
            "--net-host",
            "example.org/test/box:1",
            "box",
            "/bin/sleep",
            "1000",
        ];
        for arguments in [&["image", "import", &archive.to_string_lossy()][..], &run] {
            let output = daemon.ctr(&format!("{name}.node"), arguments).unwrap();
            assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        daemon
    });

    beds[0].0.clear().unwrap();

    // A containerd that begins anew looks for its shims by their sockets.
    daemons[1].kill();
    daemons[1] = Containerd::start(&beds[1].2.join("node"), None).unwrap();
    let listed = daemons[1].ctr(&format!("{}.node", beds[1].1), &["task", "ls"]).unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("RUNNING"), "{listed}\n{}", daemons[1].log());
}

#[test]
fn a_member_without_its_plug_is_silent() {
    let name = format!("wherry-lan{}", process::id());
    let ground = Ground::new(&name, &std::env::temp_dir().join(&name));
    let _swept = Sweep(&ground);
    let lan = netns::Lan::new(&name).unwrap();
    let there = Ipv4Addr::new(10, 77, 0, 12);
    lan.attach("here", Ipv4Addr::new(10, 77, 0, 11)).unwrap();
    lan.attach("there", there).unwrap();
    let reached = || {
        let here = netns::path(&lan.namespace("here"));
        // One lost packet is asked for again after a second.
        let limit = std::time::Duration::from_secs(2);
        let connected = netns::inside(&here, || std::net::TcpStream::connect_timeout(&(there, 9).into(), limit));
        // A port where nobody listens is refused by the other side: it is there.
        connected.unwrap().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };

    wait::wait_until(LIMIT, reached);
    lan.unplug("there").unwrap();
    assert!(!reached(), "unplugged");
    lan.plug("there").unwrap();
    wait::wait_until(LIMIT, reached);
}

fn cgroup_folders(name: &str) -> usize {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"].map(PathBuf::from);
    roots.iter().filter(|root| root.join(format!("{name}.node/box")).is_dir()).count()
}

/// Removes everything, also when a test panics.
struct Sweep<'a>(&'a Ground);

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        self.0.clear().expect("the bed's folder can be removed");
    }
}
