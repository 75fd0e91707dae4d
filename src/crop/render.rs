//! A frame in another size and format, in system memory, on one core, by the rules of [`super`].

use std::ops::Range;

use gst::glib;

use super::color;
use super::lanes::{Lanes, UpperTenBits};
use super::{Rectangle, copy};
use crate::frame::{Colorimetry, PixelFormat, SystemFrame, SystemFrameMut};
use crate::preprocess::cpu::TensorElement;
use crate::preprocess::cpu::bilinear::BilinearSampler;
use crate::preprocess::cpu::grid::{self, Grid};
use crate::preprocess::cpu::kernel::{Component, Finish, InstructionSet};
use crate::preprocess::scaled;

/// How a crop is made to fit a size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRsDetectNetCropResize")]
pub enum CropResize {
    #[default]
    #[enum_value(
        name = "Keep the aspect ratio, with black around the object",
        nick = "letterbox"
    )]
    Letterbox,
    #[enum_value(
        name = "Fill the size, whatever becomes of the aspect ratio",
        nick = "stretch"
    )]
    Stretch,
}

/// A format and size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    format: PixelFormat,
    colorimetry: Colorimetry,
    width: usize,
    height: usize,
}

/// What the tables depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Task {
    source: Shape,
    target: Shape,
    resize: CropResize,
}

/// Draws frames into others. Keeps what it computed for formats and sizes for the next frame of the same ones.
#[derive(Debug)]
pub struct Renderer {
    instructions: InstructionSet,
    task: Option<Task>,
    tables: Vec<Table>,
    /// The interpolated components of a row of the target, and one without anything.
    mixed: [Vec<f32>; 3],
    nothing: Vec<f32>,
    bytes: Lanes<u8>,
    words: Lanes<UpperTenBits>,
}

/// How one grid of the target is filled.
#[derive(Debug)]
struct Table {
    grid: &'static Grid,
    /// The part of the grid in which the picture lies.
    columns: Range<usize>,
    rows: Range<usize>,
    samplers: Vec<BilinearSampler>,
    finishes: [Finish; 3],
    black: [f32; 3],
}

impl Default for Renderer {
    fn default() -> Self {
        Self {
            instructions: InstructionSet::detect(),
            task: None,
            tables: Vec::new(),
            mixed: Default::default(),
            nothing: Vec::new(),
            bytes: Lanes::default(),
            words: Lanes::default(),
        }
    }
}

impl Renderer {
    /// Fills the target with the source. Frames without pixels leave it as it is.
    pub fn render(
        &mut self,
        source: &SystemFrame<'_>,
        target: &mut SystemFrameMut<'_>,
        resize: CropResize,
    ) {
        let task = Task {
            source: Shape {
                format: source.format,
                colorimetry: source.colorimetry,
                width: source.width,
                height: source.height,
            },
            target: Shape {
                format: target.format,
                colorimetry: target.colorimetry,
                width: target.width,
                height: target.height,
            },
            resize,
        };
        let (from, to) = (task.source, task.target);
        if from.width.min(from.height).min(to.width).min(to.height) == 0 {
            return;
        }
        if from == to {
            let whole = Rectangle {
                x: 0,
                y: 0,
                width: source.width,
                height: source.height,
            };
            return copy(source, whole, target);
        }
        self.fit(task);
        let mut tables = std::mem::take(&mut self.tables);
        for table in &mut tables {
            match target.format {
                PixelFormat::P010 => {
                    let mut lanes = std::mem::take(&mut self.words);
                    self.fill(table, source, target, &mut lanes);
                    self.words = lanes;
                }
                _ => {
                    let mut lanes = std::mem::take(&mut self.bytes);
                    self.fill(table, source, target, &mut lanes);
                    self.bytes = lanes;
                }
            }
        }
        self.tables = tables;
    }

    /// Makes the tables fit.
    fn fit(&mut self, task: Task) {
        if self.task == Some(task) {
            return;
        }
        let grids = grid::grids(task.target.format).iter();
        self.tables = grids.map(|grid| Table::new(grid, &task)).collect();
        let widest = task.target.width;
        self.mixed = [0, 1, 2].map(|_| vec![0.0; widest]);
        self.nothing = vec![0.0; widest];
        self.task = Some(task);
    }

    fn fill<T: TensorElement>(
        &mut self,
        table: &mut Table,
        source: &SystemFrame<'_>,
        target: &mut SystemFrameMut<'_>,
        lanes: &mut Lanes<T>,
    ) where
        Lanes<T>: WriteRow,
    {
        let (width, height) = table.grid.size(target.width, target.height);
        let plane = &mut target.planes[table.grid.plane];
        let (row_bytes, _) =
            target
                .format
                .plane_size(table.grid.plane, target.width, target.height);
        if table.columns.len() < width || table.rows.len() < height {
            lanes.fill(table, width);
            for y in 0..height {
                let row = &mut plane.data[y * plane.stride..][..row_bytes];
                lanes.write(table.grid, target.format, row);
            }
        }
        for sampler in &mut table.samplers {
            sampler.begin_frame();
        }
        let columns = table.columns.len();
        lanes.resize(columns);
        let first = table.columns.start * table.grid.step as usize;
        for (index, y) in table.rows.clone().enumerate() {
            self.sample(table, source, index);
            self.finish(table, lanes);
            let row = &mut plane.data[y * plane.stride..][..row_bytes];
            lanes.write(table.grid, target.format, &mut row[first..]);
        }
    }

