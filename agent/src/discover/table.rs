//! The partition table of one disk: primary GPT, backup GPT, MBR, none.

use super::{lost_table, read};
use crate::inventory::Partition;
use tierlift_ondisk::units::{Bytes, SECTOR_BYTES, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_ondisk::{gpt, mbr};

/// Units a GPT may count in: 512, or 4096 for a 4Kn disk (also when read through a bridge that shows 512).
const UNITS: [u64; 2] = [512, 4096];

/// What a disk's table says.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// "gpt", "gpt (backup)", "mbr", "lost" (partitions were found without one), "none".
    pub(super) kind: &'static str,
    /// In order of their numbers.
    pub(super) partitions: Vec<Partition>,
    /// What is wrong.
    pub(super) notes: Vec<String>,
}

/// Reads the table of a disk.
pub(super) fn read_table(disk: &dyn ReadAt) -> Table {
    let primary = UNITS.iter().find_map(|unit| read_gpt(disk, 1, *unit));
    let last = |unit: &u64| disk.size().0.checked_div(*unit).and_then(|sectors| sectors.checked_sub(1));
    let backup = UNITS.iter().find_map(|unit| read_gpt(disk, last(unit)?, *unit));
    let boot = read(disk, 0, 512).and_then(|sector| mbr::decode(&sector).ok()).unwrap_or_default();
    let protective = boot.iter().any(|entry| entry.kind == mbr::PROTECTIVE);
    let mut table = match (primary, backup) {
        (Some(primary), backup) => from_primary(disk, primary, backup),
        (None, Some(backup)) => from_gpt("gpt (backup)", backup, vec![
            "the partition table at the start is damaged; its copy at the end is used".into(),
        ]),
        (None, None) if protective => Table {
            kind: "none",
            partitions: Vec::new(),
            notes: vec![
                "sector 0 says there is a GPT, but neither it nor its copy at the end is sound; if this is an image, was the \
                 whole disk copied?"
                    .into(),
            ],
        },
        (None, None) => from_mbr(disk, &boot),
    };
    if table.partitions.is_empty() {
        look_for_lost(disk, &mut table);
    }
    table.notes.extend(cut_short(disk, &table.partitions));
    table
}

fn look_for_lost(disk: &dyn ReadAt, table: &mut Table) {
    table.partitions = lost_table::find(disk);
    if !table.partitions.is_empty() {
        table.kind = "lost";
        table.notes.push(format!(
            "the partition table is lost; {} of its partitions were found again by what lies at their ends and starts",
            table.partitions.len()
        ));
    }
}

/// A header with its entries and the unit they count in.
struct Gpt {
    header: gpt::Header,
    entries: Vec<gpt::Entry>,
    unit: u64,
}

fn read_gpt(disk: &dyn ReadAt, lba: u64, unit: u64) -> Option<Gpt> {
    let header = gpt::Header::decode(&read(disk, lba.checked_mul(unit)?, 512)?).ok()?;
    let array = read(disk, header.entries_lba.checked_mul(unit)?, header.entries_bytes())?;
    let entries = header.decode_entries(&array).ok()?;
    (header.own_lba == lba).then_some(Gpt { header, entries, unit })
}

fn from_primary(disk: &dyn ReadAt, primary: Gpt, backup: Option<Gpt>) -> Table {
    let mut notes = Vec::new();
    let end = primary.header.other_lba.saturating_add(1).saturating_mul(primary.unit);
    match backup {
        Some(backup) if backup.entries != primary.entries => {
            notes.push("the two copies of the partition table differ; the one at the start is used".into());
        }
        Some(_) => {}
        None if end > disk.size().0 => notes.push(format!(
            "the table was written for a disk of {end} bytes, but only {} are here: the image is cut short",
            disk.size()
        )),
        None => {
            notes.push("the copy of the partition table at the end is damaged; the one at the start is used".into())
        }
    }
    from_gpt("gpt", primary, notes)
}

fn from_gpt(kind: &'static str, gpt: Gpt, mut notes: Vec<String>) -> Table {
    let mut partitions = Vec::new();
    for entry in gpt.entries {
        let sectors = gpt.unit.checked_div(SECTOR_BYTES).unwrap_or(1);
        let start = entry.first.checked_mul(sectors);
        let length = entry.last.checked_sub(entry.first).and_then(|last| last.checked_add(1));
        match (start, length.and_then(|length| length.checked_mul(sectors))) {
            (Some(start), Some(length)) => partitions.push(partition(entry.number, start, length)),
            _ => notes.push(format!("partition {} ends before it begins; it is left out", entry.number)),
        }
    }
    Table { kind, partitions, notes }
}

