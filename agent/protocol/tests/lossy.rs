//! A client and a server on a simulated line that loses, changes, repeats and invents bytes, under a simulated clock.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tierlift_protocol::message::RefusalKind;
use tierlift_protocol::server::{Request, SILENCE, Server};
use tierlift_protocol::{Client, ClientError, Exit, Stream, Transport, Wish};

const PATIENCE: Duration = Duration::from_secs(120);

/// A small generator of random numbers (xorshift); the seed tells the whole story of a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_in(&mut self, chance: u64) -> bool {
        chance != 0 && self.next() % chance == 0
    }
}

/// What the server's command still has to say, and how it will end.
#[derive(Default)]
struct Command {
    output: VecDeque<(Stream, Vec<u8>)>,
    /// `None`: it waits to be cancelled.
    exit: Option<Exit>,
}

/// The machine at the other end and the line to it.
struct World {
    now: Instant,
    server: Server,
    command: Option<Command>,
    down: VecDeque<u8>,
    random: Random,
    /// One byte in so many is damaged, on the way up and on the way down; 0 for a good line.
    chance: u64,
    /// What happens to whole frames.
    frames: Option<FrameFaults>,
    /// Every command that was begun.
    begun: Vec<Vec<String>>,
    cut: bool,
    hung_up: usize,
}

/// What has happened to frames so far.
#[derive(Debug, Default)]
struct FrameFaults {
    carried: usize,
    flipped: usize,
    dropped: usize,
    repeated: usize,
}

impl World {
    fn new(seed: u64, chance: u64) -> Rc<RefCell<Self>> {
        let now = Instant::now();
        Rc::new(RefCell::new(Self {
            now,
            server: Server::new(now),
            command: None,
            down: VecDeque::new(),
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            chance,
            frames: None,
            begun: Vec::new(),
            cut: false,
            hung_up: 0,
        }))
    }

    /// What arrives of a frame: the same, with one bit flipped, nothing, or the same twice.
    fn frame(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (fate, place) = (self.random.next() % 10, self.random.next() as usize);
        let Some(faults) = self.frames.as_mut().filter(|_| !bytes.is_empty()) else { return bytes.to_vec() };
        faults.carried += 1;
        let mut out = bytes.to_vec();
        match fate {
            0 => {
                faults.flipped += 1;
                out[place / 8 % bytes.len()] ^= 1 << (place % 8);
            }
            1 => {
                faults.dropped += 1;
                out.clear();
            }
            2 => {
                faults.repeated += 1;
                out.extend(bytes);
            }
            _ => {}
        }
        out
    }

    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let bytes = &self.frame(bytes);
        let mut out = Vec::new();
        for &byte in bytes {
            if !self.random.one_in(self.chance) {
                out.push(byte);
                continue;
            }
            match self.random.next() % 4 {
                0 => {}
                1 => out.push(byte ^ (1 << (self.random.next() % 8))),
                2 => out.extend([byte, byte]),
                _ => out.extend([byte, 0xA5, b'T', b'L', 0x5A]),
            }
        }
        out
    }

    fn carry_up(&mut self, bytes: &[u8]) {
        if self.cut {
            return;
        }
        let bytes = self.damage(bytes);
        for request in self.server.receive(&bytes, self.now) {
            self.obey(request);
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Run(run) => self.start(&run.argv),
            Request::Cancel => self.command.as_mut().unwrap().exit = Some(Exit::Signal(2)),
            Request::HangUp => {
                self.hung_up += 1;
                self.command = None;
                self.server.exited(Exit::Signal(9));
            }
        }
    }

    fn start(&mut self, argv: &[String]) {
        self.begun.push(argv.to_vec());
        let words = argv.iter().map(String::as_str).collect::<Vec<_>>();
        match words[..] {
            ["print", pieces, code] => {
                let exit = Some(Exit::Code(code.parse().unwrap()));
                self.command = Some(Command { output: speech(pieces.parse().unwrap()), exit });
            }
            ["wait"] => self.command = Some(Command::default()),
            _ => self.server.refuse(RefusalKind::NotAllowed, format!("no such verb: {}", words.join(" ").repeat(9000))),
        }
    }

    fn live(&mut self) {
        while self.server.wants_output() {
            let next = self.command.as_mut().and_then(|command| command.output.pop_front());
            let Some((stream, bytes)) = next else { break };
            self.server.output(stream, &bytes);
        }
        let ended = self.command.as_ref().filter(|command| command.output.is_empty());
        if let Some(exit) = ended.and_then(|command| command.exit) {
            self.server.exited(exit);
            self.command = None;
        }
        if let Some(request) = self.server.tick(self.now) {
            self.obey(request);
        }
        let bytes = std::mem::take(self.server.line());
        let bytes = self.damage(&bytes);
        if !self.cut {
            self.down.extend(bytes);
        }
    }
}

