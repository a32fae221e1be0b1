//! Reliable delivery of messages in both directions of one session: stop-and-wait.
//!
//! Each direction numbers its messages from 0 and has at most one unacknowledged. The receiver acknowledges every message
//! it takes and again every repetition of the last one; the sender repeats until it sees the acknowledgement. A line of
//! 170 KiB/s carries a full frame in 24 ms and an acknowledgement in under 1 ms, so a window would gain a few per cent.

use crate::frame::{Frame, TooLong};
use crate::message::{FROM_SERVER, Message};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Type of an acknowledgement; its sequence number is that of the message it acknowledges.
pub const ACK: u8 = 0x10;
/// Type of "I know no such session", from the server: it was restarted, or another client took the line.
pub const RESET: u8 = FROM_SERVER | 0x11;

/// First wait before a message is repeated; many round trips of a fast line.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait: a full frame at 9600 baud needs 4.3 s.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Messages waiting to be sent beyond which nothing more is accepted from the other end.
const QUEUE_LIMIT: usize = 8;
/// Unwritten bytes beyond which acknowledgements are dropped, as the line might have done.
const UNWRITTEN_LIMIT: usize = 64 * 1024;

/// One end of a session.
#[derive(Debug)]
pub struct Link {
    session: u32,
    /// [`FROM_SERVER`] or 0: what this end puts into the types it sends.
    direction: u8,
    next: u32,
    expected: u32,
    in_flight: Option<InFlight>,
    queue: VecDeque<(u8, Vec<u8>)>,
    wait: Duration,
}

#[derive(Debug)]
struct InFlight {
    sequence: u32,
    bytes: Vec<u8>,
    first_sent: Instant,
    last_sent: Instant,
}

impl Link {
    /// The client's end of a new session.
    #[must_use]
    pub fn client(session: u32) -> Self {
        Self::new(session, 0)
    }

    /// The server's end of a new session.
    #[must_use]
    pub fn server(session: u32) -> Self {
        Self::new(session, FROM_SERVER)
    }

    fn new(session: u32, direction: u8) -> Self {
        let queue = VecDeque::new();
        Self { session, direction, next: 0, expected: 0, in_flight: None, queue, wait: SHORTEST_WAIT }
    }

