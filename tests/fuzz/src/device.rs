//! A metadata device in memory that is mostly holes: cheap to copy, cheap to change, as long as anyone claims it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::rebuild::Output;

/// Length of a page; both block sizes are whole pages.
const PAGE: usize = 4096;

type Page = [u8; PAGE];

/// A sparse device. Copies share their pages until one of them is written.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pages: BTreeMap<u64, Arc<Page>>,
    unreadable: BTreeSet<u64>,
    length: u64,
}

impl Device {
    /// A device with this content.
    pub fn new(image: &[u8]) -> Self {
        let mut device = Self { length: image.len() as u64, ..Self::default() };
        device.write_at(0, image);
        device
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes it longer, with a hole, or shorter.
    pub fn set_length(&mut self, length: u64) {
        self.length = length;
        let kept = length.div_ceil(PAGE as u64);
        self.pages.retain(|number, _| *number < kept);
    }

    /// Writes bytes, also beyond the end.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len() as u64);
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (number, start) = (at / PAGE as u64, at as usize % PAGE);
            let (now, later) = rest.split_at(rest.len().min(PAGE - start));
            self.write_page(number, start, now);
            at += now.len() as u64;
            rest = later;
        }
    }

    fn write_page(&mut self, number: u64, start: usize, bytes: &[u8]) {
        let is_hole = !self.pages.contains_key(&number) && bytes.iter().all(|byte| *byte == 0);
        if is_hole {
            return;
        }
        let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(page)[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes a range give I/O errors.
    pub fn make_unreadable(&mut self, offset: u64, length: usize) {
        let pages = offset / PAGE as u64..(offset + length as u64).div_ceil(PAGE as u64);
        self.unreadable.extend(pages);
    }

    /// The bytes there, whatever the device would say; zeros beyond the end.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.copy(offset, &mut out);
        out
    }

    fn copy(&self, offset: u64, buffer: &mut [u8]) {
        let (mut at, mut done) = (offset, 0);
        while done < buffer.len() {
            let (number, start) = (at / PAGE as u64, at as usize % PAGE);
            let count = (buffer.len() - done).min(PAGE - start);
            let place = &mut buffer[done..done + count];
            match self.pages.get(&number) {
                Some(page) => place.copy_from_slice(&page[start..start + count]),
                None => place.fill(0),
            }
            at += count as u64;
            done += count;
        }
    }
}

impl ReadAt for Device {
    fn size(&self) -> Bytes {
        Bytes(self.length)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.0.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let pages = offset.0 / PAGE as u64..end.div_ceil(PAGE as u64);
        if !buffer.is_empty() && self.unreadable.range(pages).next().is_some() {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.copy(offset.0, buffer);
        Ok(())
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        let from = offset.0 / PAGE as u64;
        let first = |page: Option<u64>| page.map(|page| (page * PAGE as u64).max(offset.0));
        let data = first(self.pages.range(from..).next().map(|(page, _)| *page));
        let bad = first(self.unreadable.range(from..).next().copied());
        data.into_iter().chain(bad).min().filter(|at| *at < self.length).map(Bytes)
    }
}

impl Output for Device {
    fn write(&mut self, block: MetaBlock, bytes: &[u8]) -> io::Result<()> {
        let offset = block.0.checked_mul(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.write_at(offset, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_errors_and_ends_are_told() {
        let mut device = Device::new(&[0; 40_000]);
        device.write_at(9_000, &[7; 8_000]);
        device.make_unreadable(32_768, 4096);
        assert_eq!(device.next_data(Bytes(0)), Some(Bytes(8192)));
        assert_eq!(device.next_data(Bytes(9_001)), Some(Bytes(9_001)));
        assert_eq!(device.next_data(Bytes(20_480)), Some(Bytes(32_768)));
        assert_eq!(device.next_data(Bytes(36_864)), None);
        let mut buffer = [1; 10];
        device.read_at(Bytes(16_995), &mut buffer).unwrap();
        assert_eq!(buffer, [7, 7, 7, 7, 7, 0, 0, 0, 0, 0]);
        assert!(device.read_at(Bytes(32_760), &mut buffer).is_err());
        assert!(device.read_at(Bytes(39_995), &mut buffer).is_err());
        let copy = device.clone();
        device.set_length(9_010);
        assert!(
            device.read_at(Bytes(9_000), &mut buffer).is_ok() && device.read_at(Bytes(9_001), &mut buffer).is_err()
        );
        assert_eq!(copy.bytes(9_000, 8_000), [7; 8_000]);
    }
}
