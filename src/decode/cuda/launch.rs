//! What the kernels are launched with. The structs of C layout are those of `src/cuda/kernels/decode.cuh`.

use cust::sys::CUstream;

use super::{Outputs, Sizes};
use crate::cuda::{CudaError, Kernels};
use crate::decode::plan::{Activation, ClassOf, Source, View};

/// `Values` of decode.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Values {
    address: u64,
    image: u32,
    cell: u32,
    anchor: u32,
    value: u32,
    element: u32,
    reserved: u32,
}

impl Outputs {
    fn values(&self, view: Option<View>) -> Values {
        let tensor = view.and_then(|view| Some((view, self.tensors.get(view.output)?)));
        tensor.map_or_else(Values::default, |(view, tensor)| Values {
            address: tensor.address + view.offset as u64 * tensor.element.bytes(),
            image: view.image_stride as u32,
            cell: view.cell_stride as u32,
            anchor: view.anchor_stride as u32,
            value: view.value_stride as u32,
            element: tensor.element as u32,
            reserved: 0,
        })
    }
}

/// `DecodeBatch` of decode.cuh: everything that a launch needs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    scores: Values,
    background: Values,
    objectness: Values,
    class_numbers: Values,
    points: Values,
    extents: Values,
    angles: Values,
    count: Values,
    end: Values,
    priors: u64,
    cells: u32,
    anchors: u32,
    classes: u32,
    first_class: u32,
    known_classes: u32,
    activation: u32,
    objectness_sigmoid: u32,
    class_of: u32,
    box_format: u32,
    vertical_first: u32,
    bins: u32,
    point_sigmoid: u32,
    extent: u32,
    point_gain: f32,
    point_bias: f32,
    extent_gain: f32,
    scale_x: f32,
    scale_y: f32,
    peak_columns: u32,
    first_index: u32,
    total: u32,
    suppression: u32,
    rules_stride: u32,
    found_stride: u32,
    rules: u64,
    candidate_boxes: u64,
    keys: u64,
    candidate_classes: u64,
    candidate_angles: u64,
    counts: u64,
    signs: u64,
    found: u64,
    capacity: u32,
    reserved: u32,
}

/// The launches for a batch: one of the kernel `decode` for each source of candidates, then one of `suppress`.
#[derive(Clone, Debug)]
pub struct Batch {
    sources: Vec<Launch>,
}

/// Addresses of what the kernels write to and of what they read, for `images` images.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// [`Sizes::rules`] words of 4 bytes an image, written by `write_rules`.
    pub rules: u64,
    /// What [`prior_bytes`] gives.
    pub priors: u64,
    /// 16 bytes for each candidate of each image.
    pub candidate_boxes: u64,
    /// 8 bytes for each candidate of each image.
    pub keys: u64,
    /// 4 bytes for each candidate of each image.
    pub candidate_classes: u64,
    /// 4 bytes for each candidate of each image.
    pub candidate_angles: u64,
    /// 4 bytes for each image, 0 before the first batch; every batch leaves them so.
    pub counts: u64,
    /// As `counts`.
    pub signs: u64,
    /// [`Sizes::found`] words of 4 bytes an image, read by `read_found`.
    pub found: u64,
}

/// The priors of all sources one after the other, as the kernels read them.
pub fn prior_bytes(outputs: &Outputs) -> Vec<u8> {
    let sources = outputs.plan.sources.iter();
    let priors = sources.filter_map(|source| source.boxes.priors.as_deref());
    let numbers = priors
        .flatten()
        .flat_map(|p| [p.x, p.y, p.step_x, p.step_y, p.width, p.height]);
    numbers.flat_map(f32::to_ne_bytes).collect()
}

