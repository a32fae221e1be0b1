//! The inodes of what is copied. The reader of the files does not tell their numbers.

use super::attributes;
use super::reader::{self, Mark};
use crate::block::View;
use crate::ext4::{Found, Inodes};
use ext4_view::{DirEntry, Ext4, Metadata};

/// Finds the inodes of what the reader of the files found.
pub(super) struct Numbers<'a> {
    pub(super) inodes: Inodes<'a>,
    /// The file system without what waits in its journal, when something does.
    on_volume: Option<Ext4>,
}

impl<'a> Numbers<'a> {
    pub(super) fn open(view: &'a View, mark: &Mark) -> Option<Self> {
        let on_volume = match reader::journal_waits(view) {
            true => Some(reader::without_journal(view, mark)?),
            false => None,
        };
        Some(Self { inodes: Inodes::open(view)?, on_volume })
    }

    /// The inode of this number, if it is the one that was found under this entry.
    pub(super) fn find(&self, number: u32, entry: &DirEntry, found: &Metadata) -> Option<Found> {
        if let Some(on_volume) = &self.on_volume {
            // All times are compared here, also that of the last change of attributes.
            on_volume.symlink_metadata(&entry.path()).ok().filter(|there| there == found)?;
        }
        self.inodes.find(number).filter(|inode| Some(&inode.identity) == attributes::identity(found).as_ref())
    }

    /// Two names of this inode are surely names of one file. While a journal waits, names on the volume may be older ones; then
    /// it takes nanoseconds to tell files apart that were made one after another.
    pub(super) fn can_link(&self, inode: &Found) -> bool {
        inode.inode.links > 1 && (self.on_volume.is_none() || inode.identity.made.is_some())
    }
}
