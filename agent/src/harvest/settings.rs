//! Files of settings: sections in brackets, `key = value` below.

use crate::inventory::{Harvest, VolumeSettings};

/// Sections taken of one file.
const MAX_SECTIONS: usize = 256;
/// Characters of a value that are kept.
const MAX_VALUE: usize = 200;

/// Files that are looked into or listed.
const WANTED: [&str; 9] = [
    "volume.conf",
    "uLinux.conf",
    "Model_Name.conf",
    "model.conf",
    "raid.conf",
    "storage_pool.conf",
    "ssdcache.conf",
    "mdadm.conf",
    "storage.conf",
];

/// Whether a file of this name is wanted.
pub(super) fn is_wanted(name: &str) -> bool {
    WANTED.contains(&name)
}

/// Takes what a file tells.
pub(super) fn take(harvest: &mut Harvest, name: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match name {
        "volume.conf" => volumes(harvest, &text),
        // Only the model and the version are taken: the file has passwords, too.
        "uLinux.conf" => {
            let sections = sections(&text);
            let system = sections.iter().find(|(name, _)| name.eq_ignore_ascii_case("system"));
            let value = |key: &str| system.and_then(|(_, pairs)| find(pairs, key));
            harvest.model = value("Model").or(value("Internal Model")).or(harvest.model.take());
            harvest.firmware = value("Version").or(harvest.firmware.take());
        }
        "Model_Name.conf" | "model.conf" => {
            let model = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', '[']));
            harvest.model = harvest.model.take().or(model.map(clean));
        }
        _ => {}
    }
}

/// The volumes of `volume.conf`: every section that says something of a volume.
fn volumes(harvest: &mut Harvest, text: &str) {
    for (section, pairs) in sections(text) {
        let value = |key: &str| find(&pairs, key);
        let settings = VolumeSettings {
            section,
            number: value("volId").or(value("volumeId")),
            mapping: value("mappingName"),
            raid: value("raidName").or(value("raidId")),
            encrypted: value("encryption").map(|value| is_yes(&value)),
            ssd_cache: value("ssdCache").map(|value| is_yes(&value)),
        };
        let says_something = settings.mapping.is_some() || settings.encrypted.is_some() || settings.ssd_cache.is_some();
        if says_something && harvest.volumes.len() < MAX_SECTIONS && !harvest.volumes.contains(&settings) {
            harvest.volumes.push(settings);
        }
    }
}

type Pairs = Vec<(String, String)>;

/// Sections with their pairs; what stands before the first section has an empty name.
fn sections(text: &str) -> Vec<(String, Pairs)> {
    let mut all = vec![(String::new(), Pairs::new())];
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            if all.len() < MAX_SECTIONS {
                all.push((clean(name), Pairs::new()));
            }
        } else if let (Some((key, value)), Some((_, pairs))) = (line.split_once('='), all.last_mut()) {
            if !line.starts_with('#') {
                pairs.push((key.trim().to_owned(), clean(value.trim().trim_matches('"'))));
            }
        }
    }
    all
}

fn find(pairs: &Pairs, key: &str) -> Option<String> {
    pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone())
}

fn clean(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(MAX_VALUE).collect()
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on" | "enable" | "enabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_from_their_sections() {
        let mut harvest = Harvest::default();
        let text = "[Global]\r\nVer = 2\r\n[VOL_1]\r\nvolId = 1\r\nraidName = \"/dev/md1\"\r\nencryption = yes\r\nssdCache=no\r\n\
                    mappingName = /dev/mapper/cachedev1\r\n[VOL_2]\nssdCache = yes\n# encryption = yes\n";
        take(&mut harvest, "volume.conf", text.as_bytes());
        let [first, second] = harvest.volumes.as_slice() else { panic!("{:?}", harvest.volumes) };
        assert_eq!((first.encrypted, first.ssd_cache), (Some(true), Some(false)));
        assert_eq!(first.mapping.as_deref(), Some("/dev/mapper/cachedev1"));
        assert_eq!((second.encrypted, second.ssd_cache, second.section.as_str()), (None, Some(true), "VOL_2"));
    }

    #[test]
    fn of_the_system_settings_only_model_and_version_are_taken() {
        let mut harvest = Harvest::default();
        let text = "[System]\nModel = TS-453Bmini\nVersion = 4.5.4\nAdmin Password = secret\n";
        take(&mut harvest, "uLinux.conf", text.as_bytes());
        assert_eq!((harvest.model.as_deref(), harvest.firmware.as_deref()), (Some("TS-453Bmini"), Some("4.5.4")));
        assert!(!format!("{harvest:?}").contains("secret"));
    }
}
