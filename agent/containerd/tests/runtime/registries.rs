//! Pulling from a real registry: plain, secured, broken, and not there.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

use agent_containerd::{ImageError, PullProgress};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tests_support::{oci::Image, program::Program, registry::Registry, show::show, sweep::Ground, wait::wait_until};

use crate::bed::{Bed, LIMIT, registry};

/// User `edge` with a bcrypt hash of `secret`, at the lowest cost.
const PASSWORDS: &str = "edge:$2b$04$AF6jSKGyAI2KmuV3FA4TnuEjPX8pmyCUsJT1HqTzdAAVFotmU6UYW\n";

#[tokio::test]
async fn an_image_is_pulled_over_plain_http_only_where_the_configuration_says_so() {
    let place = Place::new("plain");
    let plain = place.plain();
    let image = plain.push(&Image::busybox().expect("busybox-static is installed"), "web", "1").expect("pushed");
    let host = plain.address().to_string();
    let strict = Bed::empty().await;
    let bed = Bed::with(|settings| {
        let mut named = registry(&host);
        named.plain_http = true;
        settings.registries = vec![named];
    })
    .await;

    let refused = strict.adapter.ensure_image(&image, |_| {}).await.expect_err("plain HTTP is never guessed");
    let mut seen = Vec::new();
    bed.adapter.ensure_image(&image, |progress| seen.push(progress)).await.expect("pulled");
    let absent = bed.adapter.ensure_image(&format!("{host}/web:2"), |_| {}).await.expect_err("no such tag");
    let (_, lines) = bed.run("web-1", |container| container.image.clone_from(&image), "echo it runs").await;

    let advice = format!("registry {host} speaks plain HTTP; name it in [[registry]] with plain_http = true");
    assert_eq!(refused.to_string(), advice);
    assert!(
        matches!(seen.last(), Some(PullProgress { bytes_done, bytes_total }) if bytes_done == bytes_total),
        "{seen:?}"
    );
    assert!(absent.to_string().contains("was not found in the registry (404)"), "{absent}");
    assert_eq!(lines, ["it runs"]);
    bed.wait_until_nothing_is_left();
}

#[tokio::test]
async fn a_registry_with_own_authority_and_password_is_pulled_from_with_both() {
    let place = Place::new("secured");
    let plain = place.plain();
    plain.push(&Image::busybox().expect("busybox-static is installed"), "web", "1").expect("pushed");
    let (address, ca_file) = place.secured();
    let image = format!("{address}/web:1");
    let bed = async |ca_file: Option<&Path>, password: Option<&str>| {
        Bed::with(|settings| {
            let mut named = registry(&address.to_string());
            named.ca_file = ca_file.map(Path::to_owned);
            named.username = password.map(|_| "edge".to_owned());
            named.password = password.map(str::to_owned);
            settings.registries = vec![named];
        })
        .await
    };

    let pull = async |bed: Bed| bed.adapter.ensure_image(&image, |_| {}).await;
    let right = pull(bed(Some(&ca_file), Some("secret")).await).await;
    let wrong = pull(bed(Some(&ca_file), Some("wrong")).await).await;
    let nobody = pull(bed(Some(&ca_file), None).await).await;
    let stranger = pull(bed(None, Some("secret")).await).await;

    assert!(right.is_ok(), "{right:?}");
    for refused in [wrong, nobody] {
        assert!(matches!(refused, Err(ImageError::Unauthorized { status: 401, .. })), "{refused:?}");
    }
    let text = stranger.expect_err("nobody vouches for it").to_string();
    assert!(text.contains("ca_file"), "{text}");
}

