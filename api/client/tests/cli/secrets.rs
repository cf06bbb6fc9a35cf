//! What people see of secrets.

use crate::Site;

#[tokio::test]
async fn secrets_go_in_and_never_come_back() {
    let site = Site::new().await;
    site.file("password", "correct horse");
    site.file("empty", "");
    site.file("large", &"x".repeat(1 << 20));
    let commands = [
        "secret set prod/db-password --file password",
        "secret set prod/db-password --file empty",
        "secret set prod/db-password --file large",
        "secret set prod/db-password --file nothing",
        "secret get",
        "secret get spare -o json",
        "secret get nobody",
        "secret delete spare",
        "secret delete spare --yes",
        "secret delete prod/db-password --yes",
    ];
    site.golden("secret.txt", &commands).await;
}
