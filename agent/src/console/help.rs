//! What the prompt tells about its commands, in plain words. 80 columns, plain ASCII.

/// A command of the prompt.
#[derive(Debug)]
pub struct Topic {
    /// The word typed first.
    pub verb: &'static str,
    /// What it does, one line.
    pub does: &'static str,
    /// One line to try.
    pub example: &'static str,
}

/// The agent's verbs in the order a recovery takes them.
pub const VERBS: [Topic; 12] = [
    Topic { verb: "auto", does: "does all of it, asking what it must know", example: "auto" },
    Topic { verb: "scan", does: "shows what is on the disks, and what is wrong", example: "scan" },
    Topic { verb: "repair", does: "makes new metadata for a damaged pool", example: "repair vg288/tp1" },
    Topic { verb: "activate", does: "makes a volume readable, over an overlay", example: "activate vg288/lv1" },
    Topic { verb: "unlock", does: "opens an encrypted volume; asks the password", example: "unlock vg288/lv1" },
    Topic { verb: "fsck", does: "checks its file system; repairs on an overlay", example: "fsck vg288/lv1" },
    Topic { verb: "mount", does: "shows its files in a folder, read-only", example: "mount vg288/lv1 /mnt/volume" },
    Topic { verb: "copy", does: "copies its files to another disk and verifies", example: "copy vg288/lv1 /dev/sdc" },
    Topic { verb: "network", does: "switches the network on, mounts shared folders", example: "network up" },
    Topic { verb: "share", does: "lets other machines fetch files by SFTP", example: "share start" },
    Topic { verb: "report", does: "tells what was found, done and lost so far", example: "report" },
    Topic { verb: "deactivate", does: "takes volumes and overlays away again", example: "deactivate --all --unmount" },
];

/// Verbs that few recoveries need.
pub const MORE: [Topic; 4] = [
    Topic { verb: "job", does: "lets a command go on without this line", example: "job start auto --yes" },
    Topic { verb: "lvm", does: "shows volume groups and older texts of them", example: "lvm generations" },
    Topic { verb: "pool", does: "looks into a pool's metadata, for experts", example: "pool stat --meta /dev/sdb" },
    Topic { verb: "fetch", does: "writes out a small file, for programs", example: "fetch /run/tierlift/case.json" },
];

/// What only the prompt knows.
pub const OWN: [Topic; 4] = [
    Topic { verb: "help", does: "tells all about one command", example: "help activate" },
    Topic { verb: "shell", does: "a root shell (or F12), for experts: unprotected", example: "shell" },
    Topic { verb: "poweroff", does: "switches the machine off, after asking", example: "poweroff" },
    Topic { verb: "reboot", does: "starts the machine again, after asking", example: "reboot" },
];

/// The list of all commands: an example each and what it does.
#[must_use]
pub fn list() -> String {
    let mut text = String::from("Type, for example:             which (in the order a recovery takes them)\n\n");
    for topic in VERBS.iter().chain(&OWN) {
        text.push_str(&format!("  {:<28} {}\n", topic.example, topic.does));
    }
    let more: Vec<&str> = MORE.iter().map(|topic| topic.verb).collect();
    text.push_str(&format!("\nMore, told by 'help job' and so on: {}\n", more.join(", ")));
    text.push_str("Put names that contain blanks in 'quotes'. Ctrl-C asks, then stops a command.\n");
    text.push_str("Nothing is ever written to the source disks.\n");
    text
}

/// What an exit code other than 0 means; they add up.
#[must_use]
pub fn exit_code(code: i32) -> String {
    let meanings = [
        (1, "something was repaired or reported"),
        (2, "damage found; a usable result is possible"),
        (4, "damage left, or nothing usable"),
        (8, "the operation failed"),
        (16, "wrong usage"),
    ];
    let said: Vec<_> = meanings.iter().filter(|(bit, _)| code & bit != 0).map(|(_, meaning)| *meaning).collect();
    format!("(exit code {code}: {})\n", if said.is_empty() { "unknown".into() } else { said.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_a_serial_terminal() {
        for line in list().lines() {
            assert!(line.len() <= 79 && line.is_ascii(), "{line}");
        }
        assert!(list().lines().count() <= 22);
    }

    #[test]
    fn exit_codes_add_up() {
        assert_eq!(
            exit_code(3),
            "(exit code 3: something was repaired or reported; damage found; a usable result is possible)\n"
        );
        assert_eq!(exit_code(32), "(exit code 32: unknown)\n");
    }
}
