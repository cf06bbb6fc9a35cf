//! What people see of jobs.

use std::process::Stdio;

use crate::Site;

const JOBS: &str = "[job.migrate]\nimage = \"web:1\"\nretries = 2\ndeadline = \"10m\"\n\n\
                    [job.resize]\nimage = \"resize:7\"\ncompletions = 8\nparallelism = 3\n";
const SCHEDULED: &str = "[job.backup]\nimage = \"backup:3\"\nschedule = \"15 3 * * mon-fri\"\ntime_zone = \"Europe/Berlin\"\n\
                         catch_up = \"6h\"\nplace = { require = [\"node == n1\"] }\n\n[job.report]\nimage = \"report:1\"\nschedule = \"@daily\"\nsuspend = true\n";

#[tokio::test]
async fn jobs_are_applied_listed_and_described() {
    let site = Site::new().await;
    site.file("jobs.toml", JOBS);
    let commands = [
        "apply -f jobs.toml --detach",
        "get jobs",
        "get jobs -o wide",
        "apply -f jobs.toml",
        "get job migrate",
        "describe job migrate",
        "get services",
        "run --detach --name once web:1 -- echo hello",
        "run --detach --name once web:1",
        "run --name a/b/c web:1",
        "run --require nothing web:1",
    ];
    site.golden("job.txt", &commands).await;
}

#[tokio::test]
async fn schedules_are_shown_and_a_run_begins_when_it_is_asked_for() {
    let site = Site::new().await;
    site.file("scheduled.toml", SCHEDULED);
    let commands = ["apply -f scheduled.toml", "get jobs", "describe job backup", "job run backup", "job run nothing"];
    site.golden("schedule.txt", &commands).await;
}

#[tokio::test]
async fn a_command_is_ended_and_deleted_with_the_program_that_runs_it() {
    let site = Site::new().await;
    let mut command = site.wherry("run --name stuck web:1");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let called = |call: &str| site.fake.state.lock().unwrap().calls.iter().any(|made| made.starts_with(call));
    while !called("apply") {
        tokio::task::yield_now().await;
    }

    let pid = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());

    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(called("delete stuck"));
}
