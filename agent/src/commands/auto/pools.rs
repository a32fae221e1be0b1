//! The pools of the chosen volumes: looked through, and repaired where they are damaged.

use super::Work;
use super::volumes::Chosen;
use crate::activate::stack;
use crate::case;
use crate::commands::text::print_lines;
use crate::commands::text::say;
use crate::commands::{Outcome, repair};
use crate::repair::{self as new_metadata, Preview};
use std::collections::BTreeSet;

impl Work<'_> {
    /// Repairs each damaged pool of the chosen volumes, after one question.
    pub(super) fn repair_pools(&mut self, chosen: &[Chosen]) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        let mut damaged = Vec::new();
        for volume in chosen {
            let Some(group) = self.session.inventory.volume_groups.get(volume.group) else { continue };
            let Ok(Some(pool)) = stack::pool_of(group, &volume.wish) else { continue };
            if seen.insert((volume.group, pool.name.clone())) && new_metadata::load(&group.id, &pool.name)?.is_none() {
                damaged.extend(self.look_through(volume)?);
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        say!(
            "New metadata are written beside the case; the disks are not touched, and what is lost gives errors. File systems that are \
             damaged are repaired on overlays, after what can be had without was copied."
        );
        if !self.ask.repairs()? {
            case::keep(|case| case.note("the user left the damaged pools unrepaired"))?;
            return Ok(());
        }
        damaged.iter().try_for_each(|preview| repair::make(&self.session, &self.request, preview).map(drop))
    }

    /// What a repair of the volume's pool gives, when it needs one.
    fn look_through(&mut self, volume: &Chosen) -> anyhow::Result<Option<Preview>> {
        let wanted = repair::wanted(&self.session, volume.group, &volume.wish)?;
        say!("Checking pool {} ...", wanted.pool);
        let preview = match repair::preview(&self.session, &wanted) {
            Ok(preview) => preview,
            Err(error) => {
                self.failed(&wanted.pool, &error)?;
                return Ok(None);
            }
        };
        repair::drawn(&self.session, &wanted, &preview)?;
        let outcome = repair::outcome(&preview);
        if outcome == Outcome::CLEAN {
            say!("Pool {} is sound.", preview.name);
            return Ok(None);
        }
        let files = repair::files(&self.session, &wanted, &preview);
        print_lines(&repair::text(&preview, &files, &[]))?;
        self.outcome = self.outcome.and(outcome);
        Ok((!preview.nothing_left()).then_some(preview))
    }
}
