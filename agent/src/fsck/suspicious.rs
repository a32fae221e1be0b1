//! Files that e2fsck takes blocks from, or gives another length, or that share blocks with others: afterwards they look whole, and
//! hold zeros or foreign data.

/// Words by which lines are known that tell of such a file, in e2fsck's English.
const SIGNS: [&str; 18] = [
    "llegal block",
    "llegal indirect block",
    "llegal double indirect block",
    "llegal triple indirect block",
    "ultiply-claimed block",
    "invalid extent",
    "out of order extents",
    "zero length extent",
    "end of extent exceeds",
    "duplicate extent mapping",
    "corrupt extent header",
    "extent node level",
    "EXTENTS_FL",
    "overlaps filesystem metadata",
    "conflicts with critical metadata",
    "violates cluster allocation",
    "is too big",
    ", i_size is ",
];
/// The same where something could not be read: repairs go on behind that without it.
const ERRORS: [&str; 5] = [
    "reading indirect blocks of",
    "iterating over blocks in",
    "iterate extents in",
    "reading over extent tree in",
    "rror converting subcluster",
];
/// Stands behind the name of a file that shares blocks, and its number.
const SHARING: &str = ", mod time ";

/// Numbers of the files of which a line tells that.
pub(super) fn inodes(line: &str) -> impl Iterator<Item = u64> {
    let told = line.contains(SHARING) || SIGNS.iter().chain(&ERRORS).any(|sign| line.contains(sign));
    // "Inode 12", "inode 12" and "(inode #12": a name with such words in it only adds a file.
    let behind = line.split("node ").skip(1).filter(move |_| told);
    behind.filter_map(|rest| {
        let rest = rest.strip_prefix('#').unwrap_or(rest);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest.get(..digits)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsck::{Said, Way, run};
    use std::collections::BTreeSet;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    #[test]
    fn lines_name_files_that_lose_or_share_blocks() {
        let numbers = |line| inodes(line).collect::<Vec<_>>();
        for (line, expected) in [
            ("Inode 12 has an invalid extent node (blk 1550, lblk 0)", 12),
            ("Inode 12 has corrupt extent header.  Clear inode? yes", 12),
            ("Inode 12 has illegal block(s).  Clear? yes", 12),
            ("Illegal block #3 (4294967295) in inode 12.  CLEARED.", 12),
            ("Illegal indirect block (4294967280) in inode 14.  CLEARED.", 14),
            ("Inode 12, end of extent exceeds allowed value", 12),
            ("Inode 12, i_size is 5000, should be 20480.  Fix? yes", 12),
            ("Interior extent node level 1 of inode 12:", 12),
            ("Multiply-claimed block(s) in inode 12: 1172--1191", 12),
            ("File /a (inode #12, mod time Mon Nov 30 18:40:13 2026) ", 12),
            ("\t/b (inode #13, mod time Mon Nov 30 18:40:13 2026)", 13),
            (
                "Error reading block 80 (Input/output error) while reading indirect blocks of inode 12.  Ignore error? yes",
                12,
            ),
        ] {
            assert_eq!(numbers(line), [expected], "{line}");
        }
        for line in [
            "Inode 12, i_blocks is 812, should be 0.  Fix? yes",
            "Inode 12 extent tree (at level 1) could be shorter.  Optimize? yes",
            "Inode 12 ref count is 2, should be 1.  Fix? yes",
            "Unattached inode 12",
            "Entry 'many' in / (2) has deleted/unused inode 14.  Clear? yes",
            "  has 3 multiply-claimed block(s), shared with 1 file(s):",
            "Error reading block 123 (Input/output error) while reading inode and block bitmaps",
            "Inode 99999999999999999999999 has illegal block(s)",
            "Inode # has illegal block(s) in inode ",
        ] {
            assert_eq!(numbers(line), [0; 0], "{line}");
        }
    }

    /// A file system of whole files, and of one in many pieces.
    fn made(folder: &Path, kind: &str) -> PathBuf {
        let (tree, path) = (folder.join("tree"), folder.join("volume"));
        std::fs::create_dir_all(&tree).unwrap();
        for (name, byte) in [("one", 1), ("two", 2), ("whole", 3)] {
            std::fs::write(tree.join(name), vec![byte; 20_000]).unwrap();
        }
        let many = std::fs::File::create(tree.join("many")).unwrap();
        (0..3 << 20).step_by(8192).for_each(|place| many.write_all_at(&[9; 1024], place).unwrap());
        std::fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", kind, "-b", "1024", "-d"]).arg(&tree).arg(&path);
        assert!(mke2fs.status().unwrap().success());
        path
    }

    fn debugfs(path: &Path, line: &str) -> String {
        let said = Command::new("debugfs").args(["-w", "-R", line]).arg(path).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    }

    fn number(path: &Path, name: &str) -> u64 {
        let stat = debugfs(path, &format!("stat /{name}"));
        stat.strip_prefix("Inode: ").unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What a look and then a repair say; both must name the files.
    fn said(path: &Path) -> BTreeSet<u64> {
        let looked = run(path, Way::Look).unwrap();
        let Said { suspicious, .. } = run(path, Way::Repair).unwrap();
        assert_eq!(looked.suspicious, suspicious);
        assert!(run(path, Way::Look).unwrap().suspicious.is_empty());
        suspicious
    }

    #[test]
    fn two_files_with_the_same_blocks_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "ext4");
        let first = debugfs(&path, "blocks /one").split_whitespace().next().unwrap().to_owned();
        debugfs(&path, &format!("sif /two block[5] {first}"));
        let expected = ["one", "two"].map(|name| number(&path, name));
        assert_eq!(said(&path), expected.into());
    }

    #[test]
    fn a_file_without_its_list_of_blocks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "ext4");
        let stat = debugfs(&path, "stat /many");
        let list = stat.split("(ETB0):").nth(1).unwrap().split(&[',', '\n'][..]).next().unwrap();
        let volume = std::fs::File::options().write(true).open(&path).unwrap();
        volume.write_all_at(&[0; 1024], list.trim().parse::<u64>().unwrap() * 1024).unwrap();
        debugfs(&path, "sif /one block[5] 0x7fffffff");
        let expected = ["one", "many"].map(|name| number(&path, name));
        assert_eq!(said(&path), expected.into());
    }

    #[test]
    fn a_file_of_another_length_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "ext4");
        debugfs(&path, "sif /one size 5000");
        assert_eq!(said(&path), [number(&path, "one")].into());
    }

    #[test]
    fn files_with_impossible_blocks_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "ext2");
        debugfs(&path, "sif /one block[3] 0xfffffff0");
        debugfs(&path, "sif /many block[IND] 0xfffffff0");
        let expected = ["one", "many"].map(|name| number(&path, name));
        assert_eq!(said(&path), expected.into());
    }
}
