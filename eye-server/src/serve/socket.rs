//! Unix sockets: the owner's in the data folder, and one to listen on.
//!
//! What must stay true: nobody but the owner can connect to the owner's, at no instant.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The file of a socket. Removed when dropped.
pub(crate) struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Listens on `DATA/eye.sock`, mode 0600: whoever may open it is admin. A stale file of that name is replaced. The folder's lock sees to it
    /// that no other process listens there.
    pub(crate) fn bind_owner(data: &Path) -> io::Result<(Self, UnixListener)> {
        let path = data.join("eye.sock");
        // Made in a folder that nobody else can enter, so that there is no instant at which another could connect.
        let folder = data.join(".s");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let bound = (|| -> io::Result<UnixListener> {
            let made = folder.join("s");
            let listener = UnixListener::bind(&made)?;
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&made, &path)?;
            Ok(listener)
        })();
        let _ = std::fs::remove_dir_all(&folder);
        Ok((Self { path }, bound?))
    }

    /// Listens on a path for whoever can reach it: requests bring tokens there as they do over a network. A socket that
    /// nobody listens on any more is replaced; anything else of that name is an error.
    pub(crate) fn bind_public(path: &Path) -> io::Result<(Self, UnixListener)> {
        if let Ok(facts) = std::fs::symlink_metadata(path) {
            if !facts.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file of that name is there, and no socket",
                ));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens there",
                ));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        let path = path.to_owned();
        Ok((Self { path }, listener))
    }

    /// Returns where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
