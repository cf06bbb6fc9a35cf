//! What the containers beside the main one must be.

use std::collections::BTreeSet;

use api_types::{
    companion::COMPANIONS_MAX,
    container::{ContainerSpec, DRAIN_MS, NetworkMode},
    content::{FILES_MAX, FileContent, TEXTS_BYTES_MAX},
    error::ValidationError,
    workload::WorkloadSpec,
};

use super::rules::{check_container, check_resources, fault, is_bounded};

/// Checks the companions of a spec, and what they and the main container have together.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if spec.companions.is_empty() {
        return Ok(());
    }
    if spec.companions.len() > COMPANIONS_MAX {
        return fault("companions", format!("at most {COMPANIONS_MAX} init steps and sidecars"));
    }
    if !spec.companions.is_sorted_by_key(|companion| companion.role) {
        return fault("companions", "init steps come before sidecars");
    }
    let mut names = BTreeSet::new();
    for companion in &spec.companions {
        let path = format!("{}.{}", companion.role.as_str(), companion.name);
        if !names.insert(&companion.name) {
            return fault(path, "the name is there twice");
        }
        check_container(&path, &companion.container)?;
        check_resources(&format!("{path}.resources"), &companion.resources)?;
        let ContainerSpec { network, drain_ms, content, stdin, tty, .. } = &companion.container;
        if *network != NetworkMode::Own || *drain_ms != DRAIN_MS {
            return fault(path, "network and drain are those of the main container");
        }
        if *stdin || *tty {
            return fault(path, "people are attached to the main container alone");
        }
        if !content.on_change.is_restart() {
            return fault(format!("{path}.on_change"), "files of a companion change with its instance");
        }
    }
    if !is_bounded(spec.reserve()) {
        return fault("resources.reserve", "more than any node has, with all sidecars");
    }
    check_texts(spec)
}

/// An assignment must fit into a message, however many containers it has.
fn check_texts(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let files = || spec.containers().flat_map(|container| container.content.files.values());
    let texts = files().map(|file| match &file.content {
        FileContent::Text(text) => text.len(),
        FileContent::Secret(_) => 0,
    });
    if files().count() > FILES_MAX || texts.sum::<usize>() > TEXTS_BYTES_MAX {
        let problem =
            format!("at most {FILES_MAX} files and {TEXTS_BYTES_MAX} bytes of text in all containers together");
        return fault("container.files", problem);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api_types::{
        companion::{CompanionRole, CompanionSpec},
        content::{ContentSpec, OnChange},
        id::Name,
        resources::{ResourceSpec, Resources},
    };

    use super::*;

    fn companion(name: &str, role: CompanionRole) -> CompanionSpec {
        CompanionSpec {
            name: Name::new(name).expect("a name"),
            role,
            container: ContainerSpec::of_image("registry.lan/tool:1"),
            resources: ResourceSpec::default(),
        }
    }

    fn web() -> WorkloadSpec {
        let companions = vec![companion("migrate", CompanionRole::Init), companion("proxy", CompanionRole::Sidecar)];
        WorkloadSpec {
            companions,
            ..WorkloadSpec::service("prod/web".parse().expect("an id"), "registry.lan/web:1", 1)
        }
    }

    /// The path of the fault that a change brings.
    fn refused(change: impl FnOnce(&mut WorkloadSpec)) -> Option<String> {
        let mut spec = web();
        change(&mut spec);
        check(&spec).err().map(|error| error.path)
    }

    #[test]
    fn companions_are_bounded_and_have_nothing_that_is_the_main_containers() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|spec| spec.companions.swap(0, 1)).as_deref(), Some("companions"));
        let twice = |spec: &mut WorkloadSpec| spec.companions[1].name = spec.companions[0].name.clone();
        assert_eq!(refused(twice).as_deref(), Some("sidecar.migrate"));
        let many = |spec: &mut WorkloadSpec| {
            let step = |index| companion(&format!("step-{index}"), CompanionRole::Init);
            spec.companions = (0..=COMPANIONS_MAX).map(step).collect();
        };
        assert_eq!(refused(many).as_deref(), Some("companions"));
        let network = |spec: &mut WorkloadSpec| spec.companions[0].container.network = NetworkMode::Host;
        assert_eq!(refused(network).as_deref(), Some("init.migrate"));
        let on_change = |spec: &mut WorkloadSpec| {
            spec.companions[1].container.content =
                ContentSpec { on_change: OnChange::Nothing, ..ContentSpec::default() };
        };
        assert_eq!(refused(on_change).as_deref(), Some("sidecar.proxy.on_change"));
    }

    #[test]
    fn sidecars_together_cannot_promise_without_bound() {
        let huge = ResourceSpec {
            reserve: Resources { cpu_millis: 1, memory_bytes: 1 << 39 },
            memory_bytes_max: 1 << 39,
            ..ResourceSpec::default()
        };

        let path = refused(|spec| {
            spec.companions = ["a", "b"].map(|name| companion(name, CompanionRole::Sidecar)).to_vec();
            spec.companions.iter_mut().for_each(|sidecar| sidecar.resources = huge);
        });

        assert_eq!(path.as_deref(), Some("resources.reserve"));
    }
}
