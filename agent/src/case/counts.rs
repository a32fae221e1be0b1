//! Counts of a copy, and what they say of the target.

use serde::{Deserialize, Serialize};

/// Counts of a copy. Files are counted by their names, bytes by what is behind them: those of a file with several names once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Names of files copied and read back; further names of a file count, too.
    pub copied: u64,
    /// Names of files found identical on the target.
    pub identical: u64,
    /// Files with unreadable ranges, and things that cannot be read at all: files, links, directories with what is in them.
    pub damaged: u64,
    /// Things that the target did not take. Their bytes are in none of the counts.
    pub failed: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Sockets, pipes and devices: listed, not copied.
    pub special: u64,
    /// Owners, modes, times or extended attributes the target could not take, all together.
    pub attributes_dropped: u64,
    /// Bytes of the source's files that were looked at: copied, identical or damaged. What of them is lost is included, and files
    /// lost as a whole with the size that the source tells (at most 16 TiB; 0 where it tells none).
    pub bytes: u64,
    /// The part of `bytes` that could not be read; and all bytes of files that a repair took parts out of, or that shared blocks:
    /// nobody knows which of them are true.
    pub lost_bytes: u64,
    /// Files among `copied` and `identical` that a repair of the file system left without a name, in lost+found.
    #[serde(default)]
    pub nameless: u64,
    /// The part of `bytes` that could be read of files in lost+found, damaged ones included.
    #[serde(default)]
    pub nameless_bytes: u64,
    /// Files and folders whose owner the target did not take.
    #[serde(default)]
    pub owners_dropped: u64,
    /// Those whose mode it did not take.
    #[serde(default)]
    pub modes_dropped: u64,
    /// Those whose time of the last change it did not take.
    #[serde(default)]
    pub times_dropped: u64,
    /// Those with extended attributes it did not take.
    #[serde(default)]
    pub extended_dropped: u64,
    /// Further names of files that became files of their own.
    #[serde(default)]
    pub hard_links_dropped: u64,
    /// Symbolic links the target has no place for; where they lead is in the manifest.
    #[serde(default)]
    pub symlinks_dropped: u64,
    /// Names that are others on the target, because Windows does not take them.
    #[serde(default)]
    pub names_changed: u64,
}

impl Counts {
    /// Bytes that are on the target as they were in the source: whole files, and what could be read of damaged ones.
    pub fn recovered_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.lost_bytes)
    }

    /// Adds those of a further copy into the same folder.
    pub fn add(&mut self, more: &Self) {
        self.each(more, u64::saturating_add);
    }

    /// Takes away what is counted again.
    pub fn take_away(&mut self, less: &Self) {
        self.each(less, u64::saturating_sub);
    }

    fn each(&mut self, other: &Self, change: fn(u64, u64) -> u64) {
        for (count, other) in [
            (&mut self.copied, other.copied),
            (&mut self.identical, other.identical),
            (&mut self.damaged, other.damaged),
            (&mut self.failed, other.failed),
            (&mut self.directories, other.directories),
            (&mut self.symlinks, other.symlinks),
            (&mut self.special, other.special),
            (&mut self.attributes_dropped, other.attributes_dropped),
            (&mut self.bytes, other.bytes),
            (&mut self.lost_bytes, other.lost_bytes),
            (&mut self.nameless, other.nameless),
            (&mut self.nameless_bytes, other.nameless_bytes),
            (&mut self.owners_dropped, other.owners_dropped),
            (&mut self.modes_dropped, other.modes_dropped),
            (&mut self.times_dropped, other.times_dropped),
            (&mut self.extended_dropped, other.extended_dropped),
            (&mut self.hard_links_dropped, other.hard_links_dropped),
            (&mut self.symlinks_dropped, other.symlinks_dropped),
            (&mut self.names_changed, other.names_changed),
        ] {
            *count = change(*count, other);
        }
    }

    /// What is another on the target than in the source, although nothing of the files' content is lost, in sentences.
    pub fn differences(&self) -> Vec<String> {
        let mut told = Vec::new();
        match self.names_changed {
            0 => {}
            1 => told.push("1 name was changed because Windows does not take it; the manifest has the true one".into()),
            count => told.push(format!(
                "{count} names were changed because Windows does not take them; the manifest has the true ones"
            )),
        }
        let parts = self.not_kept();
        if !parts.is_empty() {
            told.push(format!("not kept on the target: {}", parts.join(", ")));
        }
        told
    }

    fn not_kept(&self) -> Vec<String> {
        let kinds = [
            ("owners", self.owners_dropped),
            ("modes", self.modes_dropped),
            ("times", self.times_dropped),
            ("extended attributes", self.extended_dropped),
        ];
        let mut parts: Vec<String> = Vec::new();
        let mut rest = self.attributes_dropped;
        for (what, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
            let of = if parts.is_empty() { things(count) } else { count.to_string() };
            parts.push(format!("{what} of {of}"));
            rest = rest.saturating_sub(count);
        }
        // Older cases count them all together.
        if rest > 0 {
            parts.push(format!("{rest} owners, modes, times or attributes"));
        }
        match self.hard_links_dropped {
            0 => {}
            1 => parts.push("hard links of 1 (became a file of its own)".into()),
            count => parts.push(format!("hard links of {count} (became files of their own)")),
        }
        match self.symlinks_dropped {
            0 => {}
            1 => parts.push("1 symbolic link (the manifest tells where it leads)".into()),
            count => parts.push(format!("{count} symbolic links (the manifest tells where they lead)")),
        }
        parts
    }
}

