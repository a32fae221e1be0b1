//! How md spreads an array over its members: striping and parity, in the forge's own words. No reader shares this code, so
//! that each checks the other; the kernel's md checks both.

use anyhow::ensure;
use std::fs::File;
use std::os::unix::fs::FileExt;

const SECTOR: u64 = 512;
/// The field of RAID 6: x^8 + x^4 + x^3 + x^2 + 1.
const POLYNOMIAL: u16 = 0x11d;

/// Level and shape of the data arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raid {
    /// -1 linear, 0, 1, 4, 5, 6, 10 (near copies).
    pub level: i32,
    /// Members.
    pub disks: usize,
    /// Chunk size in sectors.
    pub chunk: u64,
    /// md's number: for 5 and 6 0 to 3 (2 is left-symmetric, QNAP's), for 10 0x102 (two near copies).
    pub layout: u32,
}

impl Raid {
    /// As QNAP's firmware makes it: 512 KiB chunks, left-symmetric or two near copies.
    pub fn new(level: i32, disks: usize) -> Self {
        let layout = match level {
            5 | 6 => 2,
            10 => 0x102,
            _ => 0,
        };
        let chunk = if matches!(level, -1 | 1) { 0 } else { 1024 };
        Self { level, disks, chunk, layout }
    }

    /// Members' worth of data in the whole array, times the copies of each.
    fn data_disks(&self) -> u64 {
        match self.level {
            1 => 1,
            4 | 5 => self.disks as u64 - 1,
            6 => self.disks as u64 - 2,
            _ => self.disks as u64,
        }
    }

    fn copies(&self) -> u64 {
        if self.level == 10 { u64::from(self.layout & 0xff) } else { 1 }
    }

    /// Sectors of data on each member of an array of at least `sectors`.
    pub(crate) fn component(&self, sectors: u64) -> u64 {
        let each = (sectors * self.copies()).div_ceil(self.data_disks());
        each.next_multiple_of(self.chunk.max(8))
    }

    /// Sectors of the array for that many on each member.
    pub(crate) fn sectors(&self, component: u64) -> u64 {
        let all = component * self.data_disks() / self.copies();
        all.checked_div(self.chunk).map_or(all, |chunks| chunks * self.chunk)
    }

    /// Writes what the member in `role` holds of the array `image` to `disk`, from sector `start` on.
    pub(crate) fn write_member(
        &self,
        image: &File,
        component: u64,
        role: usize,
        disk: &File,
        start: u64,
    ) -> anyhow::Result<()> {
        ensure!(role < self.disks, "there is no role {role}");
        let unit = if self.chunk > 0 { self.chunk } else { 2048 };
        let mut at = 0;
        while at < component {
            let length = unit.min(component - at);
            let bytes = self.piece(image, component, role, at, length)?;
            if bytes.iter().any(|byte| *byte != 0) {
                disk.write_all_at(&bytes, (start + at) * SECTOR)?;
            }
            at += length;
        }
        Ok(())
    }

    /// `length` sectors of a member from sector `at` on: within one chunk.
    fn piece(&self, image: &File, component: u64, role: usize, at: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let read = |sector: u64| read(image, sector, length);
        let n = self.disks as u64;
        Ok(match self.level {
            1 => read(at)?,
            -1 => read(role as u64 * component + at)?,
            0 => read((at / self.chunk * n + role as u64) * self.chunk)?,
            10 => {
                let position = at / self.chunk * n + role as u64;
                // An odd number of members may leave places at the end that no chunk fills.
                let chunk = position / self.copies();
                if (chunk + 1) * self.chunk > self.sectors(component) {
                    vec![0; (length * SECTOR) as usize]
                } else {
                    read(chunk * self.chunk)?
                }
            }
            _ => {
                let row = at / self.chunk;
                let data = |index: u64| read((row * self.data_disks() + index) * self.chunk);
                match self
                    .place(row)
                    .iter()
                    .position(|place| place.role == role as u64)
                    .map(|i| self.place(row)[i].holds)
                {
                    Some(Holds::Data(index)) => data(index)?,
                    Some(Holds::Parity) => xor((0..self.data_disks()).map(data))?,
                    Some(Holds::Syndrome) => {
                        let mut order: Vec<(u64, u64)> = Vec::new();
                        for place in self.place(row) {
                            if let Holds::Data(index) = place.holds {
                                order.push((place.after_syndrome, index));
                            }
                        }
                        order.sort_unstable();
                        syndrome(order.into_iter().map(|(_, index)| data(index)))?
                    }
                    None => anyhow::bail!("role {role} has no place in row {row}"),
                }
            }
        })
    }

