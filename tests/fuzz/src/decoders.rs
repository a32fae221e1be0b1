//! What must hold for the decoders, whatever the bytes say.

use serde_json::to_string;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;
use tierlift::block::ddrescue;
use tierlift::ext4::{Inodes, lost_names, survey};
use tierlift::harvest;
use tierlift::inventory::{Extents, Inventory, PvPlace};
use tierlift::volume::choice::pick;
use tierlift::volume::generation::{Finding, FoundText, Origin, default_of, generations};
use tierlift::volume::{find_group, read_group, stretches_on_disks};
use tierlift_ondisk::lvm_area::{AreaHeader, next_offset, ring_stretches};
use tierlift_ondisk::lvm_history::{Extent, texts_in_area};
use tierlift_ondisk::lvm_label::Label;
use tierlift_ondisk::thin::ring::decode_slot;
use tierlift_ondisk::thin::{
    Bitmap, BlockKind, BlockSize, DetailsSize, DeviceDetails, Family, IndexBlock, IndexEntry, MappingValue, Node,
    SpaceMapRoot, Superblock, TierValue, encode_node, own_number, seal,
};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::{drbd, field, gpt, lvm_text, mbr, md, md_log};
use tierlift_pool::pack::{self, PackError, unpack as unpack_file};
use tierlift_pool::{Pool, SalvageOptions, looks_like};
use tierlift_protocol::frame::{Decoder, Frame, MAX_PAYLOAD};
use tierlift_protocol::link::Link;
use tierlift_protocol::message::Message;
use tierlift_protocol::server::Server;

/// The first byte of an input, which chooses, and the rest.
fn choice(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

/// A block of thin metadata: every decoder takes it or refuses it, and what is taken is written back as it was. The same
/// bytes are then a whole device.
pub fn thin(input: &[u8]) {
    let (choice, bytes) = choice(input);
    let size = if choice & 8 == 0 { BlockSize::K4 } else { BlockSize::K8 };
    let mut block = bytes.to_vec();
    if choice & 4 != 0 {
        block.resize(size.bytes(), 0);
        let kinds = [BlockKind::Superblock, BlockKind::Node, BlockKind::Bitmap, BlockKind::Index];
        seal(kinds[usize::from(choice & 3)], &mut block);
    }
    decode_blocks(&block, size);
    decode_values(&block);
    let text = looks_like(&block);
    assert!(text.is_none_or(|text| text.len() < 1000));
    let device = Arc::new(block);
    if let Ok(pool) = Pool::open(device.clone()) {
        to_string(&pool.stat()).expect("a state can be told");
    }
    let _ = tierlift_pool::salvage(device, &SalvageOptions::default(), &mut |_| {});
}

fn decode_blocks(block: &[u8], size: BlockSize) {
    if let Ok(superblock) = Superblock::decode(block) {
        assert_eq!(Superblock::decode(&superblock.encode(size)).ok(), Some(superblock));
    }
    if let Some(number) = own_number(block) {
        let _ = decode_slot(block, number);
    }
    if let Ok(index) = IndexBlock::decode(block) {
        if block.len() == size.bytes() {
            assert_eq!(IndexBlock::decode(&index.encode(size)).ok(), Some(index));
        }
    }
    if let Ok(bitmap) = Bitmap::decode(block) {
        let counts: Vec<_> = (0..).map_while(|index| bitmap.count(index)).collect();
        for (index, sixteen) in counts.chunks_exact(16).enumerate() {
            let expected = sixteen.iter().rev().fold(0, |sum, count| sum << 4 | u64::from(*count));
            assert_eq!(bitmap.sixteen(index), Some(expected));
        }
        let again = Bitmap::encode(size, bitmap.number(), &counts);
        if block.len() == size.bytes() {
            assert_eq!(again.get(16..), block.get(16..));
        }
    }
    if let Ok(node) = Node::decode(block) {
        round_trip_node(&node, size);
    }
}

fn round_trip_node(node: &Node<'_>, size: BlockSize) {
    let entries: Vec<_> = node.entries().collect();
    assert_eq!(entries.len(), node.len());
    if entries.len() > tierlift_ondisk::thin::max_entries(size, node.value_size()) {
        return;
    }
    let again = encode_node(size, node.number(), node.kind(), node.value_size(), &entries);
    let again = Node::decode(&again).expect("what was encoded can be decoded");
    assert!(again.entries().eq(entries) && again.kind() == node.kind());
}

fn decode_values(bytes: &[u8]) {
    for size in [DetailsSize::Mainline, DetailsSize::Qnap, DetailsSize::QnapClone] {
        if let Ok(details) = DeviceDetails::decode(bytes, size) {
            assert_eq!(details.encode(), bytes[..size.bytes()]);
            let _ = details.snapshot_of();
        }
    }
    if let Ok(root) = SpaceMapRoot::decode(bytes) {
        assert_eq!(root.encode(), bytes[..SpaceMapRoot::BYTES]);
    }
    if let Ok(entry) = IndexEntry::decode(bytes) {
        assert_eq!(entry.encode(), bytes[..16]);
    }
    let Some(number) = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return };
    for family in [Family::Qnap, Family::Mainline] {
        let value = MappingValue::decode(number, family);
        assert_eq!(MappingValue::decode(value.encode(family), family), value);
    }
    assert_eq!(TierValue::decode(TierValue::decode(number).encode()), TierValue::decode(number));
}

