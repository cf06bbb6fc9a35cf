//! A service that asks for it, reached by IPv6: names, virtual address, published ports.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tests_support::netns::ipv6_address;
use tests_system::{
    cluster::{until_healthy, virtual_address},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage, ask_from_process};

pub(crate) fn a_service_is_reached_by_ipv6(stage: &mut Stage) -> Outcome {
    let manifest = shop::manifest(&stage.image, 3).replacen("image ", "ipv6     = true\nimage ", 1);
    let script = "while :; do nslookup web; sleep 1; done 2>&1";
    let asker = format!(
        "name = \"asker\"\n[service.asker]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n",
        stage.image
    );

    stage.apply(&manifest)?;
    stage.apply(&asker)?;

    let (instances, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    let address = virtual_address(&stage.bed, "web")?;
    let mut found = None;
    stage.until("the asker finds the service's IPv6 address", || {
        found = stage.wherry(&["logs", "asker"]).ok().and_then(|said| embedded(&said, address));
        found.is_some()
    })?;
    let front: SocketAddr = (found.ok_or("an address")?, shop::SERVICE).into();
    for instance in &instances {
        let pid = instance.pid.ok_or("a healthy instance has a process")?;
        let answers: BTreeSet<String> = (0..40).map(|_| ask_from_process(pid, front)).collect::<Result<_, _>>()?;
        stage.must(answers.len() == 3, || format!("from inside {}: {answers:?}", instance.name))?;
    }
    for name in NODES {
        stage.until_answered_by(name, front, 3)?;
        let port = (ipv6_address(stage.bed.node(name).address()), shop::PUBLISHED);
        stage.until_answered_by("visitor", port.into(), 3)?;
    }
    Ok(())
}

/// The first IPv6 address in a text that ends with this IPv4 address.
fn embedded(text: &str, address: Ipv4Addr) -> Option<Ipv6Addr> {
    let found = text.split_whitespace().filter_map(|word| word.parse::<Ipv6Addr>().ok());
    found.into_iter().find(|found| found.octets().ends_with(&address.octets()))
}