    /// What each member holds in a row of chunks, for levels with parity.
    fn place(&self, row: u64) -> Vec<Place> {
        let n = self.disks as u64;
        let parities = if self.level == 6 { 2 } else { 1 };
        let parity = match (self.level, self.layout) {
            (4, _) => n - 1,
            (_, 0 | 2) => n - 1 - row % n,
            _ => row % n,
        };
        let syndrome = (parity + 1) % n;
        let is_parity = |role: u64| role == parity || parities == 2 && role == syndrome;
        let symmetric = self.level != 4 && self.layout >= 2;
        let mut places = Vec::new();
        let mut index = 0;
        for step in 0..n {
            // Symmetric layouts begin behind the parity, the others with the first member.
            let role = if symmetric { (parity + parities + step) % n } else { step };
            if !is_parity(role) {
                places.push(Place {
                    role,
                    holds: Holds::Data(index),
                    after_syndrome: (role + 2 * n - syndrome - 1) % n,
                });
                index += 1;
            }
        }
        places.push(Place { role: parity, holds: Holds::Parity, after_syndrome: 0 });
        if parities == 2 {
            places.push(Place { role: syndrome, holds: Holds::Syndrome, after_syndrome: 0 });
        }
        places
    }
}

#[derive(Clone, Copy)]
enum Holds {
    Data(u64),
    Parity,
    Syndrome,
}

#[derive(Clone, Copy)]
struct Place {
    role: u64,
    holds: Holds,
    /// Members counted from the one behind the syndrome: the power its data are weighed with.
    after_syndrome: u64,
}

/// What lies beyond the end of the image is zeros.
fn read(image: &File, sector: u64, length: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; (length * SECTOR) as usize];
    let mut done = 0;
    while done < bytes.len() {
        match image.read_at(&mut bytes[done..], sector * SECTOR + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(bytes)
}

fn xor(parts: impl Iterator<Item = anyhow::Result<Vec<u8>>>) -> anyhow::Result<Vec<u8>> {
    let mut sum = Vec::new();
    for part in parts {
        let part = part?;
        sum.resize(part.len(), 0);
        sum.iter_mut().zip(part).for_each(|(to, from)| *to ^= from);
    }
    Ok(sum)
}

/// The sum of all parts, the first as it is, each further one multiplied by one more power of 2 in the field.
fn syndrome(parts: impl Iterator<Item = anyhow::Result<Vec<u8>>>) -> anyhow::Result<Vec<u8>> {
    let (mut sum, mut weight) = (Vec::new(), 1u8);
    for part in parts {
        let part = part?;
        let table: Vec<u8> = (0..=255).map(|value| multiply(value, weight)).collect();
        sum.resize(part.len(), 0);
        sum.iter_mut().zip(part).for_each(|(to, from): (&mut u8, u8)| *to ^= table[usize::from(from)]);
        weight = multiply(weight, 2);
    }
    Ok(sum)
}

fn multiply(left: u8, right: u8) -> u8 {
    let mut product = 0u16;
    for bit in 0..8 {
        if right >> bit & 1 == 1 {
            product ^= u16::from(left) << bit;
        }
    }
    for bit in (8..16).rev() {
        if product >> bit & 1 == 1 {
            product ^= POLYNOMIAL << (bit - 8);
        }
    }
    product as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn left_symmetric_rows_are_those_of_the_specification() {
        // First data chunk on role 0 (RAID 5) or 1 (RAID 6), parity on the last role.
        let five = Raid::new(5, 4).place(0);
        assert!(five.iter().any(|place| place.role == 0 && matches!(place.holds, Holds::Data(0))));
        assert!(five.iter().any(|place| place.role == 3 && matches!(place.holds, Holds::Parity)));
        let six = Raid::new(6, 5).place(0);
        assert!(six.iter().any(|place| place.role == 1 && matches!(place.holds, Holds::Data(0))));
        assert!(six.iter().any(|place| place.role == 0 && matches!(place.holds, Holds::Syndrome)));
        assert!(six.iter().any(|place| place.role == 4 && matches!(place.holds, Holds::Parity)));
    }

    #[test]
    fn every_member_has_one_place_in_every_row() {
        for (level, layout) in [(4, 0), (5, 0), (5, 1), (5, 2), (5, 3), (6, 0), (6, 1), (6, 2), (6, 3)] {
            let raid = Raid { layout, ..Raid::new(level, 5) };
            for row in 0..10 {
                let mut roles: Vec<u64> = raid.place(row).iter().map(|place| place.role).collect();
                roles.sort_unstable();
                assert_eq!(roles, [0, 1, 2, 3, 4], "level {level} layout {layout} row {row}");
            }
        }
    }

    #[test]
    fn the_field_is_that_of_raid_6() {
        assert_eq!((multiply(0x80, 2), multiply(3, 7), multiply(255, 1)), (0x1d, 9, 255));
    }
}
