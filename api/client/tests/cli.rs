//! The program itself against a control plane without a cluster, over real TLS: what it prints and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../server/tests/fake/fake.rs"]
mod fake;
#[path = "cli/jobs.rs"]
mod jobs;
#[path = "cli/secrets.rs"]
mod secrets;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use fake::Fake;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::TlsAcceptor;

const SHOP: &str = "[service.web]\nimage = \"web:1\"\nreplicas = 3\n\
                    ports = { http = { container = 8080, service = 80, publish = 80 } }\n";
const STUCK: &str = "[service.stuck]\nimage = \"web:1\"\nreplicas = 2\n\
                     place = { require = [\"arch == arm64\"] }\n";

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// A scheduler's API on a free port, and a directory with a context file for it.
struct Site {
    fake: Fake,
    address: String,
    directory: PathBuf,
}

impl Site {
    async fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (fake, listener) = (Fake::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap().to_string();
        let (acceptor, ca) = identity();
        tokio::spawn(serve(listener, acceptor, fake.clone()));
        let site = Self { fake, address, directory };
        let context = format!(
            "[context.default]\nserver = \"{}\"\ntoken = \"WA1-admin\"\nca = \"\"\"\n{ca}\"\"\"\n",
            site.address
        );
        site.file("config.toml", &format!("current = \"default\"\n\n{context}"));
        site.file("ca.pem", &ca);
        site
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create(true).mode(0o600).truncate(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        path
    }

    fn wherry(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wherry"));
        command.args(arguments.split_whitespace()).current_dir(&self.directory).env_clear();
        command.env("WHERRY_CONFIG", self.directory.join("config.toml")).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &str) -> Output {
        self.wherry(arguments).output().await.unwrap()
    }

    /// What a person sees of one command.
    async fn shown(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        let mut text = format!("$ wherry {arguments}\n");
        for (stream, mark) in [(output.stdout, ""), (output.stderr, "! ")] {
            for line in String::from_utf8(stream).unwrap().lines() {
                writeln!(text, "{}", format!("{mark}{line}").trim_end()).unwrap();
            }
        }
        write!(text, "[{}]\n\n", output.status.code().unwrap()).unwrap();
        without_ages(&text.replace(&self.address, "SERVER").replace(self.directory.to_str().unwrap(), "DIR"))
    }

    async fn golden(&self, name: &str, commands: &[&str]) {
        let mut text = String::new();
        for command in commands {
            text += &self.shown(command).await;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert!(wanted == text, "{path:?} differs; UPDATE_GOLDEN=1 writes it anew. Now:\n{text}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Everything in the fake happened in 2023: an age is some thousand days, and grows.
fn without_ages(text: &str) -> String {
    let mut shown = String::new();
    for word in text.split_inclusive(|character: char| !character.is_ascii_alphanumeric()) {
        let days = word.trim_end_matches(|character: char| !character.is_ascii_alphanumeric()).strip_suffix('d');
        match days.filter(|days| days.len() >= 3 && days.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(days) => shown += &word.replace(days, &"N".repeat(days.len())),
            None => shown += word,
        }
    }
    shown
}

fn identity() -> (TlsAcceptor, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = parameters.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["scheduler.wherry.internal".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca.pem())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, fake: Fake) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, router) = (acceptor.clone(), api_server::router(fake.clone()));
        tokio::spawn(async move {
            // A client that does not trust this server hangs up here.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(router);
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[tokio::test]
async fn rollouts() {
    let site = Site::new().await;
    let commands = [
        "rollout status web",
        "rollout status web --wait 10s",
        "rollout status prod/db",
        "rollout status prod/db -o json",
        "rollout status prod/api --wait 1s",
        "rollout status nobody",
        "rollout history prod/db",
        "rollout history prod/db -o json",
        "rollout undo web --to 1",
        "rollout undo web --to 9",
        "rollout pause web",
        "rollout resume web",
        "rollout promote web",
        "rollout abort web",
        "rollout undo",
    ];
    site.golden("rollout.txt", &commands).await;
}

#[tokio::test]
async fn a_workload_from_plan_to_delete() {
    let site = Site::new().await;
    site.file("shop.toml", SHOP);
    site.file("shop2.toml", &SHOP.replace("web:1", "web:2"));
    let commands = [
        "validate -f shop.toml",
        "plan -f shop.toml",
        "plan --exit-code -f shop.toml",
        "apply -f shop.toml",
        "apply -f shop.toml --detach",
        "plan --exit-code -f shop2.toml",
        "apply -f shop2.toml --check 7",
        "get services",
        "get services -o wide",
        "get services -o name",
        "get service nothing",
        "get daemons",
        "scale web 5",
        "delete web",
        "delete web --yes",
        "delete web --yes",
    ];
    site.golden("workload.txt", &commands).await;
}

#[tokio::test]
async fn explanations_and_forecasts() {
    let site = Site::new().await;
    site.file("shop.toml", SHOP);
    site.file("shop2.toml", &SHOP.replace("web:1", "web:2").replace("replicas = 3", "replicas = 2"));
    site.file("urgent.toml", "[service.urgent]\nimage = \"web:1\"\n");
    let commands = [
        "why web",
        "why web --all",
        "why web-0a",
        "why instance web-0a",
        "why instance web-9z",
        "why -f shop.toml",
        "why -f shop.toml web",
        "why -f shop.toml wbe",
        "why -f shop.toml instance web-0a",
        "why node n1",
        "why",
        "why nothing/../x",
        "apply --detach -f shop.toml",
        "plan -f shop2.toml",
        "plan --exit-code -f shop2.toml",
        "plan --exit-code -f urgent.toml",
        "plan -f shop2.toml -o json",
        "what-if node-loss n1 n2",
        "what-if node-loss n1 --all --exit-code",
        "what-if site-loss berlin",
        "what-if drain n1",
        "what-if drain n9",
        "what-if drain",
        "what-if join --like n1 --count 3 --exit-code",
        "what-if join --like n1 --count 0",
        "what-if apply -f shop.toml",
        "what-if apply -f missing.toml",
        "what-if join --like n1 -o json",
        "help why",
        "help plan",
        "help what-if",
        "what-if join --help",
    ];
    site.golden("explain.txt", &commands).await;
}

#[tokio::test]
async fn sites_rebalancing_and_volumes() {
    let site = Site::new().await;
    let commands = [
        "get sites",
        "get sites -o json",
        "site set default --reach vxlan",
        "site set berlin --across routes --reach routes",
        "site set default --reach pigeon",
        "site set default",
        "site set bonn --reach vxlan",
        "site set --help",
        "site resume berlin",
        "site resume berlin --yes",
        "site resume bonn --yes",
        "rebalance",
        "rebalance --plan",
        "rebalance --plan --start",
        "rebalance --start",
        "rebalance --plan",
        "rebalance --plan -o json",
        "get volumes",
        "get volumes prod/db:data -o name",
        "get volumes nothing",
        "volume forget prod/db data --slot 1",
        "volume forget prod/db data --slot 1 --yes",
        "volume forget prod/db logs --yes",
        "volume backup prod/db data db.tar",
        "volume backup prod/db data --slot 1 db.tar",
        "volume backup prod/db data nowhere/db.tar",
        "volume restore prod/db data db.tar",
        "volume restore prod/db data db.tar --yes",
        "volume restore prod/db data --slot 1 db.tar --yes",
        "volume restore prod/db data nothing.tar --yes",
        "help rebalance",
        "site resume --help",
    ];
    site.golden("moves.txt", &commands).await;
}

#[tokio::test]
async fn the_network_is_tried_and_a_packet_followed() {
    let site = Site::new().await;
    let commands = [
        "net verify",
        "net verify -o json",
        "net verify prod/dns",
        "net verify prod/nobody",
        "net trace web-1 db:5432",
        "net trace web-1 db:5432 --udp -o json",
        "net trace web-1 db",
        "net trace web-1 nobody:1",
        "net --help",
        "net trace --help",
    ];
    site.golden("network.txt", &commands).await;
}

#[tokio::test]
async fn instances_nodes_and_events() {
    let site = Site::new().await;
    site.file("shop.toml", SHOP);
    let commands = [
        "apply -f shop.toml",
        "get instances",
        "get instances -o wide",
        "get nodes",
        "get nodes -o wide",
        "get nodes n1 n9",
        "get events",
        "describe service web",
        "describe instance web-1a",
        "describe node n1",
        "describe node n9",
        "top",
        "top instances",
        "logs web --tail 2",
        "logs web-0a",
        "cordon n1",
        "drain n2",
        "get nodes -o name",
        "get nodes n2",
        "uncordon n2",
        "node add n4 --site berlin --label tier=edge --label disk=ssd --uses 3",
        "node add --label oops",
        "node rm n2",
        "node rm n1 --yes",
        "node rm n1 --yes --force",
        "version",
    ];
    site.golden("cluster.txt", &commands).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let site = Site::new().await;
    site.file("bad.toml", "[service.web]\nimagee   = \"web:1\"\nreplicas = -1\n");
    site.file("evil.toml", "[service.web]\nimage = \"web:1\" # \u{1b}[31m \u{202e}\nuser = \"ä \"\n");
    site.file("taken.toml", "[service.taken]\nimage = \"web:1\"\n");
    site.file("stuck.toml", STUCK);
    let other = identity().1;
    site.file("other-ca.pem", &other);
    site.file("wrong-token", "WA1-wrong");
    site.file("view-token", "WA1-view\n");
    let open = site.file("open.toml", "current = \"default\"\n");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    site.file("broken.toml", "current = \"default\"\nserver = \"x\"\n");
    let commands = [
        "apply -f bad.toml",
        "validate -f evil.toml",
        "apply -f taken.toml",
        "apply -f stuck.toml --wait 600ms",
        "apply -f missing.toml",
        "apply -f .",
        "apply",
        "get nodes --server 127.0.0.1:1",
        "get nodes --ca-file other-ca.pem",
        "get nodes --ca-file view-token",
        "get nodes --token-file wrong-token",
        "apply -f taken.toml --token-file view-token",
        "get nodes --config open.toml",
        "get nodes --config broken.toml",
        "get nodes --config nothing.toml",
        "get nodes --context other",
        "get nodes --config nothing.toml --server x:1 --token-file view-token",
        "get cattle",
        "context show",
        "context use other",
        "image load nothing.tar",
    ];
    site.golden("wrong.txt", &commands).await;
}

#[tokio::test]
async fn the_environment_stands_between_flags_and_the_file() {
    let site = Site::new().await;
    let ask = |variables: &[(&str, &str)], arguments: &str| {
        let mut command = site.wherry(arguments);
        command.envs(variables.iter().copied());
        async move { command.output().await.unwrap().status.code() }
    };
    let address = site.address.as_str();

    assert_eq!(ask(&[("WHERRY_TOKEN", "WA1-wrong")], "get nodes").await, Some(7));
    assert_eq!(ask(&[("WHERRY_SERVER", "127.0.0.1:1")], "get nodes").await, Some(1));
    assert_eq!(ask(&[("WHERRY_SERVER", "127.0.0.1:1")], &format!("get nodes --server {address}")).await, Some(0));
    assert_eq!(ask(&[("WHERRY_CONTEXT", "other")], "get nodes").await, Some(2));
    let all = [
        ("WHERRY_CONFIG", "/nowhere"),
        ("WHERRY_SERVER", address),
        ("WHERRY_TOKEN", "WA1-view"),
        ("WHERRY_CA_FILE", "ca.pem"),
    ];
    assert_eq!(ask(&all, "get nodes").await, Some(0));
}

#[tokio::test]
async fn a_context_is_chosen_and_kept_private() {
    let site = Site::new().await;
    let text = fs::read_to_string(site.directory.join("config.toml")).unwrap();
    let path =
        site.file("config.toml", &text.replace("[context.default]", "[context.edge]").replace("default", "none"));

    assert_eq!(site.run("get nodes").await.status.code(), Some(2));
    assert!(site.run("context use edge").await.status.success());
    assert!(site.run("get nodes").await.status.success());
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_directory_is_checked_whole_before_anything_is_applied() {
    let site = Site::new().await;
    fs::create_dir(site.directory.join("all")).unwrap();
    site.file("all/a.toml", SHOP);
    site.file("all/b.toml", "[service.b]\n");

    assert_eq!(site.run("apply -f all").await.status.code(), Some(9));
    assert!(site.fake.state.lock().unwrap().calls.is_empty());

    site.file("all/b.toml", "[daemon.b]\nimage = \"b:1\"\n");
    let output = site.run("apply -f all").await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "created web\ncreated b\n");
}

#[tokio::test]
async fn a_manifest_is_read_from_standard_input() {
    let site = Site::new().await;
    let mut child = site.wherry("apply --detach -f -").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(SHOP.as_bytes()).await.unwrap();

    assert_eq!(child.wait_with_output().await.unwrap().stdout, b"created web\n");
}

#[tokio::test]
async fn a_followed_log_is_shown_as_it_comes_and_ends_with_the_reason() {
    let site = Site::new().await;
    site.file("shop.toml", SHOP);
    site.run("apply --detach -f shop.toml").await;
    let mut command = site.wherry("logs -f web");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

    assert_eq!(lines.next_line().await.unwrap().unwrap(), "web-0a  first");
    assert!(lines.next_line().await.unwrap().unwrap().contains("second"));
    site.fake.more.notify_one();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "web-0a  third");
    let output = child.wait_with_output().await.unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("error: n1 is unreachable\nhint: try again later"));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_watch_gives_a_line_for_each_change() {
    let site = Site::new().await;
    site.file("shop.toml", SHOP);
    site.run("apply --detach -f shop.toml").await;
    let mut child = site.wherry("get services -w").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for ready in ["0/3", "1/3", "2/3", "3/3"] {
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.starts_with(&format!("web  {ready}  ")), "{line}");
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn output_that_cannot_be_kept_is_an_error() {
    let site = Site::new().await;
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let output =
        site.wherry("version").stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write the output"));
}

#[tokio::test]
async fn json_is_the_object_of_the_api() {
    let site = Site::new().await;
    let output = site.run("get nodes -o json").await;
    let list: api_types::view::List<api_types::view::NodeView> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list.items.len(), 3);
}

#[tokio::test]
async fn an_image_goes_to_every_node_and_a_node_that_fails_is_an_error() {
    let site = Site::new().await;
    fs::write(site.directory.join("web.tar"), vec![7; 3 << 20]).unwrap();
    let output = site.run("image load web.tar").await;

    assert_eq!(String::from_utf8(output.stdout).unwrap(), "n1: docker.io/library/web:1\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: n2: the disk is full\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(site.fake.state.lock().unwrap().calls, ["image of 3145728 bytes"]);
}

#[tokio::test]
async fn instances_are_reached_into() {
    let site = Site::new().await;
    site.file("new.txt", "new\n");
    let commands = [
        "exec web-0a -- exit 3",
        "exec web-0a -- talk",
        "exec web-0a -- nope",
        "exec web-0a -- break",
        "exec web-9z -- talk",
        "exec -it web-0a -- talk",
        "exec web-0a",
        "exec --help",
        "attach web-0a",
        "attach -i web-0a",
        "attach -it web-0a",
        "cp web-0a:/etc/motd .",
        "cp web-0a:/no .",
        "cp new.txt web-0a:/tmp",
        "cp new.txt web-0a:/no",
        "cp missing.txt web-0a:/tmp",
        "cp new.txt other.txt",
        "cp web-0a:relative .",
        "port-forward web-9z 80",
        "port-forward web-0a 8080:0",
    ];
    site.golden("relay.txt", &commands).await;
    assert_eq!(fs::read_to_string(site.directory.join("motd")).unwrap(), "hello\n");
    let calls = site.fake.state.lock().unwrap().calls.clone();
    assert!(calls.contains(&"admin exec `web-0a` exit 3".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn what_is_read_reaches_a_command_and_comes_back() {
    let site = Site::new().await;
    let mut child = site.wherry("exec -i web-0a -- cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let sent: Vec<u8> = (0..5_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut stdin = child.stdin.take().unwrap();
    let sending = sent.clone();
    let feeding = tokio::spawn(async move { stdin.write_all(&sending).await });

    let output = child.wait_with_output().await.unwrap();

    feeding.await.unwrap().unwrap();
    assert!(output.stdout == sent, "{} bytes of {} came back", output.stdout.len(), sent.len());
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn a_forwarded_port_passes_connections_on() {
    let site = Site::new().await;
    site.file("shop.toml", SHOP);
    assert!(site.run("apply -f shop.toml").await.status.success());
    let mut child = site.wherry("port-forward web-0a 0:80").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.strip_suffix(" leads to port 80 of web-0a").unwrap();

    for word in ["one", "two"] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(word.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, word);
    }
    child.kill().await.unwrap();
}
