//! Packing and unpacking on plain directories that stand for a container's.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    thread,
};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wherry-copy-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("root")).expect("a writable directory");
        Self(folder)
    }

    fn files(&self) -> Files {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let root = open(&self.0.join("root"), flags, Mode::empty()).expect("it is there");
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        Files { root, owner: Some(User { uid, gid, groups: Vec::new() }) }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join("root").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn packed(&self, path: &str) -> Result<Vec<u8>, CopyError> {
        let (sender, mut pieces) = mpsc::channel(1);
        let (files, path) = (self.files(), PathBuf::from(path));
        let packing = thread::spawn(move || {
            let name = path.file_name().unwrap_or(OsStr::new("root"));
            pack::pack(&files, &path, name, Sending { pieces: sender, held: Vec::new() })
        });
        let mut archive = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            archive.extend(piece);
        }
        packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(|()| archive)
    }

    fn unpack(&self, path: &str, archive: Vec<u8>) -> Result<(), CopyError> {
        let (sender, pieces) = mpsc::channel(1);
        let sending = thread::spawn(move || {
            for piece in archive.chunks(777) {
                if sender.blocking_send(piece.to_vec()).is_err() {
                    return;
                }
            }
        });
        let unpacked = unpack::unpack(&self.files(), Path::new(path), Receiving::new(pieces));
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        unpacked
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is there");
    }
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (from, to) = (Folder::new("from"), Folder::new("to"));
    from.write("srv/site/index.html", "hello");
    from.write("srv/site/deep/er/large", &"x".repeat(100_000));
    from.write("srv/site/empty", "");
    fs::set_permissions(from.path("srv/site/index.html"), fs::Permissions::from_mode(0o750)).expect("changed");
    symlink("../../elsewhere", from.path("srv/site/deep/link")).expect("linked");
    fs::create_dir_all(to.path("opt")).expect("made");

    let archive = from.packed("/srv/site").expect("packed");
    to.unpack("/opt", archive.clone()).expect("below a directory that is there");
    to.unpack("/opt/renamed", archive).expect("under a new name");

    for root in ["opt/site", "opt/renamed"] {
        let at = |path: &str| to.path(&format!("{root}/{path}"));
        assert_eq!(fs::read_to_string(at("index.html")).expect("read"), "hello");
        assert_eq!(fs::metadata(at("index.html")).expect("there").mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(at("deep/er/large")).expect("there").len(), 100_000);
        assert_eq!(fs::metadata(at("empty")).expect("there").len(), 0);
        assert_eq!(fs::read_link(at("deep/link")).expect("a link"), PathBuf::from("../../elsewhere"));
    }
}

#[test]
fn a_file_takes_the_place_of_another_without_touching_what_shared_it() {
    let folder = Folder::new("file");
    folder.write("a/new", "new");
    folder.write("b/old", "old");
    fs::hard_link(folder.path("b/old"), folder.path("b/shared")).expect("linked");

    let archive = folder.packed("/a/new").expect("packed");
    folder.unpack("/b/old", archive).expect("unpacked");

    assert_eq!(fs::read_to_string(folder.path("b/old")).expect("read"), "new");
    assert_eq!(fs::read_to_string(folder.path("b/shared")).expect("read"), "old");
}

#[test]
fn links_stay_within_the_root_and_are_not_followed_below_the_path() {
    let folder = Folder::new("links");
    fs::write(folder.0.join("secret"), "outside").expect("written");
    folder.write("inside/data", "inside");
    symlink("/inside", folder.path("absolute")).expect("linked");
    symlink("/../../../../../secret", folder.path("out")).expect("linked");
    fs::create_dir_all(folder.path("tree")).expect("made");
    symlink("/inside", folder.path("tree/link")).expect("linked");

    assert!(folder.packed("/absolute/data").is_ok(), "a link within the root is followed on the way to the path");
    assert!(folder.packed("/out").is_err(), "the root is the end of every link");
    let archive = folder.packed("/inside").expect("packed");
    // The archive's root is `inside`: under the name of a link it would be written through that link.
    let refused = folder.unpack("/tree", renamed(&archive, "link"));

    assert!(refused.is_err(), "a link below the path was followed");
    assert_eq!(fs::read_dir(folder.path("inside")).expect("there").count(), 1);
}

#[test]
fn an_archive_that_leads_out_is_refused() {
    let folder = Folder::new("out");
    folder.write("x", "x");
    let archive = folder.packed("/x").expect("packed");
    fs::create_dir_all(folder.path("to")).expect("made");

    for name in ["../x", "/x", "a/../../x"] {
        let refused = folder.unpack("/to", renamed(&archive, name));
        assert!(matches!(refused, Err(CopyError::Refused(_))), "{name}: {refused:?}");
    }
    assert!(folder.unpack("/to", Vec::new()).is_err(), "no archive at all");
    assert!(folder.unpack("/nowhere/below", archive).is_err_and(|error| error.to_string().contains("/nowhere")));
}

/// The same archive with another name for its first part, and all that follows it.
fn renamed(archive: &[u8], name: &str) -> Vec<u8> {
    let mut made = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let mut header = entry.header().clone();
        let path = entry.path().expect("a path").into_owned();
        let rest: PathBuf = path.components().skip(1).collect();
        let full = if rest.as_os_str().is_empty() { name.to_owned() } else { format!("{name}/{}", rest.display()) };
        let field = &mut header.as_old_mut().name;
        field.fill(0);
        field[..full.len()].copy_from_slice(full.as_bytes());
        header.set_cksum();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("read");
        made.append(&header, bytes.as_slice()).expect("written");
    }
    made.into_inner().expect("an archive")
}

#[test]
fn an_archive_that_lacks_its_end_is_refused_wherever_it_was_cut() {
    let folder = Folder::new("cut");
    folder.write("a/one", "1");
    folder.write("a/two", &"2".repeat(5000));
    let archive = folder.packed("/a").expect("packed");

    for length in (0..archive.len() - 1024).step_by(256) {
        let refused = folder.unpack(&format!("/cut-{length}"), archive[..length].to_vec());
        assert!(refused.is_err(), "{length} of {} bytes", archive.len());
    }
    folder.unpack("/whole", archive).expect("it is whole");
}
