//! Stretches of other views, zeros and holes, put together in order.

use super::View;
use std::io;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// What lies behind one stretch.
#[derive(Clone)]
pub enum Piece {
    /// Bytes of another view, from this offset on.
    Part(View, Bytes),
    /// Zeros by definition.
    Zeros,
    /// Cannot be read; the text says why.
    Missing(String),
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Part(view, offset) => write!(f, "Part({} bytes, from {offset})", view.size()),
            Self::Zeros => f.write_str("Zeros"),
            Self::Missing(why) => write!(f, "Missing({why})"),
        }
    }
}

/// Stretches in order, read as one.
#[derive(Debug, Default)]
pub struct ConcatView {
    /// Each stretch with its first byte; lengths are positive, so starts are strictly rising.
    pieces: Vec<(Bytes, Piece)>,
    size: Bytes,
}

impl ConcatView {
    /// A view without any byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a stretch; one of length 0 changes nothing. Whether a [`Piece::Part`] is long enough shows when it is read.
    ///
    /// # Errors
    /// When the whole would be longer than 64 bits can say.
    pub fn push(&mut self, length: Bytes, piece: Piece) -> io::Result<()> {
        let end = self.size.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
        if length.0 > 0 {
            self.pieces.push((self.size, piece));
            self.size = end;
        }
        Ok(())
    }

    /// The stretch that holds `offset`: its first byte, the byte after it, and what it is.
    fn find(&self, offset: Bytes) -> Option<(Bytes, Bytes, &Piece)> {
        let next = self.pieces.partition_point(|(start, _)| *start <= offset);
        let end = self.pieces.get(next).map_or(self.size, |(start, _)| *start);
        let (start, piece) = self.pieces.get(next.checked_sub(1)?)?;
        (offset < end).then_some((*start, end, piece))
    }
}

impl ReadAt for ConcatView {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read_at(&self, mut offset: Bytes, mut buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(Bytes(buffer.len() as u64));
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buffer.is_empty() {
            let (start, end, piece) = self.find(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
            let left = end.0.saturating_sub(offset.0);
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(count);
            read_piece(piece, Bytes(offset.0.saturating_sub(start.0)), now)?;
            buffer = rest;
            offset = Bytes(offset.0.saturating_add(count as u64));
        }
        Ok(())
    }

    fn next_data(&self, mut offset: Bytes) -> Option<Bytes> {
        loop {
            let (start, end, piece) = self.find(offset)?;
            match data_in(piece, Bytes(offset.0.saturating_sub(start.0))) {
                Some(inside) if inside.0 < end.0.saturating_sub(start.0) => return start.checked_add(inside),
                _ => offset = end,
            }
        }
    }
}

fn data_in(piece: &Piece, inside: Bytes) -> Option<Bytes> {
    match piece {
        Piece::Zeros => None,
        Piece::Missing(_) => Some(inside),
        // Behind the end of a part that is too short there are errors, not holes.
        Piece::Part(view, base) => match base.checked_add(inside) {
            Some(place) if place < view.size() => view.next_data(place)?.checked_sub(*base),
            _ => Some(inside),
        },
    }
}

fn read_piece(piece: &Piece, inside: Bytes, buffer: &mut [u8]) -> io::Result<()> {
    match piece {
        Piece::Part(view, base) => {
            let place = base.checked_add(inside).ok_or(io::ErrorKind::UnexpectedEof)?;
            view.read_at(place, buffer)
        }
        Piece::Zeros => {
            buffer.fill(0);
            Ok(())
        }
        Piece::Missing(why) => Err(io::Error::other(why.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn sample() -> ConcatView {
        let base: View = Arc::new(b"0123456789".to_vec());
        let mut view = ConcatView::new();
        view.push(Bytes(3), Piece::Part(base.clone(), Bytes(7))).unwrap();
        view.push(Bytes(0), Piece::Zeros).unwrap();
        view.push(Bytes(2), Piece::Zeros).unwrap();
        view.push(Bytes(2), Piece::Missing("pv1 is missing".into())).unwrap();
        view.push(Bytes(4), Piece::Part(base, Bytes(0))).unwrap();
        view
    }

    #[test]
    fn stretches_are_read_across_their_borders() {
        let mut bytes = [0; 5];
        sample().read_at(Bytes(0), &mut bytes).unwrap();
        assert_eq!(&bytes, b"789\0\0");
        let mut bytes = [0; 3];
        sample().read_at(Bytes(8), &mut bytes).unwrap();
        assert_eq!(&bytes, b"123");
    }

    #[test]
    fn a_hole_is_an_error_and_never_zeros() {
        let mut byte = [0xaa; 1];
        for offset in [5, 6] {
            assert_eq!(sample().read_at(Bytes(offset), &mut byte).unwrap_err().to_string(), "pv1 is missing");
        }
        assert!(sample().read_at(Bytes(4), &mut [0; 2]).is_err());
    }

    #[test]
    fn zeros_are_a_hole_and_what_is_missing_is_not() {
        let told = [0, 3, 4, 5, 7, 11].map(|offset| sample().next_data(Bytes(offset)).map(|found| found.0));
        assert_eq!(told, [Some(0), Some(5), Some(5), Some(5), Some(7), None]);
        let mut short = ConcatView::new();
        short.push(Bytes(9), Piece::Part(Arc::new(vec![1; 4]), Bytes(0))).unwrap();
        assert_eq!(short.next_data(Bytes(5)), Some(Bytes(5)), "reads as an error, not as zeros");
    }

    #[test]
    fn the_end_is_the_end() {
        assert_eq!(sample().size(), Bytes(11));
        assert!(sample().read_at(Bytes(11), &mut []).is_ok());
        assert!(sample().read_at(Bytes(10), &mut [0; 2]).is_err());
        assert!(sample().push(Bytes(u64::MAX), Piece::Zeros).is_err());
    }
}