/// LVM: label, area header, and text with the volumes it makes.
pub fn lvm(input: &[u8]) {
    let (choice, bytes) = choice(input);
    match choice % 5 {
        0 => drop(Label::decode(bytes)),
        1 => area(bytes),
        2 => text(bytes),
        3 => ring(bytes),
        _ => system_partition(bytes),
    }
}

fn area(bytes: &[u8]) {
    let Ok(header) = AreaHeader::decode(bytes) else { return };
    for place in [header.committed, header.precommitted].into_iter().flatten() {
        if let Some(stretches) = ring_stretches(header.size, place.offset, place.size) {
            assert!(stretches.iter().all(|(offset, length)| offset.0 + length.0 <= header.size.0));
            assert_eq!(stretches.iter().map(|(_, length)| length.0).sum::<u64>(), place.size.0);
        }
        let _ = next_offset(header.size, place.offset, place.size);
    }
}

/// A ring: every text in it, the whole ones as generations, which can be chosen and written out.
fn ring(bytes: &[u8]) {
    let texts = texts_in_area(bytes);
    assert!(texts.iter().all(|text| text.bytes.len() < bytes.len() && text.offset.0 < bytes.len() as u64));
    let found = texts.into_iter().map(|text| FoundText {
        finding: Finding { origin: Origin::Ring, place: text.offset.to_string(), checksum_ok: None },
        whole: text.extent == Extent::Whole,
        bytes: text.bytes,
    });
    let all = generations(found.collect());
    for generation in &all {
        assert_eq!(pick(&all, &generation.name).expect("a name means one").name, generation.name);
        assert!(!generation.is_usable() || generation.parse().is_some());
    }
    let _ = default_of(&all.iter().collect::<Vec<_>>());
    to_string(&all).expect("generations can be told");
}

/// The first bytes of a system partition.
fn system_partition(bytes: &[u8]) {
    let mut left = harvest::BUDGET;
    let told = harvest::look(Arc::new(bytes.to_vec()), "md9", &mut left);
    assert!(left <= harvest::BUDGET && told.is_none_or(|told| told.texts.len() <= 512));
    // The same bytes as a volume with files.
    let found = survey(&bytes.to_vec(), &[0..1, 9000..70_000]);
    assert!(found.is_none_or(|found| found.damaged_files <= found.files));
    assert!(lost_names(&bytes.to_vec(), &(0..100).collect()).len() <= 100);
    inodes(bytes);
}

