//! Files of which nobody can tell any more where all their blocks are.
//!
//! A repair of the file system takes what it cannot follow out of such a file, and leaves a hole: zeros where there was content. So
//! these files must be known before a repair.

use super::blocks::Blocks;
use super::inode;
use super::layout::Layout;
use std::collections::BTreeSet;
use tierlift_ondisk::view::ReadAt;

/// Files kept in mind; file systems that lost more lists than this have hardly anything else.
const MOST: usize = 4 << 20;

/// Numbers of the files in use whose list of blocks cannot be read whole, or leads outside the volume. Empty where no such file system
/// is.
pub fn unlisted(view: &dyn ReadAt) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let Some(layout) = Layout::read(view) else { return found };
    let mut blocks = Blocks::new(view, &layout);
    inode::all(view, &layout, &mut |number, inode| {
        let whole = !inode.is_file() || blocks.of(inode, &mut |_| {});
        if !whole && found.len() < MOST {
            found.insert(number);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_file_without_the_list_of_its_blocks_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, path) = (folder.path().join("tree"), folder.path().join("volume"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("whole"), vec![7; 100_000]).unwrap();
        // Many pieces need a list in a block of its own.
        let many = std::fs::File::create(tree.join("many")).unwrap();
        for piece in 0..40 {
            std::os::unix::fs::FileExt::write_all_at(&many, &[9; 1024], piece * 8192).unwrap();
        }
        std::fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "1024", "-d"]).arg(&tree).arg(&path);
        assert!(mke2fs.status().unwrap().success());
        let say = |line: &str| {
            let said = Command::new("debugfs").args(["-R", line]).arg(&path).output().unwrap();
            String::from_utf8_lossy(&said.stdout).into_owned()
        };
        let stat = say("stat /many");
        let list: usize =
            stat.split("(ETB0):").nth(1).unwrap().split(&[',', '\n'][..]).next().unwrap().trim().parse().unwrap();
        let number: u64 = stat.strip_prefix("Inode: ").unwrap().split_whitespace().next().unwrap().parse().unwrap();
        let mut volume = std::fs::read(&path).unwrap();
        assert!(unlisted(&volume).is_empty());
        volume[list * 1024..][..1024].fill(0);
        assert_eq!(unlisted(&volume), [number].into());
    }
}