    /// Has the samplers hold the source rows around a row of the picture.
    fn sample(&mut self, table: &mut Table, source: &SystemFrame<'_>, row: usize) {
        for sampler in &mut table.samplers {
            sampler.sample(source, row, self.instructions);
        }
    }

    /// Makes samples of the target of what the samplers hold.
    fn finish<T: TensorElement>(&mut self, table: &Table, lanes: &mut Lanes<T>) {
        let columns = table.columns.len();
        let mut components = [Component::Ready(&self.nothing[..columns]); 3];
        for sampler in &table.samplers {
            for (position, (component, _)) in sampler.grid.components().enumerate() {
                components[component] = sampler.component(position);
            }
        }
        let [first, second, third] = &mut self.mixed;
        let samples = [
            self.instructions.mix(components[0], &mut first[..columns]),
            self.instructions.mix(components[1], &mut second[..columns]),
            self.instructions.mix(components[2], &mut third[..columns]),
        ];
        for (component, _) in table.grid.components() {
            let finish = &table.finishes[component];
            self.instructions
                .finish_channel(samples, finish, lanes.component(component));
        }
    }
}

impl Table {
    fn new(grid: &'static Grid, task: &Task) -> Self {
        let Task { source, target, .. } = *task;
        let picture = picture(
            task.resize,
            (source.width, source.height),
            target.format,
            (target.width, target.height),
        );
        let (columns_step, rows_step) = match (grid.half_width, grid.half_height) {
            (false, _) => (1, 1),
            (true, false) => (2, 1),
            (true, true) => (2, 2),
        };
        let columns = picture.x / columns_step..(picture.x + picture.width).div_ceil(columns_step);
        let rows = picture.y / rows_step..(picture.y + picture.height).div_ceil(rows_step);
        // Where the grid's samples lie in the target's pixels: see rule 2 of `crate::preprocess`.
        let column = |x: usize| (x * columns_step - picture.x) as f64;
        let between_rows = if grid.half_height { 0.5 } else { 0.0 };
        let row = |y: usize| (y * rows_step - picture.y) as f64 + between_rows;
        let source_columns = columns
            .clone()
            .map(|x| scaled(column(x), source.width, picture.width));
        let source_rows = rows
            .clone()
            .map(|y| scaled(row(y), source.height, picture.height));
        let from = (source.format, source.colorimetry);
        let to = (target.format, target.colorimetry);
        let finishes = color::finishes(from, to);
        let counts = |component: usize| {
            grid.components()
                .any(|(target, _)| finishes[target].matrix[component] != 0.0)
        };
        let samplers = grid::grids(source.format)
            .iter()
            .filter(|grid| grid.components().any(|(component, _)| counts(component)))
            .map(|grid| {
                let size = (source.width, source.height);
                BilinearSampler::new(grid, size, source_columns.clone(), source_rows.clone())
            })
            .collect();
        Self {
            grid,
            columns,
            rows,
            samplers,
            finishes,
            black: color::black(to),
        }
    }

    /// What a component is for black, as [`Finish`] gives it.
    pub(super) fn black<T: TensorElement>(&self, component: usize) -> T {
        T::from_f32(self.black[component] * self.finishes[component].scale)
    }
}

/// Where a source of a size lies in a target of another, in pixels of the target, with whole chroma samples.
pub(super) fn picture(
    resize: CropResize,
    (source_width, source_height): (usize, usize),
    format: PixelFormat,
    (target_width, target_height): (usize, usize),
) -> Rectangle {
    let (columns, rows) = format.subsampling();
    let (mut width, mut height) = (target_width, target_height);
    if resize == CropResize::Letterbox {
        let ratio = (target_width as f64 / source_width as f64)
            .min(target_height as f64 / source_height as f64);
        let fit = |size: usize, step: usize, limit: usize| {
            let pixels = (size as f64 * ratio / step as f64).round() as usize * step;
            pixels.max(step).min(limit)
        };
        width = fit(source_width, columns, target_width);
        height = fit(source_height, rows, target_height);
    }
    let middle = |free: usize, step: usize| free / 2 - free / 2 % step;
    Rectangle {
        x: middle(target_width - width, columns),
        y: middle(target_height - height, rows),
        width,
        height,
    }
}

/// Lanes that can be written into a row of their grid.
trait WriteRow {
    fn write(&self, grid: &Grid, format: PixelFormat, row: &mut [u8]);
}

impl WriteRow for Lanes<u8> {
    fn write(&self, grid: &Grid, format: PixelFormat, row: &mut [u8]) {
        self.write_bytes(grid, format, row);
    }
}

impl WriteRow for Lanes<UpperTenBits> {
    fn write(&self, grid: &Grid, _: PixelFormat, row: &mut [u8]) {
        self.write_words(grid, row);
    }
}

impl<T: TensorElement> Lanes<T> {
    /// Makes a row of black.
    fn fill(&mut self, table: &Table, width: usize) {
        self.resize(width);
        for (component, _) in table.grid.components() {
            let black = table.black(component);
            self.component(component).fill(black);
        }
    }
}
