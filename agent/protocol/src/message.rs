//! What the two ends say to each other: control messages as JSON objects, output as raw bytes.

use crate::frame::{MAX_PAYLOAD, TooLong};
use serde::{Deserialize, Serialize};

/// Bit of the type that marks frames from the server. Without it, a line that echoes would feed a client its own words.
pub const FROM_SERVER: u8 = 0x80;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// First message of a session, from the client.
    Hello(Greeting),
    /// Run one command, from the client.
    Run(Run),
    /// Stop the running command: the first time as Ctrl-C does, the second time for good. From the client.
    Cancel,
    /// Nothing; whoever acknowledges it is alive. From the client.
    Ping,
    /// The answer to Hello, from the server.
    Welcome(Greeting),
    /// Output of the running command, from the server.
    Output(Stream, Vec<u8>),
    /// The command has ended and all its output has been sent, from the server.
    Exited(Exit),
    /// The last request could not be done, from the server.
    Refused(Refusal),
}

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Who is speaking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Version of the messages, [`crate::PROTOCOL`].
    pub protocol: u32,
    /// Version of the program, for people.
    pub agent: String,
}

impl Greeting {
    /// This library's greeting.
    #[must_use]
    pub fn ours() -> Self {
        Self { protocol: crate::PROTOCOL, agent: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The words after `tierlift`.
    pub argv: Vec<String>,
    /// All of its standard input: a password. Empty for none.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub input: Secret,
}

/// A text that no message and no log may show.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "hidden" })
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// By itself, with this exit code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// A command is running already.
    Busy,
    /// The words are no verb that may be run from afar.
    NotAllowed,
    /// The program could not be started.
    CannotStart,
    /// The request could not be understood.
    BadMessage,
    /// A kind this version does not know.
    #[serde(other)]
    Other,
}

/// The payload is not what the type says.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// No message has this type.
    #[error("unknown message type 0x{0:02x}")]
    UnknownKind(u8),
    /// The JSON is broken or lacks a field.
    #[error("message type 0x{0:02x}: {1}")]
    Payload(u8, serde_json::Error),
}

pub(crate) const HELLO: u8 = 0x01;
const RUN: u8 = 0x02;
const CANCEL: u8 = 0x03;
const PING: u8 = 0x04;
const WELCOME: u8 = FROM_SERVER | 0x01;
const STDOUT: u8 = FROM_SERVER | 0x02;
const STDERR: u8 = FROM_SERVER | 0x03;
const EXITED: u8 = FROM_SERVER | 0x04;
const REFUSED: u8 = FROM_SERVER | 0x05;

impl Message {
    /// Type and payload for a frame.
    ///
    /// # Errors
    /// The message does not fit into one frame.
    pub fn encode(&self) -> Result<(u8, Vec<u8>), TooLong> {
        let (kind, payload) = match self {
            Self::Hello(greeting) => (HELLO, json(greeting)),
            Self::Run(run) => (RUN, json(run)),
            Self::Cancel => (CANCEL, Vec::new()),
            Self::Ping => (PING, Vec::new()),
            Self::Welcome(greeting) => (WELCOME, json(greeting)),
            Self::Output(Stream::Stdout, bytes) => (STDOUT, bytes.clone()),
            Self::Output(Stream::Stderr, bytes) => (STDERR, bytes.clone()),
            Self::Exited(exit) => (EXITED, json(exit)),
            Self::Refused(refusal) => (REFUSED, json(refusal)),
        };
        if payload.len() > MAX_PAYLOAD { Err(TooLong(payload.len())) } else { Ok((kind, payload)) }
    }

    /// The message of a frame's type and payload.
    ///
    /// # Errors
    /// The type is unknown or the payload does not fit it.
    pub fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, MessageError> {
        let broken = |error| MessageError::Payload(kind, error);
        Ok(match kind {
            HELLO => Self::Hello(serde_json::from_slice(&payload).map_err(broken)?),
            RUN => Self::Run(serde_json::from_slice(&payload).map_err(broken)?),
            CANCEL => Self::Cancel,
            PING => Self::Ping,
            WELCOME => Self::Welcome(serde_json::from_slice(&payload).map_err(broken)?),
            STDOUT => Self::Output(Stream::Stdout, payload),
            STDERR => Self::Output(Stream::Stderr, payload),
            EXITED => Self::Exited(serde_json::from_slice(&payload).map_err(broken)?),
            REFUSED => Self::Refused(serde_json::from_slice(&payload).map_err(broken)?),
            other => return Err(MessageError::UnknownKind(other)),
        })
    }
}

/// Serialising these plain structs cannot fail; an empty payload would be refused by the other end as broken JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        let greeting = Greeting { protocol: 1, agent: "0.1.0".into() };
        vec![
            Message::Hello(greeting.clone()),
            Message::Run(Run {
                argv: vec!["scan".into(), "a \"b\" \u{e9}\n".into(), String::new()],
                input: Secret("geheim\n".into()),
            }),
            Message::Cancel,
            Message::Ping,
            Message::Welcome(greeting),
            Message::Output(Stream::Stdout, vec![0, 255, 10]),
            Message::Output(Stream::Stderr, b"no".to_vec()),
            Message::Exited(Exit::Code(4)),
            Message::Exited(Exit::Signal(9)),
            Message::Refused(Refusal { kind: RefusalKind::NotAllowed, message: "no".into() }),
        ]
    }

    #[test]
    fn messages_round_trip() {
        for message in all() {
            let (kind, payload) = message.encode().unwrap();
            assert_eq!(Message::decode(kind, payload).unwrap(), message);
        }
    }

    #[test]
    fn the_words_on_the_line_are_the_documented_ones() {
        let texts = all().iter().map(|message| message.encode().unwrap()).collect::<Vec<_>>();
        assert_eq!(texts[0], (0x01, br#"{"protocol":1,"agent":"0.1.0"}"#.to_vec()));
        assert_eq!(texts[7], (0x84, br#"{"code":4}"#.to_vec()));
        assert_eq!(texts[8], (0x84, br#"{"signal":9}"#.to_vec()));
        assert_eq!(texts[9], (0x85, br#"{"kind":"not-allowed","message":"no"}"#.to_vec()));
    }

    #[test]
    fn later_versions_may_add_fields_and_kinds() {
        let hello = br#"{"protocol":2,"agent":"9","features":["x"]}"#;
        assert!(
            matches!(Message::decode(HELLO, hello.to_vec()), Ok(Message::Hello(greeting)) if greeting.protocol == 2)
        );
        let refusal = br#"{"kind":"on-fire","message":"m"}"#;
        let decoded = Message::decode(REFUSED, refusal.to_vec()).unwrap();
        assert_eq!(decoded, Message::Refused(Refusal { kind: RefusalKind::Other, message: "m".into() }));
    }

    #[test]
    fn wrong_payloads_are_errors() {
        assert!(Message::decode(0x7f, Vec::new()).is_err());
        assert!(Message::decode(RUN, b"{\"argv\":".to_vec()).is_err());
        assert!(Message::decode(RUN, b"{}".to_vec()).is_err());
        let long = Message::Run(Run { argv: vec!["x".repeat(5000)], ..Run::default() });
        assert!(long.encode().is_err());
    }
}
