//! Memory for crops, which come in every size: what the last user let go of, the next one gets.

use std::sync::{Arc, Mutex, Weak};

use crate::lock;

/// More unused memory than this is given back to the system.
const MOST_UNUSED: usize = 32 << 20;

#[derive(Debug, Default)]
struct Unused {
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

/// Pieces of memory that wait for their next use.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Unused>>);

/// Memory that goes back to its shelf when it is dropped, on whatever thread that is.
#[derive(Debug)]
pub struct Piece {
    /// May be longer than what was asked for.
    bytes: Vec<u8>,
    size: usize,
    shelf: Weak<Mutex<Unused>>,
}

impl Shelf {
    /// Memory of this size with anything in it: the smallest unused piece that is large enough, or a new one.
    pub fn take(&self, size: usize) -> Piece {
        let unused = {
            let mut unused = lock(&self.0);
            let large_enough = unused.pieces.iter().enumerate();
            let best = large_enough
                .filter(|(_, piece)| piece.len() >= size)
                .min_by_key(|(_, piece)| piece.len())
                .map(|(index, _)| index);
            best.map(|index| {
                let piece = unused.pieces.swap_remove(index);
                unused.bytes -= piece.len();
                piece
            })
        };
        Piece {
            // The system's own zeroes, which nobody writes.
            bytes: unused.unwrap_or_else(|| vec![0; size]),
            size,
            shelf: Arc::downgrade(&self.0),
        }
    }
}

impl AsMut<[u8]> for Piece {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.size]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(shelf) = self.shelf.upgrade() {
            let mut unused = lock(&shelf);
            if unused.bytes + bytes.len() <= MOST_UNUSED {
                unused.bytes += bytes.len();
                unused.pieces.push(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_piece_that_fits_is_used_again() {
        let shelf = Shelf::default();
        let (mut small, mut large) = (shelf.take(1000), shelf.take(5000));
        let (at_small, at_large) = (small.as_mut().as_ptr(), large.as_mut().as_ptr());
        drop((large, small));
        let mut again = shelf.take(900);
        assert_eq!(
            (again.as_mut().len(), again.as_mut().as_ptr()),
            (900, at_small)
        );
        // It was asked for less meanwhile, and is still as large as it was.
        drop(again);
        let mut whole = shelf.take(1000);
        assert_eq!(
            (whole.as_mut().len(), whole.as_mut().as_ptr()),
            (1000, at_small)
        );
        assert_eq!(shelf.take(1001).as_mut().as_ptr(), at_large);
    }

    #[test]
    fn no_more_than_the_limit_is_kept_and_a_gone_shelf_keeps_nothing() {
        let shelf = Shelf::default();
        let pieces: Vec<_> = (0..5).map(|_| shelf.take(MOST_UNUSED / 4)).collect();
        drop(pieces);
        assert_eq!(lock(&shelf.0).pieces.len(), 4);
        let late = shelf.take(10);
        drop(shelf);
        drop(late);
    }
}