/// What paths do not tell: numbers of names, and extended attributes, which are never longer than what they are read from.
fn inodes(volume: &[u8]) {
    let Some(inodes) = Inodes::open(&volume) else { return };
    for number in 0..100 {
        assert!(inodes.numbers(number).values().all(|number| *number > 0));
        let Some(found) = inodes.find(number) else { continue };
        let values = inodes.attributes(&found).values;
        // Access control lists grow to twice their length.
        assert!(values.values().map(Vec::len).sum::<usize>() <= 4 * volume.len());
    }
}

fn text(bytes: &[u8]) {
    let Ok(parsed) = lvm_text::parse(bytes) else { return };
    let Some((name, section)) = find_group(&parsed) else { return };
    let place = Extents { disk: 0, start: Sectors(2048), length: Sectors(1 << 20) };
    let group = read_group(name, section, |id| (id.len() % 2 == 0).then_some(PvPlace::Direct(place.clone())));
    let names: Vec<_> = group.logical_volumes.iter().map(|volume| volume.name.clone()).collect();
    let inventory = Inventory { volume_groups: vec![group], ..Inventory::default() };
    to_string(&inventory).expect("an inventory can be told");
    for name in names {
        let _ = stretches_on_disks(&inventory, 0, &name);
    }
}

/// What lies below LVM: partition tables, md superblocks, DRBD's tail. Checksums that would refuse the input are repaired.
pub fn layers(input: &[u8]) {
    let (choice, bytes) = choice(input);
    match choice % 5 {
        4 => rescue_map(bytes),
        0 => drop(mbr::decode(bytes)),
        1 => table(bytes),
        2 => {
            drop(md::Superblock::decode(bytes));
            drop(md::Legacy::decode(bytes).map(|legacy| legacy.to_superblock(Sectors(bytes.len() as u64))));
            drop(md_log::bad_blocks(bytes, choice));
            drop(md_log::BitmapHeader::decode(bytes));
        }
        _ => drop(drbd::Tail::decode(bytes)),
    }
    let size = Sectors(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    let _ = (md::place_1_0(size), md::place_0_90(size), drbd::place(size), drbd::tail_size(size));
    let _ = (size.to_bytes(), Bytes(size.0).human());
}

/// A map of ddrescue: what was not read is in order, apart, and within the disk.
fn rescue_map(bytes: &[u8]) {
    let head = if ddrescue::looks_like_map(bytes) { "" } else { "# Mapfile. Created by GNU ddrescue\n0 + 1\n" };
    let Ok(map) = ddrescue::Map::parse(&[head.as_bytes(), bytes].concat()) else { return };
    for size in [0, 1, 4096, map.end().0, u64::MAX] {
        let unread = map.unread(Bytes(size));
        assert!(unread.iter().all(|part| part.start < part.end && part.end <= size));
        assert!(unread.is_sorted_by(|one, next| one.end < next.start));
    }
}

fn table(bytes: &[u8]) {
    let mut sector = bytes.get(..512.min(bytes.len())).unwrap_or_default().to_vec();
    let length = sector.get(12..16).map_or(0, |size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize);
    if (92..=512).contains(&length) && sector.len() >= length {
        field::put(&mut sector, 16, &[0; 4]);
        let sum = gpt::checksum(&sector[..length]);
        field::put(&mut sector, 16, &sum.to_le_bytes());
    }
    let Ok(mut header) = gpt::Header::decode(&sector) else { return };
    let mut array = bytes.get(512..).unwrap_or_default().to_vec();
    // Bounded by what a header may promise.
    array.resize(header.entries_bytes(), 0);
    header.entries_crc = gpt::checksum(&array);
    let entries = header.decode_entries(&array).expect("length and checksum are right");
    assert!(entries.len() <= header.entry_count as usize);
}

/// Frames, the messages in them, and both ends of a session that gets them.
pub fn frames(input: &[u8]) {
    let (choice, bytes) = choice(input);
    let line = if choice & 1 == 0 { bytes.to_vec() } else { framed(bytes) };
    let mut decoder = Decoder::default();
    let (now, mut out, mut used) = (Instant::now(), Vec::new(), 0);
    let mut link = Link::client(1);
    for piece in line.chunks(usize::from(choice >> 1).max(1)) {
        let mut piece = piece;
        while let Some(frame) = decoder.next(&mut piece) {
            used += frame.encode().expect("a frame that came fits a frame").len() as u64;
            message(&frame);
            let _ = link.accept(frame, now, &mut out);
            link.advance(now, &mut out);
        }
    }
    assert!(used + decoder.skipped() <= line.len() as u64 && decoder.sample().len() <= 64);
    let mut server = Server::new(now);
    let requests = server.receive(&line, now);
    assert!(requests.len() <= line.len() && server.line().len() < 1 << 20);
    let _ = (server.tick(now), server.end_session());
}

fn message(frame: &Frame) {
    let Ok(message) = Message::decode(frame.kind, frame.payload.clone()) else { return };
    if let Ok((kind, payload)) = message.encode() {
        assert_eq!(Message::decode(kind, payload).ok(), Some(message));
    }
}

/// Frames with right checksums out of any bytes: kind, sequence and length in three bytes, then the payload.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    while let [kind, sequence, length, rest @ ..] = bytes {
        let (payload, later) = rest.split_at(usize::from(*length).min(rest.len()));
        let frame = Frame { kind: *kind, session: 1, sequence: u32::from(*sequence), payload: payload.to_vec() };
        line.extend(frame.encode().unwrap_or_default());
        bytes = later;
    }
    assert!(u8::MAX as usize <= MAX_PAYLOAD);
    line
}