/// What `print N` says: pieces of every size on both streams.
fn speech(pieces: usize) -> VecDeque<(Stream, Vec<u8>)> {
    let piece = |index: usize| {
        let stream = if index % 3 == 2 { Stream::Stderr } else { Stream::Stdout };
        (stream, (0..(index * 977) % 4097).map(|at| (at * 31 + index) as u8).collect())
    };
    (0..pieces).map(piece).collect()
}

/// Both streams of `print N`, put together.
fn expected(pieces: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for (stream, bytes) in speech(pieces) {
        if stream == Stream::Stdout { stdout.extend(bytes) } else { stderr.extend(bytes) }
    }
    (stdout, stderr)
}

#[derive(Clone)]
struct Line(Rc<RefCell<World>>);

impl Transport for Line {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let end = world.now + timeout;
        loop {
            world.live();
            if !world.down.is_empty() {
                let count = world.down.len().min(buffer.len());
                for (slot, byte) in buffer.iter_mut().zip(world.down.drain(..count)) {
                    *slot = byte;
                }
                world.now += Duration::from_millis(1);
                return Ok(count);
            }
            if world.now >= end {
                return Ok(0);
            }
            world.now += Duration::from_millis(10);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().carry_up(bytes);
        Ok(())
    }

    fn now(&self) -> Instant {
        self.0.borrow().now
    }
}

fn collect(client: &mut Client<Line>, argv: &[&str]) -> Result<(Exit, Vec<u8>, Vec<u8>), ClientError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = client.run(argv, |stream, bytes| match stream {
        Stream::Stdout => stdout.extend(bytes),
        Stream::Stderr => stderr.extend(bytes),
    })?;
    Ok((exit, stdout, stderr))
}

#[test]
fn output_arrives_whole_over_a_good_line() {
    let mut client = Client::connect(Line(World::new(1, 0)), PATIENCE).unwrap();
    let (stdout, stderr) = expected(40);
    assert_eq!(collect(&mut client, &["print", "40", "3"]).unwrap(), (Exit::Code(3), stdout, stderr));
    assert_eq!(client.skipped(), 0);
    assert_eq!(collect(&mut client, &["print", "0", "0"]).unwrap(), (Exit::Code(0), Vec::new(), Vec::new()));
}

#[test]
fn output_arrives_whole_over_bad_lines() {
    let mut skipped = 0;
    for seed in 0..60 {
        let chance = [300, 1000, 3000, 10_000][seed % 4];
        // A line this bad can starve one frame for long; only patience is being bought here.
        let mut client = Client::connect(Line(World::new(seed as u64, chance)), PATIENCE * 1000).unwrap();
        let pieces = if chance == 300 { 2 } else { 12 };
        let (stdout, stderr) = expected(pieces);
        let argv = ["print", &pieces.to_string(), "1"];
        assert_eq!(collect(&mut client, &argv).unwrap(), (Exit::Code(1), stdout, stderr), "seed {seed}");
        skipped += client.skipped();
    }
    assert!(skipped > 0, "the lines were not bad at all");
}

/// More than 1,000 frames, three in ten of them with a bit flipped, dropped or sent twice: every command is begun exactly once
/// and as it was asked for, and every result is right.
#[test]
fn a_thousand_frames_on_a_bad_line_execute_nothing_wrong() {
    let (mut carried, mut flipped, mut dropped, mut repeated) = (0, 0, 0, 0);
    for seed in 0..20 {
        let world = World::new(1000 + seed, 0);
        world.borrow_mut().frames = Some(FrameFaults::default());
        let mut client = Client::connect(Line(world.clone()), PATIENCE * 1000).unwrap();
        let mut asked = Vec::new();
        for number in 0..12 {
            let (pieces, code) = (number % 5, number);
            let argv = ["print".to_owned(), pieces.to_string(), code.to_string()];
            let words: Vec<&str> = argv.iter().map(String::as_str).collect();
            let (stdout, stderr) = expected(pieces);
            assert_eq!(collect(&mut client, &words).unwrap(), (Exit::Code(code as i32), stdout, stderr), "seed {seed}");
            asked.push(argv.to_vec());
        }
        let world = world.borrow();
        assert_eq!(world.begun, asked, "seed {seed}: a command was begun that nobody asked for, or twice");
        let faults = world.frames.as_ref().unwrap();
        carried += faults.carried;
        flipped += faults.flipped;
        dropped += faults.dropped;
        repeated += faults.repeated;
    }
    println!("{carried} frames: {flipped} with a bit flipped, {dropped} dropped, {repeated} sent twice");
    assert!(carried >= 1000 && flipped >= 100 && dropped >= 100 && repeated >= 100, "the line was not bad enough");
}

