//! One frame, and the decoder that finds frames in whatever a serial line delivers.
//!
//! All numbers are little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0-3 | magic `A5 54 4C 5A` |
//! | 4 | frame version, 1 |
//! | 5 | type; bit 7 is set on frames from the server |
//! | 6-9 | session |
//! | 10-13 | sequence number |
//! | 14-15 | payload length, at most 4096 |
//! | 16-19 | crc32c of bytes 0-15 |
//! | 20… | payload |
//! | then 4 | crc32c of everything before it |
//!
//! The header has a checksum of its own so that a damaged length is noticed at once: without it the decoder would wait for
//! up to 4096 bytes that nobody is going to send.

use byteorder::{LittleEndian, ReadBytesExt};

/// First bytes of every frame. The first byte does not occur again, so two candidates never overlap in the magic.
pub const MAGIC: [u8; 4] = [0xA5, b'T', b'L', 0x5A];
/// Version of the frame layout.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER: usize = 20;
/// Bytes the header's own checksum covers.
const HEADER_CHECKED: usize = 16;
/// Bytes after the payload.
pub const TRAILER: usize = 4;
/// Longest payload. Small enough for lines without back-pressure, such as a named pipe of Hyper-V.
pub const MAX_PAYLOAD: usize = 4096;
/// How many skipped bytes are kept to show people what the line said instead.
const SAMPLE: usize = 64;

/// One frame, whole and undamaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is; see [`crate::message`] and [`crate::link`].
    pub kind: u8,
    /// Session the frame belongs to, chosen by the client.
    pub session: u32,
    /// Number of the message in its session and direction, from 0.
    pub sequence: u32,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

/// The payload does not fit into one frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes does not fit into a frame of at most {MAX_PAYLOAD}")]
pub struct TooLong(pub usize);

impl Frame {
    /// The frame as bytes for the line.
    ///
    /// # Errors
    /// The payload is longer than [`MAX_PAYLOAD`].
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let too_long = || TooLong(self.payload.len());
        let length = u16::try_from(self.payload.len()).map_err(|_| too_long())?;
        if self.payload.len() > MAX_PAYLOAD {
            return Err(too_long());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, self.kind]);
        bytes.extend(self.session.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend(&self.payload);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        Ok(bytes)
    }
}

/// Finds frames in a stream of bytes; holds at most one frame's worth of them.
///
/// After garbage, a truncated or a damaged frame it goes on at the next byte that can begin a frame, inside the bytes it
/// already holds: a good frame that follows a bad one is never lost with it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    skipped: u64,
    sample: Vec<u8>,
    other_version: Option<u8>,
}

/// What the bytes held so far are.
enum Look {
    /// The beginning of a frame; so many bytes are missing before more can be said.
    Missing(usize),
    /// So many bytes at the front cannot begin a frame.
    Garbage(usize),
    /// A whole frame of so many bytes.
    Whole(Frame, usize),
}