fn things(count: u64) -> String {
    if count == 1 { "1 file or folder".into() } else { format!("{count} files and folders") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_kept_is_told_by_kind() {
        let counts = Counts {
            attributes_dropped: 1627,
            owners_dropped: 812,
            modes_dropped: 812,
            extended_dropped: 3,
            hard_links_dropped: 2,
            names_changed: 12,
            symlinks_dropped: 1,
            ..Counts::default()
        };
        assert_eq!(
            counts.differences(),
            [
                "12 names were changed because Windows does not take them; the manifest has the true ones",
                "not kept on the target: owners of 812 files and folders, modes of 812, extended attributes of 3, hard \
                 links of 2 (became files of their own), 1 symbolic link (the manifest tells where it leads)",
            ]
        );
        assert!(Counts::default().differences().is_empty());
    }

    #[test]
    fn what_was_counted_together_is_told_together() {
        let counts = Counts { attributes_dropped: 7, times_dropped: 1, ..Counts::default() };
        assert_eq!(
            counts.differences(),
            ["not kept on the target: times of 1 file or folder, 6 owners, modes, times or attributes"]
        );
    }

    #[test]
    fn counts_of_older_cases_are_read() {
        let old = r#"{"copied":3,"identical":0,"damaged":0,"failed":0,"directories":1,"symlinks":0,"special":0,
            "attributes_dropped":5,"bytes":9,"lost_bytes":0}"#;
        let counts: Counts = serde_json::from_str(old).unwrap();
        assert_eq!(counts, Counts { copied: 3, directories: 1, attributes_dropped: 5, bytes: 9, ..Counts::default() });
    }

    #[test]
    fn every_count_is_added() {
        let ones = serde_json::to_value(Counts::default()).unwrap();
        let ones = ones.as_object().unwrap().keys().map(|name| (name.clone(), 1.into())).collect();
        let ones: Counts = serde_json::from_value(serde_json::Value::Object(ones)).unwrap();
        let mut sum = ones;
        sum.add(&ones);
        let sums = serde_json::to_value(sum).unwrap();
        assert!(sums.as_object().unwrap().values().all(|sum| *sum == 2), "{sums}");
        sum.take_away(&ones);
        assert_eq!(sum, ones);
    }
}
