//! A VHDX written from nothing, the same bytes for the same disk: blocks of zeros take no room, the log is empty.

use anyhow::ensure;
use std::ops::Range;

const MIB: usize = 1 << 20;
/// Bytes of a block of the disk: the smallest the format has.
const BLOCK: usize = MIB;
/// Where the parts lie. The format wants each at a whole MiB, and leaves the first to the headers.
const LOG: usize = MIB;
const METADATA: usize = 2 * MIB;
const TABLE: usize = 3 * MIB;
const PAYLOAD: usize = 4 * MIB;
/// In an entry of the table: this block is in the file, this block is zeros.
const PRESENT: u64 = 6;
const ZERO: u64 = 2;
/// So many blocks have an entry each before one entry for a bitmap, which only disks with a parent use.
const RATIO: usize = (1 << 23) * 512 / BLOCK;

/// The kinds of region and of metadata, in the order of bytes they are written in.
const TABLE_REGION: u128 = 0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08;
const METADATA_REGION: u128 = 0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e;
const FILE_PARAMETERS: u128 = 0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b;
const DISK_SIZE: u128 = 0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8;
const DISK_IDENTITY: u128 = 0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746;
const LOGICAL_SECTOR: u128 = 0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f;
const PHYSICAL_SECTOR: u128 = 0xcda3_48c7_445d_4471_9cc9_e988_5251_c556;

/// The file for a disk, which must be whole MiB long.
pub fn file(disk: &[u8], identity: [u8; 16]) -> anyhow::Result<Vec<u8>> {
    ensure!(disk.len() % BLOCK == 0 && !disk.is_empty(), "a VHDX is made of whole MiB: {} bytes", disk.len());
    let blocks = disk.len() / BLOCK;
    ensure!(blocks < RATIO, "a disk of {blocks} MiB is too large for this writer");
    let mut file = vec![0; PAYLOAD];
    place(&mut file, 0..16, &identifier());
    for (at, number) in [(64 << 10, 1), (128 << 10, 2)] {
        place(&mut file, at..at + 4096, &header(number, identity));
    }
    for at in [192 << 10, 256 << 10] {
        place(&mut file, at..at + (64 << 10), &regions());
    }
    place(&mut file, METADATA..METADATA + MIB, &metadata(disk.len(), identity));
    for (number, block) in disk.chunks_exact(BLOCK).enumerate() {
        let entry = if block.iter().all(|byte| *byte == 0) { ZERO } else { file.len() as u64 | PRESENT };
        let at = TABLE + number * 8;
        place(&mut file, at..at + 8, &entry.to_le_bytes());
        if entry != ZERO {
            file.extend_from_slice(block);
        }
    }
    Ok(file)
}

fn place(file: &mut [u8], range: Range<usize>, bytes: &[u8]) {
    file[range.start..range.start + bytes.len().min(range.len())]
        .copy_from_slice(&bytes[..bytes.len().min(range.len())]);
}

fn identifier() -> Vec<u8> {
    let mut bytes = b"vhdxfile".to_vec();
    bytes.extend("Tier".encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}

fn header(number: u64, identity: [u8; 16]) -> Vec<u8> {
    let mut header = b"head\0\0\0\0".to_vec();
    header.extend_from_slice(&number.to_le_bytes());
    // Changes of the file, changes of the disk: any number other than none. The log's is none: nothing to replay.
    header.extend_from_slice(&identity);
    header.extend_from_slice(&identity);
    header.extend_from_slice(&[0; 16]);
    header.extend_from_slice(&[0, 0, 1, 0]);
    header.extend_from_slice(&(MIB as u32).to_le_bytes());
    header.extend_from_slice(&(LOG as u64).to_le_bytes());
    summed(header, 4096)
}

fn regions() -> Vec<u8> {
    let mut table = b"regi\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    for (kind, at) in [(TABLE_REGION, TABLE), (METADATA_REGION, METADATA)] {
        table.extend_from_slice(&guid(kind));
        table.extend_from_slice(&(at as u64).to_le_bytes());
        table.extend_from_slice(&(MIB as u32).to_le_bytes());
        table.extend_from_slice(&1u32.to_le_bytes());
    }
    summed(table, 64 << 10)
}

/// Fills to the length and puts the checksum where headers and region tables have it.
fn summed(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.resize(length, 0);
    let sum = crc32c::crc32c(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn metadata(bytes: usize, identity: [u8; 16]) -> Vec<u8> {
    /// Where the items begin, behind the table.
    const ITEMS: usize = 64 << 10;
    const REQUIRED: u32 = 4;
    const OF_THE_DISK: u32 = 2;
    let items: [(u128, u32, Vec<u8>); 5] = [
        (FILE_PARAMETERS, REQUIRED, (BLOCK as u64).to_le_bytes().to_vec()),
        (DISK_SIZE, REQUIRED | OF_THE_DISK, (bytes as u64).to_le_bytes().to_vec()),
        (DISK_IDENTITY, REQUIRED | OF_THE_DISK, identity.to_vec()),
        (LOGICAL_SECTOR, REQUIRED | OF_THE_DISK, 512u32.to_le_bytes().to_vec()),
        (PHYSICAL_SECTOR, REQUIRED | OF_THE_DISK, 4096u32.to_le_bytes().to_vec()),
    ];
    let mut table = b"metadata\0\0\x05\0".to_vec();
    table.resize(32, 0);
    let mut values = Vec::new();
    for (kind, flags, value) in items {
        table.extend_from_slice(&guid(kind));
        for number in [(ITEMS + values.len()) as u32, value.len() as u32, flags, 0] {
            table.extend_from_slice(&number.to_le_bytes());
        }
        values.extend(value);
    }
    table.resize(ITEMS, 0);
    table.extend(values);
    table
}

/// An identifier as Microsoft writes it: the first three groups of digits with their bytes reversed.
fn guid(digits: u128) -> [u8; 16] {
    let mut bytes = digits.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use std::process::Command;

    #[test]
    fn qemu_reads_back_the_same_disk() {
        let mut disk = vec![0; 5 * MIB];
        disk[3] = 1;
        disk[4 * MIB + 77] = 2;
        let folder = tempfile::tempdir().unwrap();
        let (raw, written) = (folder.path().join("disk.raw"), folder.path().join("disk.vhdx"));
        std::fs::write(&raw, &disk).unwrap();
        std::fs::write(&written, file(&disk, *b"0123456789abcdef").unwrap()).unwrap();
        process::output(Command::new("qemu-img").args(["check", "-f", "vhdx"]).arg(&written)).unwrap();
        process::output(Command::new("qemu-img").args(["compare", "-F", "vhdx"]).args([&raw, &written])).unwrap();
    }

    #[test]
    fn blocks_of_zeros_take_no_room() {
        assert_eq!(file(&vec![0; 9 * MIB], [1; 16]).unwrap().len(), PAYLOAD);
        assert!(file(&[0; 512], [1; 16]).is_err());
    }
}