impl Decoder {
    /// The next frame in `input`, which is moved past the bytes used. `None` when `input` is used up: call again with more.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Frame> {
        loop {
            match self.look() {
                Look::Whole(frame, length) => {
                    self.buffer.drain(..length);
                    return Some(frame);
                }
                Look::Garbage(length) => self.skip(length),
                Look::Missing(_) if input.is_empty() => return None,
                Look::Missing(wanted) => {
                    let (taken, rest) = input.split_at(wanted.min(input.len()));
                    self.buffer.extend(taken);
                    *input = rest;
                }
            }
        }
    }

    /// Bytes seen so far that belonged to no frame.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The first of the skipped bytes.
    #[must_use]
    pub fn sample(&self) -> &[u8] {
        &self.sample
    }

    /// Frame version of a sound header that was skipped because the version is not ours.
    #[must_use]
    pub fn other_version(&self) -> Option<u8> {
        self.other_version
    }

    fn skip(&mut self, length: usize) {
        let room = SAMPLE.saturating_sub(self.sample.len());
        self.sample.extend(self.buffer.iter().take(length.min(room)));
        self.skipped = self.skipped.saturating_add(length as u64);
        self.buffer.drain(..length);
    }

    fn look(&mut self) -> Look {
        if self.buffer.iter().zip(MAGIC).any(|(have, want)| *have != want) {
            return Look::Garbage(self.next_candidate());
        }
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Look::Missing(HEADER.saturating_sub(self.buffer.len()));
        };
        let (checked, _) = header.split_at(HEADER_CHECKED);
        let Some(head) = Head::read(header).filter(|head| head.checksum == crc32c::crc32c(checked)) else {
            return Look::Garbage(self.next_candidate());
        };
        if head.version != VERSION {
            self.other_version = Some(head.version);
            return Look::Garbage(self.next_candidate());
        }
        self.look_at_payload(&head)
    }

    fn look_at_payload(&self, head: &Head) -> Look {
        let end = HEADER.saturating_add(head.length);
        let total = end.saturating_add(TRAILER);
        if head.length > MAX_PAYLOAD {
            return Look::Garbage(self.next_candidate());
        }
        let (Some(body), Some(mut checksum)) = (self.buffer.get(..end), self.buffer.get(end..total)) else {
            return Look::Missing(total.saturating_sub(self.buffer.len()));
        };
        match (checksum.read_u32::<LittleEndian>(), body.get(HEADER..)) {
            (Ok(checksum), Some(payload)) if checksum == crc32c::crc32c(body) => {
                let (kind, session, sequence) = (head.kind, head.session, head.sequence);
                Look::Whole(Frame { kind, session, sequence, payload: payload.to_vec() }, total)
            }
            _ => Look::Garbage(self.next_candidate()),
        }
    }

    /// Bytes to give up so that the buffer begins with the next byte that can begin a frame; at least one.
    fn next_candidate(&self) -> usize {
        let starts = self.buffer.iter().enumerate().skip(1).filter(|(_, byte)| **byte == MAGIC[0]);
        starts.map(|(index, _)| index).next().unwrap_or(self.buffer.len())
    }
}

/// The fields of a header.
struct Head {
    version: u8,
    kind: u8,
    session: u32,
    sequence: u32,
    length: usize,
    checksum: u32,
}

