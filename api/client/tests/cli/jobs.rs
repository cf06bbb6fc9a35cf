//! What people see of jobs.

use crate::Site;

const JOBS: &str = "[job.migrate]\nimage = \"web:1\"\nretries = 2\ndeadline = \"10m\"\n\n\
                    [job.resize]\nimage = \"resize:7\"\ncompletions = 8\nparallelism = 3\n";

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