    /// The session's number.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.session
    }

    /// Puts a message in line for sending; [`Self::advance`] sends it.
    ///
    /// # Errors
    /// The message does not fit into a frame.
    pub fn queue(&mut self, message: &Message) -> Result<(), TooLong> {
        self.queue.push_back(message.encode()?);
        Ok(())
    }

    /// Whether nothing waits behind the message in flight.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether everything has been sent and acknowledged.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_none()
    }

    /// Since when the message in flight has been waiting for its acknowledgement.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|flight| flight.first_sent)
    }

    /// When [`Self::advance`] has to be called again even if nothing arrives.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.in_flight.as_ref().and_then(|flight| flight.last_sent.checked_add(self.wait))
    }

    /// Takes a frame of this session and appends the acknowledgement to `line`. Answers with the frame when it carries the
    /// next message, and with `None` for acknowledgements, repetitions, echoes and everything out of turn.
    pub fn accept(&mut self, frame: Frame, now: Instant, line: &mut Vec<u8>) -> Option<Frame> {
        if frame.session != self.session || frame.kind & FROM_SERVER == self.direction {
            return None;
        }
        if frame.kind & !FROM_SERVER == ACK {
            self.acknowledged(frame.sequence, now);
            return None;
        }
        let is_next = frame.sequence == self.expected;
        let is_repeated = frame.sequence == self.expected.wrapping_sub(1);
        if (is_next && self.queue.len() <= QUEUE_LIMIT) || is_repeated {
            self.acknowledge(frame.sequence, line);
        }
        if !is_next || self.queue.len() > QUEUE_LIMIT {
            return None;
        }
        self.expected = self.expected.wrapping_add(1);
        Some(frame)
    }

    /// Sends the next message, or repeats the one in flight when its time has come: appends frames to `line`. A message is
    /// not repeated while earlier bytes still wait to be written.
    pub fn advance(&mut self, now: Instant, line: &mut Vec<u8>) {
        match &mut self.in_flight {
            None => self.send_next(now, line),
            Some(flight) => {
                if line.is_empty() && now.saturating_duration_since(flight.last_sent) >= self.wait {
                    line.extend(&flight.bytes);
                    flight.last_sent = now;
                    // The first message may wait for a machine that is still booting: keep knocking at a steady pace.
                    if flight.sequence != 0 {
                        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
                    }
                }
            }
        }
    }

    fn send_next(&mut self, now: Instant, line: &mut Vec<u8>) {
        let Some((kind, payload)) = self.queue.pop_front() else { return };
        let frame = Frame { kind, session: self.session, sequence: self.next, payload };
        let Ok(bytes) = frame.encode() else { return };
        line.extend(&bytes);
        self.in_flight = Some(InFlight { sequence: self.next, bytes, first_sent: now, last_sent: now });
        self.next = self.next.wrapping_add(1);
    }

    fn acknowledge(&self, sequence: u32, line: &mut Vec<u8>) {
        let ack = Frame { kind: ACK | self.direction, session: self.session, sequence, payload: Vec::new() };
        if let (true, Ok(bytes)) = (line.len() < UNWRITTEN_LIMIT, ack.encode()) {
            line.extend(bytes);
        }
    }

    /// Only a message sent once says how long the line takes; after a repetition the longer wait stays, so that a slow line
    /// is not flooded with repetitions of every frame.
    fn acknowledged(&mut self, sequence: u32, now: Instant) {
        let Some(flight) = self.in_flight.take_if(|flight| flight.sequence == sequence) else { return };
        if flight.first_sent == flight.last_sent {
            let round_trip = now.saturating_duration_since(flight.first_sent);
            self.wait = round_trip.saturating_mul(4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::frame::Decoder;
    use crate::message::Stream;

    fn frames(line: &mut Vec<u8>) -> Vec<Frame> {
        let bytes = std::mem::take(line);
        let (mut decoder, mut input, mut found) = (Decoder::default(), &bytes[..], Vec::new());
        while let Some(frame) = decoder.next(&mut input) {
            found.push(frame);
        }
        found
    }

    fn output(text: &str) -> Message {
        Message::Output(Stream::Stdout, text.as_bytes().to_vec())
    }

    #[test]
    fn a_lost_message_is_repeated_and_a_repeated_one_taken_once() {
        let (mut server, mut client, start) = (Link::server(5), Link::client(5), Instant::now());
        let (mut down, mut up) = (Vec::new(), Vec::new());
        server.queue(&output("a")).unwrap();
        server.advance(start, &mut down);
        let lost = frames(&mut down);
        server.advance(start + SHORTEST_WAIT - Duration::from_millis(1), &mut down);
        assert!(down.is_empty(), "too early to repeat");
        server.advance(start + SHORTEST_WAIT, &mut down);
        let repeated = frames(&mut down);
        assert_eq!(lost, repeated);
        assert!(client.accept(repeated[0].clone(), start, &mut up).is_some());
        assert!(client.accept(repeated[0].clone(), start, &mut up).is_none(), "the same message twice");
        let acks = frames(&mut up);
        assert_eq!(acks.len(), 2, "a repetition is acknowledged again: the first acknowledgement may be lost");
        assert!(!server.is_quiet());
        assert!(server.accept(acks[0].clone(), start, &mut down).is_none());
        assert!(server.is_quiet());
    }

    #[test]
    fn one_message_at_a_time_in_order() {
        let (mut server, start, mut line) = (Link::server(5), Instant::now(), Vec::new());
        server.queue(&output("a")).unwrap();
        server.queue(&output("b")).unwrap();
        server.advance(start, &mut line);
        server.advance(start, &mut line);
        let sent = frames(&mut line);
        assert_eq!(sent.iter().map(|frame| frame.payload.clone()).collect::<Vec<_>>(), [b"a".to_vec()]);
        let wrong = Frame { kind: ACK, session: 5, sequence: 9, payload: Vec::new() };
        server.accept(wrong, start, &mut line);
        server.advance(start, &mut line);
        assert!(line.is_empty(), "an acknowledgement of something else does not count");
    }

    #[test]
    fn echoes_and_other_sessions_are_nothing() {
        let (mut client, start, mut line) = (Link::client(5), Instant::now(), Vec::new());
        client.queue(&Message::Ping).unwrap();
        client.advance(start, &mut line);
        let echo = frames(&mut line).remove(0);
        assert!(client.accept(echo, start, &mut line).is_none());
        let (kind, payload) = output("x").encode().unwrap();
        let foreign = Frame { kind, session: 6, sequence: 0, payload };
        assert!(client.accept(foreign, start, &mut line).is_none());
        assert!(line.is_empty(), "and are not acknowledged");
    }

    #[test]
    fn an_end_that_cannot_answer_stops_accepting() {
        let (mut server, start, mut line) = (Link::server(5), Instant::now(), Vec::new());
        for _ in 0..QUEUE_LIMIT {
            server.queue(&output("x")).unwrap();
        }
        let ping = Frame { kind: 0x04, session: 5, sequence: 0, payload: Vec::new() };
        assert!(server.accept(ping.clone(), start, &mut line).is_some(), "at the limit");
        server.queue(&output("x")).unwrap();
        line.clear();
        assert!(server.accept(Frame { sequence: 1, ..ping }, start, &mut line).is_none());
        assert!(line.is_empty(), "not acknowledged, so it will be repeated");
    }
}