/// A pack file: as it is, or put together from records that any bytes can be, with right checksums.
pub fn unpack(input: &[u8]) {
    let (choice, bytes) = choice(input);
    let file = if choice & 1 == 0 { bytes.to_vec() } else { packed(bytes) };
    let (mut next, mut total) = (0, 0_u64);
    let outcome = unpack_file(&file[..], |offset, bytes| {
        assert!(offset.0 >= next);
        next = offset.0 + bytes.len() as u64;
        total += bytes.len() as u64;
        Ok(())
    });
    match outcome {
        Ok(summary) => assert!(next <= summary.device.0 && total <= summary.packed.0),
        Err(PackError::Io(error)) => panic!("the file is in memory: {error}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A file with right checksums: the device's length in eight bytes, then records of sixteen.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let (length, records) = bytes.split_at(bytes.len().min(8));
    let mut header = pack::MAGIC.to_vec();
    header.extend([1_u32, 4096].iter().flat_map(|word| word.to_le_bytes()));
    header.extend(length);
    header.resize(28, 0);
    let mut stream = Vec::new();
    for record in records.chunks_exact(16).take(64) {
        // Few units: what is tested are the numbers, not the compression.
        let units = if record[0] == 1 { usize::from(record[4] & 7) } else { 0 };
        let payload = vec![record[5]; units * 4096];
        let mut bytes = record.to_vec();
        bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
        stream.extend(sealed(bytes));
        stream.extend(payload);
    }
    let mut file = sealed(header);
    let mut encoder = zstd::Encoder::new(&mut file, 1).expect("a level that exists");
    encoder.write_all(&stream).and_then(|()| encoder.finish().map(drop)).expect("memory can be written");
    file
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// A block of its own, for seeds: the choice that seals it as this kind, then its bytes.
pub(crate) fn thin_seed(kind: BlockKind, size: BlockSize, block: &[u8]) -> Vec<u8> {
    let kind = match kind {
        BlockKind::Superblock => 0,
        BlockKind::Node => 1,
        BlockKind::Bitmap => 2,
        BlockKind::Index => 3,
    };
    let size = if size == BlockSize::K4 { 0 } else { 8 };
    [&[4 | kind | size], block].concat()
}
