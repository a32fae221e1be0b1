//! The dump as one JSON object, `tierlift.pool-dump/1`, written as it comes.

use super::{Gap, MappingKind, Sink};
use crate::fault::Lost;
use crate::pool::{Pool, ThinDevice};
use crate::run::Run;
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};
use tierlift_ondisk::units::DeviceId;

/// Gaps of a device or of the tier tree come after its entries, so that each list is of one kind.
pub(super) struct Json<'a> {
    out: &'a mut dyn Write,
    first_device: bool,
    first_entry: bool,
    has_tiers: bool,
    gaps: Vec<Lost>,
    table_gaps: Vec<String>,
}

impl<'a> Json<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        let (gaps, table_gaps) = (Vec::new(), Vec::new());
        Self { out, first_device: true, first_entry: true, has_tiers: false, gaps, table_gaps }
    }

    fn entry(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.out.write_all(if std::mem::take(&mut self.first_entry) { b"\n  " } else { b",\n  " })?;
        Ok(serde_json::to_writer(&mut *self.out, value)?)
    }

    fn close_list(&mut self) -> io::Result<()> {
        self.first_entry = true;
        write!(self.out, "], \"lost\": {}}}", serde_json::to_string(&std::mem::take(&mut self.gaps))?)
    }
}

impl Sink for Json<'_> {
    fn begin(&mut self, pool: &Pool) -> io::Result<()> {
        let sb = pool.superblock();
        let declared = sb.tier_maps.iter().take(sb.tier_num as usize);
        let head = json!({
            "family": pool.family(), "version": sb.version, "flags": sb.flags, "time": sb.time,
            "transaction": sb.transaction, "chunk_size": sb.chunk_size, "chunks": sb.data_map.nr_blocks,
            "tier_block_size": sb.tier_block_size, "tier_blocks": declared.map(|map| map.nr_blocks).collect::<Vec<_>>(),
        });
        write!(self.out, "{{\"schema\": \"tierlift.pool-dump/1\", \"superblock\": {head},\n\"devices\": [")
    }

    fn device(&mut self, id: DeviceId, device: &ThinDevice) -> io::Result<bool> {
        let record = device.details.map(|details| {
            json!({
                "mapped": details.mapped, "transaction": details.transaction, "creation_time": details.creation_time,
                "snapshot_time": details.snapshot_time, "clone_time": details.clone.map(|clone| clone.time),
                "origin": details.snapshot_of(),
            })
        });
        let comma = if std::mem::take(&mut self.first_device) { "" } else { "," };
        write!(self.out, "{comma}\n {{\"id\": {id}, \"record\": {}, ", serde_json::to_string(&record)?)?;
        write!(self.out, "\"root\": {}, \"mappings\": [", serde_json::to_string(&device.root)?)?;
        Ok(true)
    }

    fn mapping(&mut self, run: &Run<MappingKind>) -> io::Result<()> {
        let Run { key, target, length, attribute: (zeroed, time) } = run;
        self.entry(&json!({"chunk": key, "pool_chunk": target, "length": length, "time": time, "zeroed": zeroed}))
    }

    fn device_end(&mut self) -> io::Result<()> {
        self.close_list()
    }

    fn tiering(&mut self) -> io::Result<()> {
        self.has_tiers = true;
        write!(self.out, "],\n\"tiers\": {{\"mappings\": [")
    }

    fn tier(&mut self, run: &Run<u8>) -> io::Result<()> {
        let Run { key, target, length, attribute: tier } = run;
        self.entry(&json!({"piece": key, "tier": tier, "tier_block": target, "length": length}))
    }

    fn tiering_end(&mut self) -> io::Result<()> {
        self.close_list()
    }

    fn gap(&mut self, gap: Gap<'_>) -> io::Result<()> {
        match gap {
            Gap::Mappings(_, lost) | Gap::Tiers(lost) => self.gaps.push(lost.clone()),
            Gap::NoRecord(_) | Gap::NoTree(_) => {}
            Gap::Details(_) | Gap::Roots(_) => self.table_gaps.push(gap.to_string()),
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if !self.has_tiers {
            write!(self.out, "],\n\"tiers\": null")?;
        }
        writeln!(self.out, ",\n\"lost\": {}}}", serde_json::to_string(&self.table_gaps)?)
    }
}
