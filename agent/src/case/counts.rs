//! Counts of a copy, and what they say of the target.

use serde::{Deserialize, Serialize};

/// Counts of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Files copied and read back.
    pub copied: u64,
    /// Files found identical on the target.
    pub identical: u64,
    /// Files with unreadable ranges.
    pub damaged: u64,
    /// Things that could not be copied at all.
    pub failed: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Sockets, pipes and devices: listed, not copied.
    pub special: u64,
    /// Owners, modes, times or extended attributes the target could not take, all together.
    pub attributes_dropped: u64,
    /// Bytes of files copied or found identical.
    pub bytes: u64,
    /// Bytes that could not be read.
    pub lost_bytes: u64,
    /// Files among them that a repair of the file system left without a name, in lost+found.
    #[serde(default)]
    pub nameless: u64,
    /// Their bytes.
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
    /// Adds those of a further copy into the same folder.
    pub fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.copied, more.copied),
            (&mut self.identical, more.identical),
            (&mut self.damaged, more.damaged),
            (&mut self.failed, more.failed),
            (&mut self.directories, more.directories),
            (&mut self.symlinks, more.symlinks),
            (&mut self.special, more.special),
            (&mut self.attributes_dropped, more.attributes_dropped),
            (&mut self.bytes, more.bytes),
            (&mut self.lost_bytes, more.lost_bytes),
            (&mut self.nameless, more.nameless),
            (&mut self.nameless_bytes, more.nameless_bytes),
            (&mut self.owners_dropped, more.owners_dropped),
            (&mut self.modes_dropped, more.modes_dropped),
            (&mut self.times_dropped, more.times_dropped),
            (&mut self.extended_dropped, more.extended_dropped),
            (&mut self.hard_links_dropped, more.hard_links_dropped),
            (&mut self.symlinks_dropped, more.symlinks_dropped),
            (&mut self.names_changed, more.names_changed),
        ] {
            *sum = sum.saturating_add(more);
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
    }
}