#[tokio::test]
async fn a_broken_pull_goes_on_where_it_stopped() {
    let place = Place::new("broken");
    let plain = place.plain();
    // Noise, so that nothing on the way could make it small.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(8 << 20)
    .collect();
    let image = Image::busybox().expect("busybox-static is installed").file("noise", 0o644, noise);
    let size = image.blobs().expect("blobs").layer.content.len() as u64;
    plain.push(&image, "web", "1").expect("pushed");
    // Every connection ends after 3 MiB.
    let proxy = Proxy::start(plain.address(), 3 << 20);
    let bed = Bed::with(|settings| {
        let mut named = registry(&proxy.address.to_string());
        named.plain_http = true;
        settings.registries = vec![named];
    })
    .await;

    bed.adapter.ensure_image(&format!("{}/web:1", proxy.address), |_| {}).await.expect("pulled in the end");

    let carried = proxy.carried.load(Ordering::Relaxed);
    assert!(carried >= size && carried < size * 5 / 4, "{carried} bytes were carried for {size}");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named_with_the_reason() {
    let bed = Bed::empty().await;

    let refused = bed.adapter.ensure_image("127.0.0.1:9/web:1", |_| {}).await.expect_err("nobody is there");
    let unknown = bed.adapter.ensure_image("nowhere.invalid/web:1", |_| {}).await.expect_err("no such name");
    let wrong = bed.adapter.ensure_image("Not An Image", |_| {}).await.expect_err("no name");

    assert!(refused.to_string().starts_with("registry 127.0.0.1:9: Connection refused"), "{refused}");
    assert!(unknown.to_string().starts_with("registry nowhere.invalid: "), "{unknown}");
    assert!(matches!(wrong, ImageError::Name { .. }), "{wrong}");
}

/// Where a registry keeps its files, and how everything of it ends.
struct Place {
    ground: Ground,
    folder: PathBuf,
    address: Ipv4Addr,
}

impl Place {
    fn new(name: &str) -> Self {
        /// Each registry gets a loopback address of its own.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wherry-registry-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("made");
        // A process id has 22 bits at most: two processes never share an address.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < 4, "more registries than addresses for them");
        let address = Ipv4Addr::from(127 << 24 | std::process::id() << 2 | number);
        Self { ground: Ground::new(&name, &folder), folder, address }
    }

    /// Starts a registry that speaks plain HTTP.
    fn plain(&self) -> Registry {
        Registry::start(&self.folder, Path::new("/proc/self/ns/net"), self.address).expect("docker-registry starts")
    }

    /// Starts a registry on the same images that speaks TLS and asks for a password; gives its address and its authority.
    fn secured(&self) -> (SocketAddr, PathBuf) {
        self.ground.kill_all();
        let file = |name: &str, content: &str| {
            let path = self.folder.join(name);
            fs::write(&path, content).expect("written");
            path.display().to_string()
        };
        let authority_key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, authority_key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec![self.address.to_string()]).expect("parameters");
        let certificate = parameters.signed_by(&key, &authority).expect("a certificate");
        let address = SocketAddr::from((self.address, 5443));
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n  \
             tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            self.folder.join("blobs").display(),
            file("certificate.pem", &certificate.pem()),
            file("key.pem", &key.serialize_pem()),
            file("passwords", PASSWORDS),
        );
        let config = file("secured.yml", &config);
        let log = self.folder.join("secured-log");
        Program::start(None, &["docker-registry", "serve", &config], &log).expect("docker-registry starts");
        wait_until(LIMIT, || TcpStream::connect(address).is_ok());
        (address, file("ca.pem", &authority.pem()).into())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["log", "secured-log"] {
                show(&format!("registry: {log}"), &fs::read_to_string(self.folder.join(log)).unwrap_or_default());
            }
        }
        let cleared = self.ground.clear();
        if !thread::panicking() {
            cleared.expect("nothing of the registry is left");
        }
    }
}

/// Passes bytes on to a registry, and cuts every connection after some of them.
struct Proxy {
    address: SocketAddr,
    carried: Arc<AtomicU64>,
}

impl Proxy {
    fn start(target: SocketAddr, bytes_max: u64) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let carried = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&carried);
        // It ends with the test's process: until then it waits for one more connection.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || carry(client, target, bytes_max, &count));
            }
        });
        Self { address, carried }
    }
}

fn carry(client: TcpStream, target: SocketAddr, bytes_max: u64, carried: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    let (mut from_server, mut to_client) = (server.try_clone()?.take(bytes_max), client.try_clone()?);
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from_server.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        carried.fetch_add(read as u64, Ordering::Relaxed);
        to_client.write_all(&buffer[..read])?;
    }
    client.shutdown(Shutdown::Both)?;
    server.shutdown(Shutdown::Both)
}
