//! Where fuzzing begins: genuine blocks, disks around a genuine pool, and edits of every kind to every base.

use crate::base::{self, Base};
use crate::case::Case;
use crate::decoders::thin_seed;
use crate::edit::{Action, Edit};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use tierlift_forge::{Dice, Fixture, ForgeOptions, forge_disks};
use tierlift_ondisk::thin::identify;
use tierlift_pool::pack::pack;
use tierlift_protocol::message::{Exit, Greeting, Message, Run, Stream};

/// How something on a disk is known: its first bytes, where they are in it, the choice that means its decoder, its length.
type Beginning<'a> = (&'a [u8], usize, u8, usize);

/// For the engine: every base untouched, every action to it, and longer lists.
pub fn engine() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(1);
    let mut seeds = Vec::new();
    for number in 0..base::COUNT as u8 {
        seeds.push(Case::encode(number, &[]));
        for action in Action::ALL {
            seeds.push(Case::encode(number, &[edit(&mut dice, action)]));
        }
        for length in [2, 5, 12] {
            seeds.push(random_case(&mut dice, number, length));
        }
    }
    seeds
}

/// A case of this many edits.
pub fn random_case(dice: &mut Dice, base: u8, edits: usize) -> Vec<u8> {
    // Half of all cases are accidents only: for them most must hold.
    let accident = dice.below(2) == 0;
    let actions: Vec<_> = Action::ALL.into_iter().filter(|action| !accident || action.is_accident()).collect();
    let edits: Vec<_> = (0..edits).map(|_| dice.pick(&actions).copied().unwrap_or(Action::Zero)).collect();
    let edits: Vec<_> = edits.into_iter().map(|action| edit(dice, action)).collect();
    let flags = if accident { dice.below(16) } else { dice.below(256) } as u8;
    let wanted = if accident || dice.below(2) == 0 { 0 } else { dice.below(1 << 14) as u16 };
    Case::encode_with(base, flags, wanted, &edits)
}

fn edit(dice: &mut Dice, action: Action) -> Edit {
    let shift = dice.below(64);
    let value = dice.roll() >> shift;
    let mut spot = || if dice.below(16) == 0 { 0x8000 | dice.below(2048) as u16 } else { dice.below(512) as u16 };
    let (block, other) = (spot(), spot());
    let reach = if dice.below(2) == 0 { 64 } else { 8192 };
    let offset = dice.below(reach) as u16;
    Edit { action, width: dice.below(4) as u8, block, other, offset, value }
}

/// Every kind of block of every base.
pub fn thin() -> Vec<Vec<u8>> {
    let mut seeds = BTreeMap::new();
    for base in (0..base::COUNT).map(|number| Base::pick(number as u8)) {
        let size = base.block_size;
        for spot in &base.spots {
            let block = base.device.bytes(spot.0 * size.bytes() as u64, size.bytes());
            let Some(kind) = identify(&block) else { continue };
            // Blocks that begin alike (kind of node, length of values) are one kind; zeros at the end come by themselves.
            let likeness = (base.name, format!("{kind:?}"), block[4..8].to_vec(), block[20..28].to_vec());
            let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            seeds.entry(likeness).or_insert_with(|| thin_seed(kind, size, &block[..used]));
        }
    }
    seeds.into_values().collect()
}

/// The layers of forged disks around a genuine pool: everything with a known beginning, for the decoder that knows it.
fn disks(beginnings: &[Beginning<'_>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let dir = tempfile::tempdir()?;
    let fixture = Fixture::named("F3-3tiers")?;
    let options = ForgeOptions { drbd: true, compact: true, wrap: true, ..ForgeOptions::default() };
    let mut seeds = Vec::new();
    for path in forge_disks(&fixture, &options, dir.path())?.disks {
        let disk = fs::read(path)?;
        for at in (0..disk.len()).step_by(512) {
            for (magic, offset, choice, length) in beginnings {
                if disk[at..].get(*offset..offset + magic.len()) == Some(*magic) {
                    let end = disk.len().min(at + length);
                    seeds.push([&[*choice], &disk[at..end]].concat());
                }
            }
        }
    }
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}

/// Label, area and text.
pub fn lvm() -> Vec<Vec<u8>> {
    let text = b"vg1 {\n";
    disks(&[
        (b"LABELONE", 0, 0, 512),
        (b" LVM2 x[5A%r0N*>", 4, 1, 512),
        (text, 0, 2, 16 << 10),
        (b" LVM2 x[5A%r0N*>", 4, 3, 16 << 10),
    ])
    .expect("disks can be forged")
}

/// Partition tables, md superblocks and a DRBD tail.
pub fn layers() -> Vec<Vec<u8>> {
    let mut seeds = disks(&[
        (&[0x55, 0xAA], 510, 0, 512),
        (b"EFI PART", 0, 1, 2048),
        (&[0xFC, 0x4E, 0x2B, 0xA9], 0, 2, 512),
        (&[0x83, 0x74, 0x02], 60, 3, 4096),
    ])
    .expect("disks can be forged");
    seeds.push(b"\x04# Mapfile. Created by GNU ddrescue version 1.27\n0x10 + 1\n0 0x1000 +\n0x1000 512 -\n".to_vec());
    seeds
}

/// One frame of each kind.
pub fn frames() -> Vec<Vec<u8>> {
    let greeting = Greeting { protocol: 1, agent: "0.1.0".into() };
    let messages = [
        Message::Hello(greeting.clone()),
        Message::Run(Run { argv: vec!["scan".into(), "--json".into()], ..Run::default() }),
        Message::Cancel,
        Message::Ping,
        Message::Welcome(greeting),
        Message::Output(Stream::Stdout, b"text\n".to_vec()),
        Message::Exited(Exit::Code(4)),
    ];
    let mut session = vec![1];
    for (sequence, message) in (0..).zip(&messages) {
        let (kind, payload) = message.encode().expect("short messages");
        session.extend([kind, sequence, payload.len() as u8]);
        session.extend(payload);
    }
    vec![session.clone(), [&[0], &session[1..]].concat(), vec![0xFF]]
}

/// Genuine pools, packed; and records.
pub fn unpack() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for base in [0, 4].map(Base::pick) {
        let mut file = vec![0];
        let device = Arc::new(base.device.clone());
        pack(&*device, &mut file).expect("a genuine pool can be packed");
        seeds.push(file);
    }
    let mut records = vec![1];
    records.extend((1_u64 << 20).to_le_bytes());
    for (kind, count, first) in [(1_u32, 1_u32, 0_u64), (2, 3, 4), (1, 2, 9), (3, 0, 3)] {
        records.extend([kind.to_le_bytes(), count.to_le_bytes()].concat());
        records.extend(first.to_le_bytes());
    }
    seeds.push(records);
    seeds
}
