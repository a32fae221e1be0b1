//! Device-mapper's messages as bytes: `struct dm_ioctl` and the lists behind it (include/uapi/linux/dm-ioctl.h, interface
//! version 4). Pure encoding and decoding; the kernel's answers are bounds-checked like anything read from a disk.

use super::ioctl::DM_HEAD;

/// Longest device name or unique id the kernel takes, without the terminating zero.
pub const MAX_NAME: usize = 127;

/// The device (or the table loaded into it) is read-only.
pub const READ_ONLY: u32 = 1 << 0;
/// Ask for table lines instead of status lines.
pub const STATUS_TABLE: u32 = 1 << 4;
/// The answer did not fit.
pub const BUFFER_FULL: u32 = 1 << 8;
/// Do not flush the device for this (status of a damaged pool must not wait or write).
pub const NO_FLUSH: u32 = 1 << 11;

const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const OPEN_COUNT: usize = 24;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;
const UUID: usize = 176;
const UUID_END: usize = 305;
/// `struct dm_target_spec`: start, length, status, offset of the next, type.
const SPEC: usize = 40;
const SPEC_TYPE: usize = 24;

/// One line of a table or of its status.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TargetLine {
    /// First sector of the device this line answers for.
    pub start: u64,
    /// Sectors it answers for.
    pub length: u64,
    /// Name of the target: "linear", "thin-pool".
    pub target: String,
    /// Its arguments (in a table) or its report (in a status).
    pub arguments: String,
}

impl std::fmt::Display for TargetLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = format!("{} {} {} {}", self.start, self.length, self.target, self.arguments);
        f.write_str(line.trim_end())
    }
}

