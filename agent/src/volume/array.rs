//! An array of the inventory as bytes, read through its members.

use crate::block::{GuardedView, RaidView, SubView, View};
use crate::inventory::{Array, Inventory, Member};
use anyhow::{Context, ensure};
use std::sync::Arc;
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// Arrays on arrays: RAID 50 is one level, and nobody makes more.
const MAX_NESTING: u32 = 2;

/// Opens a disk of the inventory by its index; `None` when it cannot be opened.
pub(crate) type OpenDisk<'a> = &'a dyn Fn(usize) -> Option<View>;

/// The data of an array, put together as its `assembly` says. Members that are missing or cannot be opened are rebuilt from
/// the others where they are read.
///
/// # Errors
/// When the array has no assembly, or one that contradicts itself.
pub(crate) fn assembled(inventory: &Inventory, index: usize, open: OpenDisk<'_>) -> anyhow::Result<View> {
    Ok(Arc::new(assembled_in(inventory, index, open, 0)?))
}

/// The data of its members, by role.
///
/// # Errors
/// When the array has no assembly.
pub(crate) fn members(inventory: &Inventory, index: usize, open: OpenDisk<'_>) -> anyhow::Result<Vec<Option<View>>> {
    members_in(inventory, index, open, 0)
}

fn members_in(
    inventory: &Inventory,
    index: usize,
    open: OpenDisk<'_>,
    depth: u32,
) -> anyhow::Result<Vec<Option<View>>> {
    ensure!(depth < MAX_NESTING, "an array on an array on an array cannot be read");
    let array = inventory.arrays.get(index).context("no such array")?;
    let assembly = array.assembly.as_ref().with_context(|| format!("array {} cannot be put together", array.name))?;
    let members = assembly.roles.iter().map(|member| {
        let member = array.members.get((*member)?)?;
        member_view(inventory, array, member, open, depth)
    });
    Ok(members.collect())
}

fn assembled_in(inventory: &Inventory, index: usize, open: OpenDisk<'_>, depth: u32) -> anyhow::Result<RaidView> {
    let members = members_in(inventory, index, open, depth)?;
    let array = inventory.arrays.get(index).context("no such array")?;
    let assembly = array.assembly.as_ref().context("no assembly")?;
    let geometry = array.geometry().with_context(|| format!("array {}", array.name))?;
    let view = RaidView::new(geometry, members)?;
    let first = assembly.roles.iter().position(|member| member.is_some() && *member == array.usable_member);
    Ok(view.reading_first(first))
}

/// The data of a member, as far as they are there and valid.
fn member_view(inventory: &Inventory, array: &Array, member: &Member, open: OpenDisk<'_>, depth: u32) -> Option<View> {
    let below: View = match member.on_array {
        Some(below) => Arc::new(assembled_in(inventory, below, open, depth.saturating_add(1)).ok()?),
        None => open(member.place.disk)?,
    };
    let start = member.place.start.checked_add(member.data_offset)?;
    let mut length = array.data_end(member).saturating_sub(member.data_offset.0);
    length = length.min(member.place.length.0.saturating_sub(member.data_offset.0));
    length = member.rebuilt_to.map_or(length, |end| end.0.min(length));
    let (start, length) = start.to_bytes().zip(Sectors(length).to_bytes())?;
    let there = length.0.min(below.size().0.checked_sub(start.0)?);
    let data: View = Arc::new(SubView::new(below, start, Bytes(there)).ok()?);
    if member.bad_blocks.is_empty() {
        return Some(data);
    }
    let bad = member.bad_blocks.iter().filter_map(|range| range.start.to_bytes().zip(range.length.to_bytes()));
    Some(Arc::new(GuardedView::new(data, bad)))
}