impl Launch {
    /// For a source whose first candidate has this number and whose priors lie at `priors`.
    fn new(
        outputs: &Outputs,
        source: &Source,
        first_index: usize,
        priors: u64,
        sizes: Sizes,
        buffers: &Buffers,
    ) -> Self {
        let Source { scores, boxes, .. } = source;
        let values = |view| outputs.values(view);
        let (class_of, first_class, class_numbers) = match scores.class {
            ClassOf::Score { first } => (0, first, None),
            ClassOf::Anchor => (1, 0, None),
            ClassOf::Output(view) => (2, 0, Some(view)),
        };
        let objectness = scores.objectness;
        Self {
            scores: values(Some(scores.view)),
            background: values(scores.background),
            objectness: values(objectness.map(|(view, _)| view)),
            class_numbers: values(class_numbers),
            points: values(Some(boxes.points)),
            extents: values(Some(boxes.extents)),
            angles: values(boxes.angle),
            count: values(source.count),
            end: values(source.end),
            priors: if boxes.priors.is_some() { priors } else { 0 },
            cells: source.cells as u32,
            anchors: source.anchors as u32,
            classes: scores.classes as u32,
            first_class: first_class as u32,
            known_classes: outputs.classes as u32,
            activation: match scores.activation {
                Activation::None => 0,
                Activation::Sigmoid => 1,
                Activation::Softmax => 2,
            },
            objectness_sigmoid: objectness.is_some_and(|(_, sigmoid)| sigmoid).into(),
            class_of,
            box_format: boxes.format as u32,
            vertical_first: boxes.vertical_first.into(),
            bins: boxes.bins as u32,
            point_sigmoid: boxes.point.sigmoid.into(),
            extent: boxes.extent as u32,
            point_gain: boxes.point.gain,
            point_bias: boxes.point.bias,
            extent_gain: boxes.extent_gain,
            scale_x: boxes.scale[0],
            scale_y: boxes.scale[1],
            peak_columns: source.peaks.unwrap_or(0) as u32,
            first_index: first_index as u32,
            total: outputs.candidates() as u32,
            suppression: outputs.plan.suppression as u32,
            rules_stride: 4 * sizes.rules as u32,
            found_stride: 4 * sizes.found as u32,
            rules: buffers.rules,
            candidate_boxes: buffers.candidate_boxes,
            keys: buffers.keys,
            candidate_classes: buffers.candidate_classes,
            candidate_angles: buffers.candidate_angles,
            counts: buffers.counts,
            signs: buffers.signs,
            found: buffers.found,
            capacity: sizes.capacity as u32,
            reserved: 0,
        }
    }

    /// Blocks of the kernel `decode`: 32 candidates each, for each image.
    pub fn decode_grid(&self, images: usize) -> [u32; 3] {
        [(self.cells * self.anchors).div_ceil(32), images as u32, 1]
    }

    /// Blocks of the kernel `suppress`: one for each image.
    pub fn suppress_grid(&self, images: usize) -> [u32; 3] {
        [images as u32, 1, 1]
    }
}

impl Batch {
    pub fn new(outputs: &Outputs, sizes: Sizes, buffers: Buffers) -> Self {
        let (mut first_index, mut priors) = (0, buffers.priors);
        let mut sources = Vec::with_capacity(outputs.plan.sources.len());
        for source in &outputs.plan.sources {
            let launch = Launch::new(outputs, source, first_index, priors, sizes, &buffers);
            sources.push(launch);
            first_index += source.candidates();
            let own = source.boxes.priors.as_deref().unwrap_or_default();
            priors += std::mem::size_of_val(own) as u64;
        }
        sources.retain(|launch| launch.cells * launch.anchors > 0);
        Self { sources }
    }

    /// What the kernel `decode` is launched with, in turn; `suppress` with any of them.
    pub fn launches(&self) -> &[Launch] {
        &self.sources
    }

    /// Enqueues the kernels for the first `images` images.
    ///
    /// # Safety
    /// The current context is the one of the kernels, the stream and every address, where memory of the
    /// described sizes lies until the stream has passed the launches.
    pub unsafe fn launch(
        &self,
        kernels: &Kernels,
        stream: CUstream,
        images: usize,
    ) -> Result<(), CudaError> {
        let Some(last) = self.sources.last().filter(|_| images > 0) else {
            return Ok(());
        };
        // SAFETY: the caller vouches for what the addresses name.
        unsafe {
            for source in &self.sources {
                let decode = &kernels.decode;
                decode.launch(source.decode_grid(images), stream, source)?;
            }
            let suppress = &kernels.suppress;
            suppress.launch(last.suppress_grid(images), stream, last)
        }
    }
}