/// Boot sectors of file systems have the same signature: a table whose entries make no sense is none.
fn from_mbr(disk: &dyn ReadAt, entries: &[mbr::Entry]) -> Table {
    let sectors = disk.size().to_sectors().0;
    let sound = |entry: &mbr::Entry| entry.start > 0 && u64::from(entry.start) < sectors;
    if entries.is_empty() || !entries.iter().all(sound) {
        return Table { kind: "none", ..Table::default() };
    }
    let partitions = entries.iter().map(|entry| partition(entry.number, entry.start.into(), entry.length.into()));
    Table { kind: "mbr", partitions: partitions.collect(), notes: Vec::new() }
}

/// A partition whose content is not known yet; start and length in sectors.
pub(super) fn partition(number: u32, start: u64, length: u64) -> Partition {
    Partition { number, start: Sectors(start), length: Sectors(length), content: String::new() }
}

fn cut_short(disk: &dyn ReadAt, partitions: &[Partition]) -> Vec<String> {
    let there = disk.size();
    let end = |partition: &Partition| partition.start.checked_add(partition.length).and_then(Sectors::to_bytes);
    let beyond = partitions.iter().filter(|partition| end(partition).is_none_or(|end| end > there));
    let told = beyond.map(|partition| {
        let missing = end(partition).map_or(Bytes(u64::MAX), |end| Bytes(end.0.saturating_sub(there.0)));
        let (number, missing) = (partition.number, missing.human());
        format!("partition {number} ends {missing} beyond the end of what is here: reads of that part fail")
    });
    told.collect()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    /// A disk with one partition of 8 units from unit 40 on.
    fn disk(unit: u64) -> Vec<u8> {
        let last = 199;
        let entry = gpt::Entry {
            number: 3,
            type_guid: gpt::BASIC_DATA,
            guid: [1; 16],
            first: 40,
            last: 47,
            name: String::new(),
        };
        let array = gpt::encode_entries(&[entry]);
        let mut bytes = vec![0; 200 * unit as usize];
        for (own, other, entries) in [(1, last, 2), (last, 1, last - 32)] {
            let header = gpt::Header {
                own_lba: own,
                other_lba: other,
                first_usable: 34,
                last_usable: last - 33,
                disk_guid: [2; 16],
                entries_lba: entries,
                entry_count: 128,
                entry_bytes: 128,
                entries_crc: gpt::checksum(&array),
            };
            put(&mut bytes, own * unit, &header.encode());
            put(&mut bytes, entries * unit, &array);
        }
        put(&mut bytes, 0, &mbr::protective(Sectors(200)));
        bytes
    }

    fn put(bytes: &mut [u8], at: u64, value: &[u8]) {
        bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
    }

    fn only(table: &Table) -> (u32, u64, u64) {
        assert_eq!(table.partitions.len(), 1, "{table:?}");
        (table.partitions[0].number, table.partitions[0].start.0, table.partitions[0].length.0)
    }

    #[test]
    fn both_units_are_found() {
        for (unit, sectors) in [(512, 1), (4096, 8)] {
            let table = read_table(&disk(unit));
            assert_eq!((table.kind, only(&table)), ("gpt", (3, 40 * sectors, 8 * sectors)));
            assert!(table.notes.is_empty(), "{:?}", table.notes);
        }
    }

    #[test]
    fn the_copy_at_the_end_serves_when_the_start_is_broken() {
        let mut bytes = disk(512);
        bytes[512 + 20] ^= 1;
        bytes[512 + 60] ^= 1;
        let table = read_table(&bytes);
        assert_eq!((table.kind, only(&table)), ("gpt (backup)", (3, 40, 8)));
        let mut bytes = disk(512);
        bytes[1024 + 40] ^= 1;
        assert_eq!(read_table(&bytes).kind, "gpt (backup)");
    }

    #[test]
    fn a_short_image_is_told_with_what_is_missing() {
        let mut bytes = disk(512);
        bytes.truncate(44 * 512);
        let table = read_table(&bytes);
        assert_eq!(only(&table), (3, 40, 8));
        assert!(table.notes[0].contains("cut short"), "{:?}", table.notes);
        assert!(table.notes[1].contains("partition 3 ends 2.0 KiB beyond"), "{:?}", table.notes);
    }

    #[test]
    fn an_mbr_is_read_and_a_boot_sector_is_not() {
        let mut bytes = vec![0; 512 * 100];
        let entry = mbr::Entry { number: 3, kind: 0x83, start: 63, length: 20 };
        put(&mut bytes, 0, &mbr::encode(&[entry]));
        let table = read_table(&bytes);
        assert_eq!((table.kind, only(&table)), ("mbr", (3, 63, 20)));
        put(&mut bytes, 0, &mbr::encode(&[mbr::Entry { start: 4711, ..entry }]));
        assert_eq!(read_table(&bytes).kind, "none");
        assert!(read_table(&vec![0; 100]).partitions.is_empty());
    }

    #[test]
    fn two_broken_tables_are_told() {
        let mut bytes = disk(512);
        bytes[512] = 0;
        bytes[199 * 512] = 0;
        let table = read_table(&bytes);
        assert!(table.partitions.is_empty() && table.notes[0].contains("neither"), "{table:?}");
    }
}