/// A message to or an answer from the kernel.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// An otherwise empty message with room for `room` bytes of answer behind the head.
    pub fn new(name: &str, uuid: &str, flags: u32, room: usize) -> Self {
        let mut message = Self { bytes: vec![0; DM_HEAD.saturating_add(room)] };
        // Interface version 4.0.0: the oldest of the family, so that any kernel since 2.6 answers.
        message.put(0, &4_u32.to_ne_bytes());
        let size = u32::try_from(message.bytes.len()).unwrap_or(u32::MAX);
        message.put(DATA_SIZE, &size.to_ne_bytes());
        message.put(DATA_START, &u32::try_from(DM_HEAD).unwrap_or(u32::MAX).to_ne_bytes());
        message.put(FLAGS, &flags.to_ne_bytes());
        message.put(NAME, name.as_bytes().get(..name.len().min(MAX_NAME)).unwrap_or_default());
        message.put(UUID, uuid.as_bytes().get(..uuid.len().min(MAX_NAME)).unwrap_or_default());
        message
    }

    /// A message that carries a table.
    pub fn with_table(name: &str, flags: u32, lines: &[TargetLine]) -> Self {
        let table: Vec<u8> = lines.iter().flat_map(encode_line).collect();
        let mut message = Self::new(name, "", flags, table.len());
        message.put(TARGET_COUNT, &u32::try_from(lines.len()).unwrap_or(u32::MAX).to_ne_bytes());
        message.put(DM_HEAD, &table);
        message
    }

    /// The bytes for the kernel to read and overwrite.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Flags of the answer.
    pub fn flags(&self) -> u32 {
        self.u32_at(FLAGS)
    }

    /// How often the device is open.
    pub fn open_count(&self) -> u32 {
        self.u32_at(OPEN_COUNT)
    }

    /// Minor number of the device, which is the N of `/dev/dm-N`.
    pub fn minor(&self) -> u64 {
        let device = self.u64_at(DEVICE);
        (device & 0xff) | ((device >> 12) & 0xf_ff00)
    }

    /// Unique id of the device.
    pub fn uuid(&self) -> String {
        text(self.bytes.get(UUID..UUID_END).unwrap_or_default())
    }

    /// Status or table lines of the answer. A list that leads outside the buffer ends there.
    pub fn lines(&self) -> Vec<TargetLine> {
        let data = self.data();
        let mut lines = Vec::new();
        let mut at = 0_usize;
        for _ in 0..self.u32_at(TARGET_COUNT) {
            let Some(line) = decode_line(data, at) else { break };
            let next = u32_in(data, at.saturating_add(20)) as usize;
            lines.push(line);
            // Offsets count from the start of the data, and only forward: a list can not go round.
            if next <= at {
                break;
            }
            at = next;
        }
        lines
    }

    /// Names in the answer to a list command.
    pub fn names(&self) -> Vec<String> {
        let data = self.data();
        let mut names = Vec::new();
        let mut at = 0_usize;
        while let Some(name) = data.get(at.saturating_add(12)..) {
            if u64_in(data, at) == 0 {
                break;
            }
            names.push(text(name));
            // Each entry tells the distance to the next; the last one tells 0.
            match u32_in(data, at.saturating_add(8)) {
                0 => break,
                next => at = at.saturating_add(next as usize),
            }
        }
        names
    }

    fn data(&self) -> &[u8] {
        self.bytes.get(self.u32_at(DATA_START) as usize..).unwrap_or_default()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let place = self.bytes.get_mut(at..at.saturating_add(bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32_in(&self.bytes, at)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64_in(&self.bytes, at)
    }
}

/// A target spec and its arguments, padded to 8 bytes as the kernel wants the next one aligned.
fn encode_line(line: &TargetLine) -> Vec<u8> {
    let length = SPEC.saturating_add(line.arguments.len()).saturating_add(1).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&line.start.to_ne_bytes());
    bytes.extend_from_slice(&line.length.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(line.target.bytes().take(15));
    bytes.resize(SPEC, 0);
    bytes.extend_from_slice(line.arguments.as_bytes());
    bytes.resize(length, 0);
    bytes
}

fn decode_line(data: &[u8], at: usize) -> Option<TargetLine> {
    let spec = data.get(at..at.checked_add(SPEC)?)?;
    let arguments = data.get(at.checked_add(SPEC)?..)?;
    Some(TargetLine {
        start: u64_in(spec, 0),
        length: u64_in(spec, 8),
        target: text(spec.get(SPEC_TYPE..)?),
        arguments: text(arguments),
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn u32_in(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at.saturating_add(4)).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_ne_bytes)
}

fn u64_in(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at.saturating_add(8)).and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(start: u64, length: u64, target: &str, arguments: &str) -> TargetLine {
        TargetLine { start, length, target: target.into(), arguments: arguments.into() }
    }

    /// What the kernel answers to a table status: the same list, but with offsets from the start of the data.
    fn as_answer(lines: &[TargetLine]) -> Message {
        let mut message = Message::with_table("x", 0, lines);
        let mut at = 0;
        for line in lines {
            let next = at + encode_line(line).len();
            let field = DM_HEAD + at + 20;
            message.bytes[field..field + 4].copy_from_slice(&u32::try_from(next).unwrap().to_ne_bytes());
            at = next;
        }
        message
    }

    #[test]
    fn a_table_survives_the_way_to_the_kernel_and_back() {
        let lines = [line(0, 8, "linear", "/dev/vda 2048"), line(8, 1024, "error", ""), line(1032, 1, "zero", "")];
        assert_eq!(as_answer(&lines).lines(), lines);
        assert_eq!(lines[1].to_string(), "8 1024 error");
    }

    #[test]
    fn head_fields_lie_where_the_kernel_looks() {
        let message = Message::new("vg1-lv1", "TIERLIFT-1", READ_ONLY, 100);
        assert_eq!(&message.bytes[..12], &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(message.bytes.len(), 412);
        assert_eq!(&message.bytes[12..20], &[156, 1, 0, 0, 56, 1, 0, 0]);
        assert_eq!(&message.bytes[28..32], &[1, 0, 0, 0]);
        assert_eq!(&message.bytes[48..56], b"vg1-lv1\0");
        assert_eq!(message.uuid(), "TIERLIFT-1");
    }

    #[test]
    fn names_are_read_from_a_list() {
        let mut message = Message::new("", "", 0, 64);
        let mut list = vec![0_u8; 64];
        list[0] = 1;
        list[8..12].copy_from_slice(&24_u32.to_ne_bytes());
        list[12..15].copy_from_slice(b"one");
        list[24] = 2;
        list[36..39].copy_from_slice(b"two");
        message.put(DM_HEAD, &list);
        assert_eq!(message.names(), ["one", "two"]);
        assert!(Message::new("", "", 0, 64).names().is_empty(), "no device: the kernel leaves one empty entry");
    }

    #[test]
    fn a_large_minor_number_is_put_together() {
        let mut message = Message::new("", "", 0, 0);
        // Major 254, minor 258: the kernel puts the minor's upper bits above the major.
        message.put(DEVICE, &0x10_fe02_u64.to_ne_bytes());
        assert_eq!(message.minor(), 258);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic_or_endless_list(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let message = Message { bytes };
            let _ = (message.lines(), message.names(), message.uuid(), message.minor(), message.open_count());
        }
    }
}
