//! A row of samples, component by component, and how it is written into a plane.

use crate::frame::PixelFormat;
use crate::preprocess::cpu::TensorElement;
use crate::preprocess::cpu::grid::Grid;

/// A sample of [`PixelFormat::P010`]: ten bits in the upper part of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UpperTenBits(u16);

/// Rounded to nearest, halves to even; saturating.
impl TensorElement for UpperTenBits {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        // As for bytes in `preprocess::cpu`: the sum's unit is one, so that the integer is in its lowest bits.
        const UNIT_IS_ONE: f32 = 1.5 * 8_388_608.0;
        Self(((value.clamp(0.0, 1023.0) + UNIT_IS_ONE).to_bits() as u16) << 6)
    }
}

/// One lane for each component: Y, U, V or R, G, B.
#[derive(Debug, Default)]
pub(super) struct Lanes<T> {
    components: [Vec<T>; 3],
    /// For the bytes that stand for no component.
    opaque: Vec<u8>,
}

impl<T: TensorElement> Lanes<T> {
    pub fn resize(&mut self, width: usize) {
        for lane in &mut self.components {
            lane.resize(width, T::default());
        }
        self.opaque.resize(width, 255);
    }

    pub fn component(&mut self, component: usize) -> &mut [T] {
        &mut self.components[component]
    }
}

impl Lanes<u8> {
    /// Writes the components of a grid where they lie in a row that begins with the first position. Bytes of RGB
    /// pixels that stand for no colour become 255.
    pub fn write_bytes(&self, grid: &Grid, format: PixelFormat, row: &mut [u8]) {
        let step = grid.step as usize;
        let mut places: [Option<&[u8]>; 4] = [None; 4];
        for (component, shift) in grid.components() {
            places[shift as usize / 8] = Some(&self.components[component]);
        }
        if !format.is_yuv() {
            for place in &mut places {
                place.get_or_insert(&self.opaque);
            }
        }
        match (step, places) {
            (1, [Some(a), ..]) => interleave(row, [a]),
            (2, [Some(a), Some(b), ..]) => interleave(row, [a, b]),
            (3, [Some(a), Some(b), Some(c), _]) => interleave(row, [a, b, c]),
            (4, [Some(a), Some(b), Some(c), Some(d)]) => interleave(row, [a, b, c, d]),
            _ => {
                for (offset, lane) in places.into_iter().enumerate() {
                    let bytes = row.iter_mut().skip(offset).step_by(step);
                    for (byte, sample) in bytes.zip(lane.unwrap_or_default()) {
                        *byte = *sample;
                    }
                }
            }
        }
    }
}

impl Lanes<UpperTenBits> {
    /// As [`Lanes::write_bytes`], for samples of two bytes.
    pub fn write_words(&self, grid: &Grid, row: &mut [u8]) {
        for (component, shift) in grid.components() {
            let offset = shift as usize / 8;
            let positions = row.chunks_exact_mut(grid.step as usize);
            for (position, sample) in positions.zip(&self.components[component]) {
                position[offset..offset + 2].copy_from_slice(&sample.0.to_le_bytes());
            }
        }
    }
}

fn interleave<const N: usize>(row: &mut [u8], lanes: [&[u8]; N]) {
    let positions = row.as_chunks_mut::<N>().0;
    let length = lanes.iter().map(|lane| lane.len()).min().unwrap_or(0);
    let length = length.min(positions.len());
    let lanes = lanes.map(|lane| &lane[..length]);
    for (index, position) in positions[..length].iter_mut().enumerate() {
        *position = lanes.map(|lane| lane[index]);
    }
}
