//! A GUID partition table with two partitions at fixed places and fixed identifiers.

use tierlift_ondisk::gpt::{APPLIANCE_DISK, ENTRY_BYTES, ENTRY_COUNT, Entry, Header, checksum, encode_entries};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// First sector and count of sectors of the partition GRUB's core lies in.
pub const CORE: (u64, u64) = (2048, 2048);
/// First sector of the file system.
pub const FILES: u64 = 4096;

/// The name by which the appliance's welcome knows its boot disk.
const PARTITION: &str = "Tierlift boot";

/// Sectors of the array of entries.
const ARRAY: u64 = (ENTRY_COUNT * ENTRY_BYTES / SECTOR) as u64;
/// Sectors behind the file system: the backup, in a whole MiB.
const TAIL: u64 = 2048;

/// Type of a partition for GRUB's core: 21686148-6449-6E6F-744E-656564454649, which reads as below.
const BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";
/// Type of a partition that firmware reads: C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
const EFI_SYSTEM: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// Lays a disk out around its file system. `boot` is GRUB's first sector, `core` the rest of it.
pub fn disk(boot: &[u8], core: &[u8], files: &[u8]) -> Vec<u8> {
    let file_sectors = (files.len() / SECTOR) as u64;
    let sectors = FILES + file_sectors + TAIL;
    let mut disk = vec![0; sectors as usize * SECTOR];
    put(&mut disk, 0, &first_sector(boot, sectors));
    put(&mut disk, CORE.0, core);
    put(&mut disk, FILES, files);
    let array = encode_entries(&[
        entry(1, BIOS_BOOT, *b"Tierlift core 01", CORE, "BIOS boot"),
        entry(2, EFI_SYSTEM, *b"Tierlift boot 02", (FILES, file_sectors), PARTITION),
    ]);
    for (own, other, entries) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - ARRAY)] {
        put(&mut disk, entries, &array);
        put(&mut disk, own, &header(own, other, entries, sectors, &array).encode());
    }
    disk
}

fn put(disk: &mut [u8], sector: u64, bytes: &[u8]) {
    let start = sector as usize * SECTOR;
    disk[start..start + bytes.len()].copy_from_slice(bytes);
}

/// GRUB's code, and one old-style partition over all that keeps old tools away.
fn first_sector(boot: &[u8], sectors: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let code = boot.len().min(440);
    sector[..code].copy_from_slice(&boot[..code]);
    sector[446..458].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    sector[458..462].copy_from_slice(&length.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn entry(number: u32, type_guid: [u8; 16], guid: [u8; 16], (first, count): (u64, u64), name: &str) -> Entry {
    Entry { number, type_guid, guid, first, last: first + count - 1, name: name.to_owned() }
}

fn header(own_lba: u64, other_lba: u64, entries_lba: u64, sectors: u64, array: &[u8]) -> Header {
    Header {
        own_lba,
        other_lba,
        first_usable: 2 + ARRAY,
        last_usable: sectors - 2 - ARRAY,
        disk_guid: APPLIANCE_DISK,
        entries_lba,
        entry_count: ENTRY_COUNT as u32,
        entry_bytes: ENTRY_BYTES as u32,
        entries_crc: checksum(array),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_read_back() {
        let disk = disk(&[0x90; SECTOR], &[1; SECTOR], &[2; 8 * SECTOR]);
        for at in [SECTOR, disk.len() - SECTOR] {
            let header = Header::decode(&disk[at..at + SECTOR]).unwrap();
            let array = header.entries_lba as usize * SECTOR;
            let entries = header.decode_entries(&disk[array..array + ENTRY_COUNT * ENTRY_BYTES]).unwrap();
            assert_eq!((entries.len(), entries[1].first, header.disk_guid), (2, FILES, APPLIANCE_DISK));
        }
        assert_eq!(disk[FILES as usize * SECTOR], 2);
        assert_eq!((disk[450], disk[511]), (0xee, 0xaa));
    }
}
