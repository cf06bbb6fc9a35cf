//! Stories of releases that do not work: each is taken back by itself, says why, and costs no request.

use api_types::{
    rollout::RolloutState,
    view::{InstanceView, RolloutHistory, RolloutView},
};
use tests_system::{
    cluster::{published, until, until_healthy},
    shop,
};

use crate::{
    requests::{finish, must_be_whole, traffic},
    stage::{LIMIT, Outcome, Stage},
};

/// The exit code of `wherry` when a change did not work.
const DID_NOT_WORK: i32 = 5;

/// The service `web` that is well and judges its changes.
fn good(stage: &Stage, update: &str) -> String {
    // A probe that a busy machine does not answer in time must not fail anything here.
    let manifest = shop::manifest(&stage.image, 3).replace("timeout  = \"1s\"", "timeout  = \"1s\"\nretries  = 60");
    manifest.replacen("ports ", &format!("update   = {{ {update} }}\nports "), 1)
}

/// The same with another process, and nobody who asks whether it is well.
fn with_command(manifest: &str, script: &str) -> String {
    let (asked, _) = manifest.split_once("[service.web.health]").unwrap_or((manifest, ""));
    asked.replacen("ports ", &format!("command  = [\"/bin/sh\", \"-c\", \"{script}\"]\nports "), 1)
}

/// Applies a release and waits until it is taken back; gives what people are told.
fn until_taken_back(stage: &Stage, manifest: &str) -> Result<RolloutView, Box<dyn std::error::Error>> {
    stage.apply(manifest)?;
    let wait = format!("{}s", LIMIT.as_secs());
    let answer = stage.bed.wherry(&["rollout", "status", "web", "--wait", &wait, "-o", "json"])?;
    stage
        .must(answer.code == Some(DID_NOT_WORK), || format!("{:?}: {}{}", answer.code, answer.stdout, answer.stderr))?;
    let view: RolloutView = serde_json::from_str(&answer.stdout)?;
    stage.must(view.state == RolloutState::RolledBack, || format!("{view:?}"))?;
    Ok(view)
}

pub(crate) fn a_bad_release_is_taken_back_and_loses_no_request(stage: &mut Stage) -> Outcome {
    let patient = good(stage, "healthy_for = \"8s\", deadline = \"5m\"");
    stage.apply(&patient)?;
    let (first, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)?;
    let short = good(stage, "healthy_for = \"1s\", deadline = \"4s\"");
    let missing = short.replacen(&stage.image, &format!("{}-missing", stage.image), 1);

    let load = traffic(stage);
    let crashes = until_taken_back(stage, &with_command(&patient, "exit 3"))?;
    let dies_young = until_taken_back(stage, &with_command(&patient, "sleep 3; exit 7"))?;
    let never_healthy =
        until_taken_back(stage, &short.replacen("http     = \"http/health\"", "exec     = [\"/bin/false\"]", 1))?;
    let without_image = until_taken_back(stage, &missing)?;
    let tallies = finish(load)?;

    must_be_whole(stage, &tallies)?;
    let told = [
        (&crashes, "exited with code 3"),
        (&dies_young, "exited with code 7"),
        (&never_healthy, "was not healthy within 4 s"),
        (&without_image, "was not found in the registry"),
    ];
    for (view, cause) in told {
        stage.must(view.cause.contains(cause), || format!("the cause is {cause}: {view:?}"))?;
    }
    // Those who were well are left alone; the last that was not takes a while to be gone.
    until(&stage.bed, "web", LIMIT, |views| same(views, &first))?;
    let described = stage.wherry(&["describe", "service", "web"])?;
    stage.must(described.contains("rolled-back") && described.contains(&without_image.cause), || described)
}

/// The same instances with the same processes.
fn same(now: &[InstanceView], before: &[InstanceView]) -> bool {
    let key = |views: &[InstanceView]| {
        let mut keys: Vec<_> = views.iter().map(|view| (view.name.clone(), view.pid)).collect();
        keys.sort_unstable();
        keys
    };
    key(now) == key(before)
}

pub(crate) fn a_canary_waits_for_a_person_and_its_history_is_kept(stage: &mut Stage) -> Outcome {
    let update = "healthy_for = \"1s\", canary = 1, parallel = \"100%\"";
    let release = |version: u32| {
        good(stage, update).replacen("ports ", &format!("env      = {{ VERSION = \"{version}\" }}\nports "), 1)
    };
    let (first, second) = (release(1), release(2));
    stage.apply(&first)?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    // A workload of the same name that is just ending may have had revisions before.
    let first = history(stage)?.revisions.last().ok_or("what is wanted is kept")?.revision.0;

    stage.apply(&second)?;
    let wait = format!("{}s", LIMIT.as_secs());
    let status = |stage: &Stage| stage.bed.wherry(&["rollout", "status", "web", "--wait", &wait]);
    let waiting = status(stage)?;
    stage.must(waiting.stdout.contains("awaiting-promotion"), || waiting.stdout.clone())?;
    stage.bed.kill_scheduler();
    stage.bed.start_scheduler()?;
    stage.wherry(&["rollout", "promote", "web"])?;
    let complete = status(stage)?;
    stage.must(complete.code == Some(0), || format!("{}{}", complete.stdout, complete.stderr))?;
    stage.wherry(&["rollout", "undo", "web", "--to", &first.to_string()])?;
    stage.wherry(&["rollout", "promote", "web"])?;
    let undone = status(stage)?;

    stage.must(undone.code == Some(0), || format!("{}{}", undone.stdout, undone.stderr))?;
    let kept = history(stage)?.revisions;
    let told: Vec<(u64, bool, &str)> =
        kept.iter().map(|kept| (kept.revision.0, kept.is_good, kept.reason.as_str())).collect();
    let undo = format!("undo of revision {}: back to {first}", first + 1);
    let wanted = [(first, true, "applied"), (first + 1, true, "applied"), (first + 2, true, undo.as_str())];
    stage.must(told.ends_with(&wanted), || format!("{told:?}"))
}

fn history(stage: &Stage) -> Result<RolloutHistory, Box<dyn std::error::Error>> {
    Ok(serde_json::from_value(stage.bed.ask(&["rollout", "history", "web"])?)?)
}
