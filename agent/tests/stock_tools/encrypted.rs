//! cryptsetup against encrypted volumes as we find and read them, and against our rule for passwords.

use super::{output, run, said};
use std::path::Path;
use tierlift::discover::inventory;
use tierlift::unlock::candidates;
use tierlift::volume;
use tierlift_forge::{ForgeOptions, Raid, forge_bare, forge_static};
use tierlift_ondisk::view::ReadAt;

const PASSWORD: &str = "TEST_PASSWORD";
/// What QNAP's firmware gives to cryptsetup for it ("docs/disk-layout, section 5.1").
const BY_QNAPS_RULE: &str = "$1$YCCaQNAP$pxXi3RLamBdUEIjkGd/Fu1";

/// Makes a file a LUKS volume with this passphrase.
pub(crate) fn format(file: &Path, kind: &str, passphrase: &str) {
    let mut arguments = vec!["luksFormat", "--batch-mode", "--type", kind, "--key-file", "-"];
    arguments.extend(["--pbkdf-force-iterations", "1000"]);
    let own: &[&str] = match kind {
        "luks1" => &["--cipher", "aes-cbc-essiv:sha256", "--hash", "sha1"],
        _ => &["--pbkdf", "pbkdf2"],
    };
    arguments.extend(own);
    let formatted = said(&output("cryptsetup", &arguments, file, passphrase.as_bytes()));
    assert!(formatted.success, "{}", formatted.text);
}

fn opens(file: &Path, passphrase: &str) -> bool {
    let arguments = ["open", "--test-passphrase", "--type", "luks", "--key-file", "-"];
    output("cryptsetup", &arguments, file, passphrase.as_bytes()).status.success()
}

#[test]
fn cryptsetup_agrees_on_encrypted_volumes() {
    for (kind, version, bare) in [("luks1", "1", false), ("luks1", "1", true), ("luks2", "2", false)] {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("luks.img");
        std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        format(&image, kind, BY_QNAPS_RULE);
        let options = ForgeOptions { compact: true, raid: Some(Raid::new(5, 3)), ..ForgeOptions::default() };
        let (forged, name) = if bare {
            (forge_bare(&image, &options, &dir.path().join("disks")).unwrap(), "volume")
        } else {
            (forge_static(&image, &options, &dir.path().join("disks")).unwrap(), "lv1")
        };
        // Without one disk: what cryptsetup sees was partly rebuilt.
        let found = inventory(&forged.disks[1..]).unwrap();
        let group = found.volume_groups.iter().position(|group| group.without_lvm == bare).unwrap();
        let view = volume::view(&found, group, name).unwrap();
        let mut bytes = vec![0; view.size().0 as usize];
        view.read_at(tierlift_ondisk::units::Bytes(0), &mut bytes).unwrap();
        let read = dir.path().join("read.img");
        std::fs::write(&read, &bytes).unwrap();
        let (ours, truth) = (run("cryptsetup", &["luksDump"], &read), run("cryptsetup", &["luksDump"], &image));
        assert!(ours.success, "{}", ours.text);
        assert_eq!(ours.value("Version", ":"), Some(version), "{}", ours.text);
        let named = |text: &str| text.lines().filter(|line| !line.contains(".img")).collect::<Vec<_>>().join("\n");
        assert_eq!(named(&ours.text), named(&truth.text));
        let candidates = candidates::of_password(PASSWORD);
        let fits: Vec<bool> = candidates.iter().map(|one| opens(&read, &one.passphrase.0)).collect();
        assert_eq!(fits.iter().position(|fits| *fits), Some(0), "{fits:?}");
        assert!(!opens(&read, PASSWORD));
    }
}
