//! What older snapshots of a volume still have: names of nameless files, and whole forms of damaged ones.
//!
//! A whole file of a snapshot is older than the damaged one: it is told, and fetched beside it only when that was asked for.

use super::Work;
use super::volumes::Chosen;
use crate::activate::bring_up::bring_up;
use crate::activate::plan::Wish;
use crate::activate::repaired_inodes;
use crate::block::FileView;
use crate::case::{self, Counts};
use crate::commands::text::say;
use crate::ext4::{FoundName, lost_names};
use crate::extract::copy::{self, Job, is_whole};
use crate::extract::kind::Kind;
use crate::extract::lost_found::{self, Names};
use crate::extract::mount::{default_directory, mount_read_only};
use crate::extract::names;
use crate::inventory::LogicalVolumeKind;
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Snapshots looked at for one volume.
const MOST: usize = 64;
/// Folder beside the files that what snapshots have is fetched into.
const FETCHED: &str = "from-snapshots";

impl Work<'_> {
    /// Looks for what a copy could not have in the snapshots of its volume, and sorts what has no name.
    pub(super) fn look_for_older(
        &mut self,
        volume: &Chosen,
        tree: &Path,
        damaged: &[PathBuf],
        fetch: bool,
    ) -> anyhow::Result<()> {
        let nameless = lost_found::nameless(tree);
        if nameless.is_empty() && damaged.is_empty() {
            return Ok(());
        }
        let mut names = Names::default();
        let mut missing: Vec<PathBuf> = damaged.to_vec();
        for snapshot in self.snapshots_of(volume) {
            let directory = match self.mounted(&snapshot) {
                Ok(directory) => directory,
                Err(error) => {
                    log::warn!("{}: {error:#}", snapshot.name);
                    continue;
                }
            };
            names.add(&snapshot.name, &directory, &nameless);
            let whole: Vec<PathBuf> = missing.iter().filter(|path| is_whole(&directory, path)).cloned().collect();
            missing.retain(|path| !whole.contains(path));
            let told = self.older_forms(&snapshot, &directory, &whole, tree, fetch);
            if let Err(errno) = nix::mount::umount(&directory) {
                log::warn!("{} cannot be unmounted: {errno}", directory.display());
            }
            told?;
        }
        if !nameless.is_empty() {
            names.add_left(self.left_names(volume, &nameless)?);
        }
        match lost_found::sort(tree, &names)? {
            None => Ok(()),
            Some(sorted) => self.tell(format!("{}: {}", volume.name, sorted.told())),
        }
    }

    /// Names in directory blocks of the volume as it was found, before any repair.
    fn left_names(&mut self, volume: &Chosen, nameless: &[u64]) -> anyhow::Result<BTreeMap<u64, FoundName>> {
        say!("  looking for names in directory blocks and the journal (the inodes and all unclaimed blocks are read)");
        let active = bring_up(&self.dm, &mut self.session, volume.group, &volume.wish, &self.request)?;
        let device = self.opened(volume, &active)?;
        Ok(lost_names(&FileView::open(&device)?, &nameless.iter().copied().collect()))
    }

    /// Tells which damaged files a snapshot has whole, or fetches them.
    fn older_forms(
        &self,
        snapshot: &Chosen,
        directory: &Path,
        whole: &[PathBuf],
        tree: &Path,
        fetch: bool,
    ) -> anyhow::Result<()> {
        // On a target of Windows its folders may have other names, as in any copy.
        let kind = Kind::of(tree).with_context(|| format!("{}: its file system cannot be asked", tree.display()))?;
        let mut names = names::Names::new(kind, directory);
        for path in whole {
            if !fetch {
                self.tell(format!(
                    "{} is whole in the older snapshot {}; --from-snapshots fetches such files, into {FETCHED}",
                    path.display(),
                    snapshot.name
                ))?;
                continue;
            }
            let folder = tree.join(FETCHED).join(snapshot.name.replace('/', "-"));
            let target = path.parent().map_or(folder.clone(), |parent| folder.join(names.target(parent)));
            let name = format!("{}:{}", snapshot.name, path.display());
            let suspicious = repaired_inodes::shown_at(directory)?;
            let job = Job { name, source: directory.join(path), target, force: true, suspicious };
            let Counts { copied, identical, .. } = copy::run(&job, &mut |_| {})?.counts;
            if copied.saturating_add(identical) == 1 {
                let shown = job.target.strip_prefix(&self.target.folder).unwrap_or(&job.target);
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.tell(format!("{}: its older form of {} is now in {}", name, snapshot.name, shown.display()))?;
            }
        }
        Ok(())
    }

    pub(super) fn tell(&self, text: String) -> anyhow::Result<()> {
        say!("  {text}");
        case::keep(|case| case.note(text))
    }

    /// The snapshots the volume group's text names, in its order.
    fn snapshots_of(&self, volume: &Chosen) -> Vec<Chosen> {
        let Wish::Volume(origin_name) = &volume.wish else { return Vec::new() };
        let Some(group) = self.session.inventory.volume_groups.get(volume.group) else { return Vec::new() };
        let is_of = |kind: &LogicalVolumeKind| matches!(kind, LogicalVolumeKind::Thin { origin: Some(origin), .. } if origin == origin_name);
        let snapshots = group.logical_volumes.iter().filter(|found| is_of(&found.kind)).take(MOST);
        let prefix = volume.name.strip_suffix(origin_name.as_str()).unwrap_or_default();
        snapshots
            .map(|found| Chosen {
                group: volume.group,
                wish: Wish::Volume(found.name.clone()),
                name: format!("{prefix}{}", found.name),
            })
            .collect()
    }

    fn mounted(&mut self, snapshot: &Chosen) -> anyhow::Result<PathBuf> {
        let active = bring_up(&self.dm, &mut self.session, snapshot.group, &snapshot.wish, &self.request)?;
        self.opened(snapshot, &active)?;
        let directory = default_directory(&active.plan.device);
        mount_read_only(&self.dm, &active.path, &directory)?;
        Ok(directory)
    }
}
