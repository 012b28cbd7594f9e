//! A file that gets its name once it is worth one.
//!
//! Until then it has none, so that nobody who lists or copies the directory meanwhile sees a name vanish. Where the
//! file system has no files without a name, it has a temporary one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, File};

/// See the module. One that gets no name is removed when it is dropped, or by [`abandon`](Unnamed::abandon).
#[derive(Debug)]
pub(crate) struct Unnamed {
    pub(crate) file: Arc<dyn File>,
    temporary: Option<PathBuf>,
}

impl Unnamed {
    /// Makes it in the directory of `temporary`, which is its name if it has to have one.
    pub(crate) fn create(disk: &dyn Disk, temporary: &Path) -> io::Result<Unnamed> {
        let dir = temporary.parent().unwrap_or(Path::new(""));
        match disk.create_unnamed(dir) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let file = disk.create(temporary)?;
                Ok(Unnamed { file, temporary: Some(temporary.to_owned()) })
            }
            file => Ok(Unnamed { file: file?, temporary: None }),
        }
    }

    /// Gives it its name, in place of a file that has it. After an error it has none.
    pub(crate) fn name(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let named = match &self.temporary {
            Some(temporary) => disk.rename(temporary, path),
            None => match disk.name(&*self.file, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    disk.unlink(path).and_then(|()| disk.name(&*self.file, path))
                }
                named => named,
            },
        };
        if named.is_err() {
            self.abandon(disk);
        }
        named
    }

    /// It is needed no more.
    pub(crate) fn abandon(&self, disk: &dyn Disk) {
        if let Some(temporary) = &self.temporary {
            let _ = disk.unlink(temporary);
        }
    }
}
