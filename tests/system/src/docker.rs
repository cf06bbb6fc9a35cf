//! A real dockerd on a node of a bed, beside Wherry's agent, on the same containerd.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use tests_support::{
    node::Node,
    program::{self, Program},
    wait::try_wait_for,
};

/// The port of the node at which Docker publishes its container.
pub const PUBLISHED: u16 = 9090;
/// What that container answers.
pub const ANSWER: &str = "docked";
/// How long dockerd may take until it answers, or to end.
const LIMIT: Duration = Duration::from_secs(120);
/// Where `packaging/setup.sh test` unpacks Debian's Docker: installed, it would start on the machine itself.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/docker/usr");

/// A dockerd that was started. It and its containers end with this value.
#[derive(Debug)]
pub struct Docker {
    folder: PathBuf,
    netns: PathBuf,
    command: Vec<String>,
    program: Program,
}

impl Docker {
    /// Starts dockerd on the node, with its own tables and bridge, and waits until it answers.
    ///
    /// # Errors
    /// If it is not there or does not answer, with what it said.
    pub fn start(node: &Node) -> io::Result<Self> {
        let folder = node.folder().join("docker");
        fs::create_dir_all(&folder)?;
        let dockerd = find("dockerd")
            .ok_or_else(|| io::Error::other("no dockerd here: `packaging/setup.sh test` unpacks Debian's"))?;
        let at = |name: &str| format!("{}/{name}", folder.display());
        let options = [
            ("--containerd", node.containerd_socket().display().to_string()),
            ("--host", format!("unix://{}", at("sock"))),
            ("--data-root", at("data")),
            ("--exec-root", at("run")),
            ("--pidfile", at("pid")),
            ("--storage-driver", "vfs".to_owned()),
            ("--exec-opt", "native.cgroupdriver=cgroupfs".to_owned()),
            ("--cgroup-parent", format!("/{}/docker", node.full_name())),
            ("--userland-proxy", "false".to_owned()),
        ];
        let mut command = vec!["env".to_owned(), path(), dockerd.display().to_string()];
        command.extend(options.map(|(name, value)| format!("{name}={value}")));
        let program = run(&command, &node.netns(), &folder)?;
        let mut docker = Self { folder, netns: node.netns(), command, program };
        docker.until_it_answers()?;
        Ok(docker)
    }

    /// Ends dockerd as its init script does, and starts it again; containers that are to be there always are.
    ///
    /// # Errors
    /// If it does not end, or does not answer after that.
    pub fn restart(&mut self) -> io::Result<()> {
        if !self.program.end(LIMIT) {
            return Err(io::Error::other(format!("dockerd does not end:\n{}", self.program.log())));
        }
        self.program = run(&self.command, &self.netns, &self.folder)?;
        self.until_it_answers()
    }

    /// Runs a container with a web server that Docker publishes.
    ///
    /// # Errors
    /// If Docker refuses.
    pub fn publish(&self) -> io::Result<()> {
        let root = self.folder.join("image");
        for folder in ["bin", "www", "tmp"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))?;
        for name in ["sh", "httpd", "wget"] {
            symlink("busybox", root.join("bin").join(name))?;
        }
        fs::write(root.join("www/index.html"), ANSWER)?;
        let archive = self.folder.join("image.tar").display().to_string();
        let packed = Command::new("tar").args(["-C", &root.display().to_string(), "-cf", &archive, "."]).status()?;
        if !packed.success() {
            return Err(io::Error::other(format!("tar: {packed}")));
        }
        self.ask(&["import", &archive, "docked"])?;
        let published = format!("{PUBLISHED}:80");
        let server = ["docked", "/bin/httpd", "-f", "-p", "80", "-h", "/www"];
        let options = ["run", "--detach", "--restart", "always", "--name", "docked", "--publish", &published];
        self.ask(&[&options[..], &server].concat()).map(drop)
    }

    /// What the container gets from `url`.
    ///
    /// # Errors
    /// If it gets nothing within three seconds.
    pub fn fetch(&self, url: &str) -> io::Result<String> {
        self.ask(&["exec", "docked", "/bin/busybox", "timeout", "3", "/bin/wget", "-q", "-O", "-", url])
    }

    fn until_it_answers(&mut self) -> io::Result<()> {
        let answers = try_wait_for(LIMIT, || {
            let gone = !self.program.runs();
            (gone || self.docker(&["version"]).is_ok_and(|output| output.status.success())).then_some(!gone)
        });
        if answers == Some(true) {
            return Ok(());
        }
        Err(io::Error::other(format!("dockerd does not answer:\n{}", self.program.log())))
    }

    fn ask(&self, arguments: &[&str]) -> io::Result<String> {
        let output = self.docker(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("docker {}: {}", arguments.join(" "), said.trim())))
    }

    fn docker(&self, arguments: &[&str]) -> io::Result<Output> {
        let docker = find("docker").ok_or_else(|| io::Error::other("dockerd is here, and no docker"))?;
        let host = format!("unix://{}/sock", self.folder.display());
        Command::new(docker).args(["--host", &host]).args(arguments).env("DOCKER_CONFIG", &self.folder).output()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // What does not go by itself is taken away with the bed.
        let _already_gone = self.docker(&["rm", "--force", "docked"]);
        let _killed_with_the_bed = self.program.end(LIMIT);
        for left in ["nft delete table ip filter", "nft delete table ip nat", "ip link delete docker0"] {
            let words: Vec<&str> = left.split(' ').collect();
            let _never_made = program::within(Some(&self.netns), &words).output();
        }
        // The only folder that dockerd makes outside of its own; another dockerd may use it.
        for folder in ["/run/docker/plugins", "/run/docker"] {
            let _in_use = fs::remove_dir(folder);
        }
    }
}

fn run(command: &[String], netns: &Path, folder: &Path) -> io::Result<Program> {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Program::start(Some(netns), &command, &folder.join("log"))
}

/// Where dockerd finds its other programs.
fn path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("PATH={path}:/usr/sbin:/sbin:{UNPACKED}/sbin:{UNPACKED}/bin")
}

/// A program of Docker: both of the same version, so the unpacked ones where dockerd is not installed.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    if !folders.iter().any(|folder| folder.join("dockerd").exists()) {
        folders = ["sbin", "bin"].map(|folder| Path::new(UNPACKED).join(folder)).to_vec();
    }
    folders.iter().map(|folder| folder.join(name)).find(|path| path.exists())
}
