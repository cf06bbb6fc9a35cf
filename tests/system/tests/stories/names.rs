//! Stories of names: who finds what, by which library, and beside which other server.

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
};

use tests_support::{
    look_up::{CLibrary, build},
    netns,
    oci::Image,
};
use tests_system::cluster::{until_healthy, virtual_address};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

pub(crate) fn names_are_found_from_inside(stage: &mut Stage) -> Outcome {
    let web = stage.run_web(3)?;
    let address = virtual_address(&stage.bed, "web")?;
    // As a program asks: by its /etc/resolv.conf, over and over.
    let script = "while :; do nslookup web; nslookup endpoints.web.default.wherry.internal; sleep 1; done 2>&1";
    let asker = format!(
        "name = \"asker\"\n[service.asker]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n",
        stage.image
    );

    stage.apply(&asker)?;

    let said = |word: &str| stage.wherry(&["logs", "asker"]).is_ok_and(|output| output.contains(word));
    stage.until("the asker finds the virtual address", || said(&address.to_string()))?;
    let all = |views: &[api_types::view::InstanceView]| {
        views.iter().all(|view| view.address.is_some_and(|address| said(&address.to_string())))
    };
    stage.until("the asker finds every instance behind it", || all(&web))?;
    let (askers, _) = until_healthy(&stage.bed, "asker", 1, LIMIT)?;
    let (pid, inside) = (askers[0].pid.ok_or("a process")?, askers[0].address.ok_or("an address")?);
    let [a, b, c, _] = inside.octets();
    let server = SocketAddr::from(([a, b, c, 1], 53));
    stage.bed.kill_scheduler();
    let answer = ask_name(pid, server, &["web", "default", "wherry", "internal"]);
    stage.bed.start_scheduler()?;
    let answer = answer?;
    stage.must(answer.ends_with(&address.octets()), || format!("without a scheduler: {answer:?}"))
}

pub(crate) fn names_are_found_by_both_c_libraries(stage: &mut Stage) -> Outcome {
    stage.run_web(3)?;
    let address = virtual_address(&stage.bed, "web")?.to_string();
    for library in ["glibc", "musl"] {
        ask_with(stage, library, NODES[0])?;
    }

    // By the search list, by the namespace, whole, and one that is not there: said at once, not given up on.
    let wanted = ["web", "web.default", "web.default.wherry.internal"].map(|name| format!("{name}: {address}"));
    for library in ["glibc", "musl"] {
        stage.until(&format!("a program of {library} finds all names, and is told what is not there"), || {
            let output = stage.wherry(&["logs", library]).unwrap_or_default();
            let said = |line: &str| output.lines().any(|said| said.ends_with(line));
            wanted.iter().all(|line| said(line)) && said("none.default.wherry.internal: none")
        })?;
    }
    Ok(())
}

pub(crate) fn a_name_server_of_the_node_keeps_its_port(stage: &mut Stage) -> Outcome {
    stage.run_web(3)?;
    let address = virtual_address(&stage.bed, "web")?;
    let told = |stage: &Stage, words: &str| {
        stage.wherry(&["describe", "node", NODES[0]]).is_ok_and(|description| description.contains(words))
    };
    stage.bed.node_mut(NODES[0]).kill_agent();
    // As dnsmasq does, on all addresses.
    let held = netns::inside(&stage.bed.netns(NODES[0]), || {
        Ok::<_, io::Error>((UdpSocket::bind("0.0.0.0:53")?, TcpListener::bind("0.0.0.0:53")?))
    })??;

    stage.bed.node_mut(NODES[0]).start_agent()?;

    stage.until("the node says by which way names are answered", || told(stage, "by way of port"))?;
    ask_with(stage, "musl", NODES[0])?;
    stage.until("an instance there finds names all the same", || {
        stage.wherry(&["logs", "musl"]).is_ok_and(|said| said.contains(&format!("web: {address}")))
    })?;
    drop(held);
    stage.until("the port is taken when it is free", || !told(stage, "by way of port") && told(stage, "answered on"))
}

/// Runs a program on a node that looks names up over and over, by this C library.
fn ask_with(stage: &Stage, library: &str, node: &str) -> Outcome {
    let built = if library == "musl" { CLibrary::Musl } else { CLibrary::Glibc };
    let image = Image::busybox()?.program("bin/look-up", &build(built, stage.bed.folder())?)?;
    let image = stage.bed.registry().push(&image, &format!("test/{library}"), "1")?;
    let names = "web web.default web.default.wherry.internal none.default.wherry.internal";
    stage.apply(&format!(
        "name = \"{library}\"\n[service.{library}]\nimage = \"{image}\"\n\
         command = [\"/bin/sh\", \"-c\", \"while :; do look-up {names}; sleep 1; done\"]\n\
         place = {{ require = [\"node == {node}\"] }}\n"
    ))
}

/// Asks a name server for an address from where a process is (RFC 1035 §4.1).
fn ask_name(pid: u32, server: SocketAddr, labels: &[&str]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let asked = netns::inside(&netns, || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.send_to(&question, server)?;
        let mut answer = vec![0; 512];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    })?;
    Ok(asked?)
}
