//! Rows that begin where a cache line does: loads of whole registers then never take two lines.

use std::ops::{Deref, DerefMut, Range};

const CACHE_LINE: usize = 64;

#[derive(Debug)]
pub struct Aligned<T> {
    storage: Vec<T>,
    place: Range<usize>,
}

impl<T: Copy + Default> Aligned<T> {
    pub fn new(length: usize) -> Self {
        let storage = vec![T::default(); length + CACHE_LINE / size_of::<T>()];
        let start = storage.as_ptr().align_offset(CACHE_LINE);
        let start = start.min(storage.len() - length);
        Self {
            storage,
            place: start..start + length,
        }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.storage[self.place.clone()]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.place.clone()]
    }
}
