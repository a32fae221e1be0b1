//! Names of device-mapper devices, as LVM makes them, so that people find what they know.

/// `VG-LV`: joined with one dash, dashes inside a name doubled, so that no two pairs give the same name.
pub fn volume(group: &str, volume: &str) -> String {
    format!("{}-{}", doubled(group), doubled(volume))
}

/// `VG-LV-LAYER`: a hidden device of a volume, such as the pool proper (`tpool`).
pub fn layer(group: &str, volume: &str, layer: &str) -> String {
    format!("{}-{}-{layer}", doubled(group), doubled(volume))
}

/// Name of a thin device that no volume names.
pub fn unnamed_thin(group: &str, pool: &str, device: u64) -> String {
    layer(group, pool, &format!("thin{device}"))
}

/// Beginning of the names of windows on sources.
pub const SOURCE: &str = "tierlift-source-";
/// Beginning of the names of stores.
pub const STORE: &str = "tierlift-store-";
/// Beginning of the names of members with their overlays.
pub const MEMBER: &str = "tierlift-member-";

/// Read-only window on the place of member `number` on its disk.
pub fn source(number: u32) -> String {
    format!("{SOURCE}{number}")
}

/// The slice of the scratch disk that takes writes to member `number`.
pub fn store(number: u32) -> String {
    format!("{STORE}{number}")
}

/// Member `number`, with its overlay: the only device anything else is built on.
pub fn member(number: u32) -> String {
    format!("{MEMBER}{number}")
}

/// Path of the md device with this number.
pub fn array(number: u32) -> String {
    format!("/dev/md{number}")
}

/// The number in the kernel's name of an md device, "md100".
pub fn array_number(name: &str) -> Option<u32> {
    name.strip_prefix("md")?.parse().ok()
}

/// The number in a device name that begins with `prefix`.
pub fn number_of(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

fn doubled(name: &str) -> String {
    name.replace('-', "--")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_lvms() {
        assert_eq!(volume("vg1", "lv1"), "vg1-lv1");
        assert_eq!(volume("my-vg", "a-b"), "my--vg-a--b");
        assert_eq!(layer("vg1", "tp1", "tpool"), "vg1-tp1-tpool");
        assert_eq!(number_of(&member(12), MEMBER), Some(12));
    }

    proptest! {
        #[test]
        fn different_pairs_have_different_names(
            one in ("[a-b][ab-]{0,3}", "[a-b][ab-]{0,3}"),
            two in ("[a-b][ab-]{0,3}", "[a-b][ab-]{0,3}"),
        ) {
            prop_assume!(one != two);
            prop_assert_ne!(volume(&one.0, &one.1), volume(&two.0, &two.1));
        }
    }
}
