//! The files of an ext4 image as debugfs tells them, and what must become of them when parts of the image cannot be read. Nothing
//! of this comes from the program under test.

use super::sha256;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A range of bytes: offset and length.
pub type Range = (u64, u64);

/// What one unreadable block of a file costs at least: the kernel reads files in pages.
const PAGE: u64 = 4096;

/// Blocks in a row, by their place in the file and on the volume.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// `None` for blocks that only list others.
    logical: Option<u64>,
    physical: u64,
    count: u64,
}

/// A file or directory.
#[derive(Debug)]
struct Node {
    /// Block of the volume its inode lies in.
    inode_block: u64,
    runs: Vec<Run>,
}

/// A file system.
#[derive(Debug)]
pub struct Tree {
    block_size: u64,
    /// Content of each file, by path below the root.
    pub files: BTreeMap<String, Vec<u8>>,
    nodes: BTreeMap<String, Node>,
}

/// What must become of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// All of it is there.
    Whole,
    /// These ranges are lost.
    Damaged(Vec<Range>),
    /// Its inode, or a directory on the way to it, is lost: nothing leads to it.
    Unreachable,
}

impl Tree {
    /// Reads an image; `None` when no ext4 file system is on it. A journal left behind is played back first, on the image.
    pub fn read(image: &Path) -> Option<Self> {
        let head = debugfs(image, "show_super_stats -h");
        let block_size = field(&head, "Block size:")?.parse().unwrap();
        if head.contains("needs_recovery") {
            let replayed = Command::new("e2fsck").args(["-E", "journal_only", "-y"]).arg(image).output().unwrap();
            assert!(replayed.status.code().unwrap() <= 1, "{replayed:?}");
        }
        let folder = tempfile::TempDir::new().unwrap();
        debugfs(image, &format!("rdump / {}", folder.path().display()));
        let mut tree = Self { block_size, files: BTreeMap::new(), nodes: BTreeMap::new() };
        tree.node(image, "");
        tree.walk(image, folder.path(), Path::new(""));
        Some(tree)
    }

    fn walk(&mut self, image: &Path, root: &Path, below: &Path) {
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            let name = path.to_str().unwrap().to_owned();
            let kind = entry.file_type().unwrap();
            if name == "lost+found" || kind.is_symlink() {
                continue;
            }
            self.node(image, &name);
            if kind.is_dir() {
                self.walk(image, root, &path);
            } else {
                self.files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }

    fn node(&mut self, image: &Path, path: &str) {
        let stat = debugfs(image, &format!("stat \"/{path}\""));
        let inode = stat.strip_prefix("Inode: ").unwrap().split_whitespace().next().unwrap().to_owned();
        let place = debugfs(image, &format!("imap <{inode}>"));
        let inode_block = place.split("located at block ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        let blocks =
            stat.split_once("EXTENTS:").or_else(|| stat.split_once("BLOCKS:")).map_or("", |(_, blocks)| blocks);
        let runs = blocks.split([',', '\n']).filter_map(run).collect();
        self.nodes.insert(path.to_owned(), Node { inode_block, runs });
    }

    /// What must become of each file when these ranges of the volume cannot be read.
    pub fn expect(&self, lost: &[Range]) -> BTreeMap<String, Expected> {
        self.files.iter().map(|(path, content)| (path.clone(), self.one(path, content, lost))).collect()
    }

    /// What is lost of a file that nothing leads to any more; `None` when its inode is lost, too.
    pub fn nameless(&self, path: &str, lost: &[Range]) -> Option<Vec<Range>> {
        let node = &self.nodes[path];
        (!self.touches(lost, node.inode_block, 1)).then(|| self.lost_of(node, &self.files[path], lost))
    }

    fn one(&self, path: &str, content: &[u8], lost: &[Range]) -> Expected {
        let above = Path::new(path).ancestors().skip(1).map(|path| &self.nodes[path.to_str().unwrap()]);
        let hidden = |node: &Node| self.touches(lost, node.inode_block, 1);
        let unread = |node: &Node| node.runs.iter().any(|run| self.touches(lost, run.physical, run.count));
        if above.into_iter().any(|node| hidden(node) || unread(node)) || hidden(&self.nodes[path]) {
            return Expected::Unreachable;
        }
        let ranges = self.lost_of(&self.nodes[path], content, lost);
        if ranges.is_empty() { Expected::Whole } else { Expected::Damaged(ranges) }
    }

    /// The pages of a file that are lost.
    fn lost_of(&self, node: &Node, content: &[u8], lost: &[Range]) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let size = content.len() as u64;
        for page in (0..size).step_by(PAGE as usize) {
            let length = PAGE.min(size - page);
            if !self.page_is_lost(node, page, lost) {
                continue;
            }
            match ranges.last_mut() {
                Some((offset, before)) if *offset + *before == page => *before += length,
                _ => ranges.push((page, length)),
            }
        }
        ranges
    }

    fn page_is_lost(&self, node: &Node, page: u64, lost: &[Range]) -> bool {
        let (first, count) = (page / self.block_size, (PAGE / self.block_size).max(1));
        node.runs.iter().any(|run| {
            let Some(logical) = run.logical else { return self.touches(lost, run.physical, run.count) };
            let (start, end) = (first.max(logical), (first + count).min(logical + run.count));
            start < end && self.touches(lost, run.physical + start - logical, end - start)
        })
    }

    fn touches(&self, lost: &[Range], block: u64, count: u64) -> bool {
        let (start, end) = (block * self.block_size, (block + count) * self.block_size);
        lost.iter().any(|(offset, length)| *offset < end && start < offset + length)
    }
}

/// The hash of a file with zeros where it is lost, as manifests have it.
pub fn hash_without(content: &[u8], lost: &[Range]) -> String {
    let mut content = content.to_vec();
    for (offset, length) in lost {
        content[usize::try_from(*offset).unwrap()..][..usize::try_from(*length).unwrap()].fill(0);
    }
    sha256(&content)
}

fn debugfs(image: &Path, line: &str) -> String {
    let said = Command::new("debugfs").args(["-R", line]).arg(image).output().unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// `(0-3):1234-1237`, `(4):1300`, `(ETB0):33`, `(IND):33`; blocks that were only set aside, `(5-6)[u]:…`, are not content.
fn run(text: &str) -> Option<Run> {
    let (place, blocks) = text.trim().strip_prefix('(')?.split_once("):")?;
    let (physical, count) = span(blocks)?;
    Some(Run { logical: span(place).map(|(logical, _)| logical), physical, count })
}

fn span(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u64 = first.parse().ok()?;
    Some((first, last.parse::<u64>().ok()? - first + 1))
}

/// Writes the image of a volume to a file.
pub fn image_of(bytes: &[u8], path: &Path) -> PathBuf {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (number, piece) in bytes.chunks(1 << 16).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)) {
        file.write_all_at(piece, (number as u64) << 16).unwrap();
    }
    path.to_owned()
}