#[test]
fn a_refusal_is_told_and_the_session_goes_on() {
    let mut client = Client::connect(Line(World::new(2, 0)), PATIENCE).unwrap();
    let refused = collect(&mut client, &["dance"]);
    assert!(matches!(refused, Err(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::NotAllowed));
    assert_eq!(collect(&mut client, &["print", "1", "0"]).unwrap().0, Exit::Code(0));
}

#[test]
fn cancelling_ends_a_command_that_says_nothing() {
    let world = World::new(3, 0);
    let mut client = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    let start = world.borrow().now;
    let mut asked = false;
    let long_after = || world.borrow().now - start > SILENCE * 3;
    let wish = || {
        if !asked && long_after() {
            asked = true;
            Wish::Cancel
        } else {
            Wish::Continue
        }
    };
    assert_eq!(client.run_watched(&["wait"], |_, _| {}, wish).unwrap(), Exit::Signal(2));
    assert_eq!(world.borrow().hung_up, 0, "pings kept the session alive");
}

#[test]
fn a_command_left_behind_does_not_talk_into_the_next_one() {
    let world = World::new(4, 0);
    let mut client = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    let given_up = client.run_watched(&["print", "400", "0"], |_, _| {}, || Wish::GiveUp);
    assert!(matches!(given_up, Err(ClientError::GivenUp)));
    let (stdout, stderr) = expected(3);
    assert_eq!(collect(&mut client, &["print", "3", "2"]).unwrap(), (Exit::Code(2), stdout, stderr));
    assert_eq!(world.borrow().hung_up, 1);
}

#[test]
fn a_client_started_again_takes_the_line_over() {
    let world = World::new(5, 0);
    let mut first = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    assert!(first.run_watched(&["wait"], |_, _| {}, || Wish::GiveUp).is_err());
    let mut second = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    assert_eq!(world.borrow().hung_up, 1);
    assert_eq!(collect(&mut second, &["print", "1", "0"]).unwrap().0, Exit::Code(0));
}

#[test]
fn a_client_that_vanished_is_hung_up_on() {
    let world = World::new(6, 0);
    let mut client = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    assert!(client.run_watched(&["wait"], |_, _| {}, || Wish::GiveUp).is_err());
    drop(client);
    let mut nobody = Line(world.clone());
    let mut buffer = [0; 4096];
    let start = nobody.now();
    while nobody.now() - start <= SILENCE * 2 {
        nobody.receive(&mut buffer, Duration::from_secs(1)).unwrap();
    }
    assert_eq!(world.borrow().hung_up, 1);
}

#[test]
fn a_restarted_server_is_noticed_and_the_next_command_works() {
    let world = World::new(7, 0);
    let mut client = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    assert!(collect(&mut client, &["print", "1", "0"]).is_ok());
    let now = world.borrow().now;
    world.borrow_mut().server = Server::new(now);
    assert!(matches!(collect(&mut client, &["print", "1", "0"]), Err(ClientError::Restarted)));
    assert_eq!(collect(&mut client, &["print", "1", "4"]).unwrap().0, Exit::Code(4));
}

#[test]
fn a_dead_line_is_noticed_before_and_within_a_command() {
    let world = World::new(8, 0);
    let mut client = Client::connect(Line(world.clone()), PATIENCE).unwrap();
    let dies = || {
        world.borrow_mut().cut = true;
        Wish::Continue
    };
    assert!(matches!(client.run_watched(&["wait"], |_, _| {}, dies), Err(ClientError::Silent(_))));
    assert!(
        matches!(Client::connect(Line(world), PATIENCE), Err(ClientError::NoAnswer { hint, .. }) if hint.is_empty())
    );
}

/// The wrong port: a terminal that echoes every byte and adds a prompt.
struct HumanConsole(VecDeque<u8>, Instant);

impl Transport for HumanConsole {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.1 += timeout;
        let count = self.0.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(self.0.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend(b"tierlift> ");
        self.0.extend(bytes);
        Ok(())
    }

    fn now(&self) -> Instant {
        self.1
    }
}

#[test]
fn the_wrong_console_is_recognised() {
    let result = Client::connect(HumanConsole(VecDeque::new(), Instant::now()), Duration::from_secs(5));
    let message = result.err().unwrap().to_string();
    assert!(message.contains("beginning with \"tierlift> "), "{message}");
    assert!(message.contains("console for people"), "{message}");
}
