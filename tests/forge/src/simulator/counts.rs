//! The counts of a space map in core: as they are now, and as the last commit left them.

use anyhow::Context;

/// Reference counts of one address space within one transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    now: Vec<u32>,
    committed: Vec<u32>,
    changed: Vec<u64>,
    since_commit: Vec<u64>,
    /// Where the search for a free block goes on, in a circle.
    cursor: usize,
    used: u64,
}

impl Counts {
    pub(super) fn new(blocks: u64) -> Self {
        let free = vec![0; blocks as usize];
        Self { now: free.clone(), committed: free, ..Self::default() }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.now.len() as u64
    }

    /// Blocks whose count is above 0.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn get(&self, block: u64) -> u32 {
        self.now[block as usize]
    }

    /// The counts of the blocks `first` and on, at most `length` of them.
    pub(super) fn part(&self, first: usize, length: usize) -> &[u32] {
        &self.now[first..self.now.len().min(first + length)]
    }

    /// Whether the last commit knows nothing of the block, so that it may be changed in place.
    pub(super) fn is_new(&self, block: u64) -> bool {
        self.committed[block as usize] == 0
    }

    /// Takes the next block that is free now and was free at the last commit. Like QNAP's kernels (seen in a genuine pool of
    /// version 2, whose index blocks only ever rise) and today's stock Linux, the search goes on where it ended.
    pub(super) fn allocate(&mut self) -> anyhow::Result<u64> {
        let free = |block: &usize| self.now[*block] == 0 && self.committed[*block] == 0;
        let mut circle = (self.cursor..self.now.len()).chain(0..self.cursor);
        let block = circle.find(free).context("the simulated space is full")?;
        self.cursor = block + 1;
        self.hold(block as u64);
        Ok(block as u64)
    }

    /// The search begins anew, as when the pool is activated.
    pub(super) fn restart(&mut self) {
        self.cursor = 0;
    }

    /// One reference more.
    pub(super) fn hold(&mut self, block: u64) {
        let count = &mut self.now[block as usize];
        *count += 1;
        self.used += u64::from(*count == 1);
        self.note(block);
    }

    /// One reference less; gives what is left.
    pub(super) fn release(&mut self, block: u64) -> u32 {
        let count = &mut self.now[block as usize];
        *count -= 1;
        let left = *count;
        if left == 0 {
            self.used -= 1;
        }
        self.note(block);
        left
    }

    fn note(&mut self, block: u64) {
        self.changed.push(block);
        self.since_commit.push(block);
    }

    /// The blocks whose counts changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<u64> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The counts of now are those of the last commit.
    pub(super) fn seal(&mut self) {
        for block in self.since_commit.drain(..) {
            self.committed[block as usize] = self.now[block as usize];
        }
        self.changed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_commit_holds_is_not_given_out() {
        let mut counts = Counts::new(4);
        assert_eq!((counts.allocate().unwrap(), counts.allocate().unwrap()), (0, 1));
        assert_eq!(counts.release(0), 0);
        assert_eq!(counts.allocate().unwrap(), 2, "the search goes on");
        counts.seal();
        counts.release(1);
        assert_eq!(counts.allocate().unwrap(), 3);
        assert_eq!(counts.allocate().unwrap(), 0, "in a circle; block 1 is still held by the last commit");
        counts.seal();
        assert_eq!((counts.allocate().unwrap(), counts.used()), (1, 4));
        assert!(counts.allocate().is_err());
    }

    #[test]
    fn after_a_restart_the_lowest_free_block_is_given_out() {
        let mut counts = Counts::new(4);
        (0..3).for_each(|block| assert_eq!(counts.allocate().unwrap(), block));
        counts.seal();
        counts.release(0);
        counts.seal();
        counts.restart();
        assert_eq!(counts.allocate().unwrap(), 0);
    }
}
