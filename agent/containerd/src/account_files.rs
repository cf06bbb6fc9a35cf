//! An image's `/etc/passwd` and `/etc/group`, read from its layers without mounting them.
//!
//! The layers are the image's: every path is opened beneath its layer, links are followed only inside it.

use std::{
    fs::File,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

use containerd_client::types::Mount;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use crate::user::Accounts;

/// Size in bytes up to which such a file is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads both files; one that is missing or odd is empty.
pub(crate) fn read_accounts(mounts: &[Mount]) -> Accounts {
    let layers = layers(mounts);
    Accounts { passwd: read(&layers, "etc/passwd"), group: read(&layers, "etc/group") }
}

/// The directories that make up the file system, the uppermost first.
fn layers(mounts: &[Mount]) -> Vec<PathBuf> {
    let Some(mount) = mounts.first() else { return Vec::new() };
    if mount.r#type != "overlay" {
        return vec![PathBuf::from(&mount.source)];
    }
    let option = |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let lower = option("lowerdir").into_iter().flat_map(|list| list.split(':'));
    option("upperdir").into_iter().chain(lower).map(PathBuf::from).collect()
}

fn read(layers: &[PathBuf], name: &str) -> String {
    for layer in layers {
        match open_beneath(layer, name) {
            Ok(file) => return read_file(File::from(file)).unwrap_or_default(),
            Err(Errno::ENOENT | Errno::ENOTDIR) if !hides_lower(layer) => {}
            Err(_) => return String::new(),
        }
    }
    String::new()
}

fn open_beneath(layer: &Path, name: &str) -> nix::Result<OwnedFd> {
    let root = open(layer, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        // Without waiting: a layer may hold a pipe of this name.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, name, how)
}

/// A device is how overlayfs says "deleted".
fn read_file(mut file: File) -> Option<String> {
    let kind = file.metadata().ok()?;
    if !kind.is_file() || kind.file_type().is_char_device() || kind.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.by_ref().take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether this layer replaces `etc` as a whole, so that the layers below do not show.
fn hides_lower(layer: &Path) -> bool {
    let etc = layer.join("etc");
    match std::fs::symlink_metadata(&etc) {
        Ok(kind) if kind.is_dir() => is_opaque(&etc),
        Ok(_) => true,
        Err(_) => false,
    }
}

#[expect(unsafe_code, reason = "neither the standard library nor nix reads extended attributes")]
fn is_opaque(directory: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;

    let Ok(path) = std::ffi::CString::new(directory.as_os_str().as_bytes()) else { return false };
    [c"trusted.overlay.opaque", c"user.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 1];
        // SAFETY: both strings end with NUL and outlive the call, and the buffer is as long as is said.
        let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value == [b'y']
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_layer_that_has_the_file_wins_and_links_stay_inside() {
        let root = std::env::temp_dir().join(format!("wherry-accounts-{}", std::process::id()));
        let layer = |name: &str| root.join(name);
        for name in ["low", "middle", "link"] {
            std::fs::create_dir_all(layer(name).join("etc")).expect("made");
        }
        std::fs::write(layer("low").join("etc/passwd"), "low").expect("written");
        std::fs::write(layer("middle").join("etc/passwd"), "middle").expect("written");
        std::os::unix::fs::symlink("/etc/hostname", layer("link").join("etc/passwd")).expect("linked");
        let overlay = |layers: &[&str]| {
            let list: Vec<String> = layers.iter().map(|name| layer(name).display().to_string()).collect();
            let options = vec!["index=off".to_owned(), format!("lowerdir={}", list.join(":"))];
            read_accounts(&[Mount { r#type: "overlay".to_owned(), options, ..Mount::default() }]).passwd
        };

        let (upper_first, only_low) = (overlay(&["middle", "low"]), overlay(&["low"]));
        let linked = overlay(&["link", "low"]);
        let plain = read_accounts(&[Mount {
            r#type: "bind".to_owned(),
            source: layer("low").display().to_string(),
            ..Mount::default()
        }]);
        std::fs::remove_dir_all(&root).expect("removed");

        assert_eq!((upper_first.as_str(), only_low.as_str()), ("middle", "low"));
        assert_eq!(plain, Accounts { passwd: "low".to_owned(), group: String::new() });
        assert_ne!(linked, std::fs::read_to_string("/etc/hostname").unwrap_or_default(), "a link led out of the layer");
    }
}
