//! thin_dump's XML. Gaps become comments, so that a dump of a damaged pool cannot be taken for a whole one.

use super::{Gap, MappingKind, Sink};
use crate::pool::{Pool, ThinDevice};
use crate::run::Run;
use std::io::{self, Write};
use tierlift_ondisk::thin::Family;
use tierlift_ondisk::units::DeviceId;

pub(super) struct Xml<'a> {
    out: &'a mut dyn Write,
    mainline: bool,
}

impl<'a> Xml<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, mainline: false }
    }
}

impl Sink for Xml<'_> {
    fn begin(&mut self, pool: &Pool) -> io::Result<()> {
        self.mainline = pool.family() == Family::Mainline;
        let sb = pool.superblock();
        // QNAP's and the stock tools both print the uuid empty, whatever it is.
        write!(
            self.out,
            r#"<superblock uuid="" time="{}" transaction="{}" flags="{}" version="{}" data_block_size="{}" nr_data_blocks="{}""#,
            sb.time, sb.transaction, sb.flags, sb.version, sb.chunk_size, sb.data_map.nr_blocks
        )?;
        if sb.clone_root.0 != 0 {
            write!(self.out, r#" reserve_block_count="{}""#, sb.reserve_block_count)?;
        }
        if sb.tier_num > 0 {
            write!(self.out, r#" tier_block_size="{}" nr_tiers="{}""#, sb.tier_block_size, sb.tier_num)?;
        }
        for (tier, map) in sb.tier_maps.iter().enumerate().take(sb.tier_num as usize) {
            write!(self.out, r#" tier{tier}_data_blocks="{}""#, map.nr_blocks)?;
        }
        writeln!(self.out, ">")
    }

    fn device(&mut self, id: DeviceId, device: &ThinDevice) -> io::Result<bool> {
        let Some(details) = device.details else { return Ok(false) };
        write!(
            self.out,
            r#"  <device dev_id="{id}" mapped_blocks="{}" transaction="{}" creation_time="{}" snap_time="{}""#,
            details.mapped, details.transaction, details.creation_time, details.snapshot_time
        )?;
        if let Some(clone) = details.clone {
            write!(self.out, r#" clone_time="{}" scaned_index="{}""#, clone.time, clone.reserved)?;
        }
        if let Some(origin) = details.origin {
            write!(self.out, r#" snap_origin="{origin}""#)?;
        }
        writeln!(self.out, ">")?;
        Ok(true)
    }

    fn mapping(&mut self, run: &Run<MappingKind>) -> io::Result<()> {
        let Run { key, target, length, attribute: (zeroed, time) } = run;
        if *length == 1 {
            write!(self.out, r#"    <single_mapping origin_block="{key}" data_block="{target}" time="{time}""#)?;
        } else {
            write!(
                self.out,
                r#"    <range_mapping origin_begin="{key}" data_begin="{target}" length="{length}" time="{time}""#
            )?;
        }
        if !self.mainline {
            write!(self.out, r#" fastzero="{zeroed}""#)?;
        }
        writeln!(self.out, "/>")
    }

    fn device_end(&mut self) -> io::Result<()> {
        writeln!(self.out, "  </device>")
    }

    fn tiering(&mut self) -> io::Result<()> {
        writeln!(self.out, "  <tiering>")
    }

    fn tier(&mut self, run: &Run<u8>) -> io::Result<()> {
        let Run { key, target, length, attribute: tier } = run;
        if *length == 1 {
            writeln!(self.out, r#"    <single_tier origin_block="{key}" tier="{tier}" data_block="{target}"/>"#)
        } else {
            writeln!(
                self.out,
                r#"    <range_tier origin_begin="{key}" tier="{tier}" data_begin="{target}" length="{length}"/>"#
            )
        }
    }

    fn tiering_end(&mut self) -> io::Result<()> {
        writeln!(self.out, "  </tiering>")
    }

    fn gap(&mut self, gap: Gap<'_>) -> io::Result<()> {
        // Two dashes would end the comment.
        writeln!(self.out, "  <!-- LOST: {} -->", gap.to_string().replace("--", "- -"))
    }

    fn end(&mut self) -> io::Result<()> {
        writeln!(self.out, "</superblock>")
    }
}