impl Head {
    fn read(header: &[u8; HEADER]) -> Option<Self> {
        let mut fields = header.get(MAGIC.len()..)?;
        Some(Self {
            version: fields.read_u8().ok()?,
            kind: fields.read_u8().ok()?,
            session: fields.read_u32::<LittleEndian>().ok()?,
            sequence: fields.read_u32::<LittleEndian>().ok()?,
            length: usize::from(fields.read_u16::<LittleEndian>().ok()?),
            checksum: fields.read_u32::<LittleEndian>().ok()?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn decode_all(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Vec<Frame> {
        let mut found = Vec::new();
        for mut input in bytes.chunks(piece.max(1)) {
            while let Some(frame) = decoder.next(&mut input) {
                found.push(frame);
            }
        }
        found
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let payload = prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), MAX_PAYLOAD - 2..=MAX_PAYLOAD)];
        (any::<u8>(), any::<u32>(), any::<u32>(), payload).prop_map(|(kind, session, sequence, payload)| Frame {
            kind,
            session,
            sequence,
            payload,
        })
    }

    /// Bytes full of beginnings of frames, so that resynchronising is really exercised.
    fn garbage() -> impl Strategy<Value = Vec<u8>> {
        let header = (any::<u8>(), any::<u16>()).prop_map(|(kind, length)| {
            let frame = Frame { kind, session: 7, sequence: 9, payload: vec![0xA5; usize::from(length) % 300] };
            let mut bytes = frame.encode().unwrap();
            bytes.truncate(usize::from(length) % bytes.len());
            bytes
        });
        let piece = prop_oneof![vec(any::<u8>(), 0..40), Just(MAGIC.to_vec()), Just(vec![0xA5; 3]), header];
        vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn golden_bytes() {
        let frame = Frame { kind: 0x82, session: 0x0403_0201, sequence: 5, payload: b"hi\n".to_vec() };
        let bytes = frame.encode().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a5544c5a01820102030405000000030033a30f1168690a947986c0");
        assert_eq!(decode_all(&mut Decoder::default(), &bytes, 1), [frame]);
        let documented = include_str!("../../../docs/protocol.md").replace(' ', "");
        assert!(documented.contains(&format!("\n{hex}\n")), "docs/protocol.md shows this frame");
    }

    #[test]
    fn a_payload_that_does_not_fit_is_refused() {
        for length in [MAX_PAYLOAD + 1, 65_536] {
            let frame = Frame { kind: 1, session: 0, sequence: 0, payload: vec![0; length] };
            assert_eq!(frame.encode(), Err(TooLong(length)));
        }
    }

    #[test]
    fn a_sound_header_that_announces_too_much_is_skipped_at_once() {
        let mut bytes = Frame { kind: 1, session: 0, sequence: 0, payload: Vec::new() }.encode().unwrap();
        bytes[14..16].copy_from_slice(&4097u16.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..HEADER_CHECKED]);
        bytes[HEADER_CHECKED..HEADER].copy_from_slice(&checksum.to_le_bytes());
        let mut decoder = Decoder::default();
        assert!(decode_all(&mut decoder, &bytes[..HEADER], 1).is_empty());
        assert_eq!(decoder.skipped(), HEADER as u64);
    }

    #[test]
    fn another_frame_version_is_remembered() {
        let mut bytes = Frame { kind: 1, session: 0, sequence: 0, payload: Vec::new() }.encode().unwrap();
        bytes[4] = 2;
        let checksum = crc32c::crc32c(&bytes[..HEADER_CHECKED]);
        bytes[HEADER_CHECKED..HEADER].copy_from_slice(&checksum.to_le_bytes());
        let mut decoder = Decoder::default();
        assert!(decode_all(&mut decoder, &bytes, 7).is_empty());
        assert_eq!(decoder.other_version(), Some(2));
    }

    #[test]
    fn text_is_counted_and_shown() {
        let mut decoder = Decoder::default();
        assert!(decode_all(&mut decoder, b"login: ", 3).is_empty());
        assert_eq!((decoder.skipped(), decoder.sample()), (7, &b"login: "[..]));
    }

    proptest! {
        #[test]
        fn frames_round_trip_in_any_pieces(frames in vec(frame(), 1..4), piece in 1usize..5000) {
            let bytes = frames.iter().flat_map(|frame| frame.encode().unwrap()).collect::<Vec<_>>();
            let mut decoder = Decoder::default();
            prop_assert_eq!(decode_all(&mut decoder, &bytes, piece), frames);
            prop_assert_eq!(decoder.skipped(), 0);
        }

        /// Whatever lies before a frame, the frame is found once enough bytes have followed it to settle every earlier claim.
        #[test]
        fn garbage_never_hides_a_frame(noise in garbage(), frame in frame(), piece in 1usize..5000) {
            let mut bytes = noise;
            bytes.extend(frame.encode().unwrap());
            bytes.extend([0; HEADER + MAX_PAYLOAD + TRAILER]);
            let found = decode_all(&mut Decoder::default(), &bytes, piece);
            prop_assert!(found.contains(&frame));
        }

        /// crc32c detects every change of up to three bits in a frame of this size.
        #[test]
        fn damage_is_always_noticed(frame in frame(), flips in vec(any::<prop::sample::Index>(), 1..4)) {
            let good = frame.encode().unwrap();
            let mut bad = good.clone();
            for flip in flips {
                let bit = flip.index(bad.len() * 8);
                bad[bit / 8] ^= 1 << (bit % 8);
            }
            prop_assume!(bad != good);
            bad.extend([0; HEADER + MAX_PAYLOAD + TRAILER]);
            prop_assert!(decode_all(&mut Decoder::default(), &bad, 4096).is_empty());
        }

        #[test]
        fn lost_bytes_are_always_noticed(frame in frame(), from in any::<prop::sample::Index>(), length in 1usize..30) {
            let mut bytes = frame.encode().unwrap();
            let from = from.index(bytes.len());
            bytes.drain(from..bytes.len().min(from + length));
            bytes.extend([0; HEADER + MAX_PAYLOAD + TRAILER]);
            prop_assert!(!decode_all(&mut Decoder::default(), &bytes, 4096).iter().any(|found| found != &frame));
        }

        #[test]
        fn arbitrary_bytes_are_bounded_and_accounted_for(noise in garbage(), more in vec(any::<u8>(), 0..9000)) {
            let bytes = [noise, more].concat();
            let mut decoder = Decoder::default();
            let frames = decode_all(&mut decoder, &bytes, 17);
            let used: usize = frames.iter().map(|frame| frame.payload.len() + HEADER + TRAILER).sum();
            prop_assert_eq!(used as u64 + decoder.skipped() + decoder.buffer.len() as u64, bytes.len() as u64);
            prop_assert!(decoder.buffer.len() <= HEADER + MAX_PAYLOAD + TRAILER);
        }
    }
}
