//! The device-mapper table by which QNAP's kernel opened a pool.

use anyhow::Context;

/// What a pool's table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTable {
    /// Length of the pool in sectors.
    pub sectors: u64,
    /// Chunk size in sectors.
    pub chunk_size: u64,
    /// Number of tiers; 0 for a pool of the older layout without the word `TIER`.
    pub tiers: usize,
    /// Tiers in use, bit i for tier i.
    pub enable_map: u8,
    /// The tier map is in use.
    pub bypass_off: bool,
    /// New blocks are not zeroed.
    pub skip_block_zeroing: bool,
}

impl PoolTable {
    /// Reads `tp 0 LENGTH thin-pool META DATA CHUNK LOW #ARGS ARGS…`.
    ///
    /// # Errors
    /// When the line is no such table.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "thin-pool").context("no pool table")?;
        let number = |index: usize| words.get(index).and_then(|word| word.parse().ok());
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.parse::<u8>().ok());
        let tiers = value("TIER:").unwrap_or(0);
        Ok(Self {
            sectors: number(at - 1).context("no length")?,
            chunk_size: number(at + 3).context("no chunk size")?,
            tiers: usize::from(tiers),
            enable_map: value("enable_map:").unwrap_or(if tiers == 0 { 1 } else { 7 }),
            bypass_off: words.contains(&"bypass_off"),
            skip_block_zeroing: words.contains(&"skip_block_zeroing"),
        })
    }

    /// Whether tier `number` is in use.
    pub fn enabled(&self, number: usize) -> bool {
        self.enable_map >> number & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read() {
        let line = "tp 0 491520 thin-pool /dev/vda /dev/vdd 1024 0 6 TIER:3 /dev/vdb /dev/vdc /dev/vdd enable_map:7 bypass_off";
        let table = PoolTable::parse(line).unwrap();
        assert_eq!((table.sectors, table.chunk_size, table.tiers), (491_520, 1024, 3));
        assert_eq!((table.enable_map, table.bypass_off), (7, true));
        let plain = PoolTable::parse("tp 0 262144 thin-pool /dev/vda /dev/vdb 128 0 0 ").unwrap();
        assert_eq!((plain.chunk_size, plain.tiers, plain.enable_map, plain.bypass_off), (128, 0, 1, false));
        assert!(PoolTable::parse("tp 0 1 linear /dev/vda 0").is_err());
    }
}
