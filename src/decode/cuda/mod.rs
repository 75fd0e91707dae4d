//! Decoding on a GPU: only the final boxes of each image cross to the host.
//!
//! A [`Plan`] carried out by two kernels: one finds the best class of every candidate and keeps those above their
//! threshold, the other sorts them and suppresses. The structs of C layout are those of `src/cuda/kernels/decode.cuh`.

mod launch;

use std::ffi::c_void;

use cust::memory::{DeviceBuffer, DeviceCopy, LockedBuffer};
use cust::sys::{self, CUstream};

use crate::cuda::driver::check;
use crate::cuda::stream::finish_default_stream;
use crate::cuda::{CudaError, Kernels};
use crate::detection::{BoundingBox, Detection};
use crate::preprocess::Placement;

use super::nms::Candidate;
use super::plan::Plan;
use super::{Filter, Signs};

pub use super::MAX_CANDIDATES;
pub use launch::{Batch, Buffers, Launch, prior_bytes};

/// More boxes than this are never returned for an image.
pub const MAX_DETECTIONS: usize = 512;

const RULE_WORDS: usize = 16;
const FOUND_WORDS: usize = 4;
const FOUND_BOX_WORDS: usize = 8;

/// The type of an output tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OutputElement {
    F32 = 0,
    F16 = 1,
    I32 = 2,
    I64 = 3,
}

impl OutputElement {
    fn bytes(self) -> u64 {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
        }
    }
}

/// One of a network's outputs in the memory of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputTensor {
    pub address: u64,
    pub element: OutputElement,
}

/// What a network's outputs hold, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    plan: Plan,
    tensors: Vec<OutputTensor>,
    /// Classes that a threshold is set for.
    classes: usize,
}

impl Outputs {
    /// `tensors` are all of the network's outputs, in the network's order; `classes` those of its layout.
    pub fn new(plan: Plan, tensors: Vec<OutputTensor>, classes: usize) -> Self {
        Self {
            plan,
            tensors,
            classes,
        }
    }

    /// Candidates of an image.
    pub fn candidates(&self) -> usize {
        self.plan.candidates()
    }

    /// Thresholds that an image needs: one for each class, the background too.
    pub fn thresholds(&self) -> usize {
        self.classes
    }
}

/// What holds for one image of a batch.
#[derive(Clone, Copy, Debug)]
pub struct ImageRules<'a> {
    pub placement: Placement,
    /// Boxes of one class that overlap more than this are the same object.
    pub iou_threshold: f32,
    pub max_detections: usize,
    /// For each class; a box must score more. Below 0 counts as 0; infinity leaves a class out.
    pub thresholds: &'a [f32],
    pub filter: Filter,
}

/// A detection and the network's candidate that it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub detection: Detection,
    pub index: u32,
}

/// Words of 4 bytes that an image needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub rules: usize,
    pub found: usize,
    capacity: usize,
}

impl Sizes {
    /// For images of which at most `capacity` detections are wanted; more than [`MAX_DETECTIONS`] never are.
    pub fn new(outputs: &Outputs, capacity: usize) -> Self {
        let capacity = capacity.min(MAX_DETECTIONS);
        Self {
            rules: (RULE_WORDS + outputs.thresholds()).next_multiple_of(4),
            found: FOUND_WORDS + FOUND_BOX_WORDS * capacity,
            capacity,
        }
    }
}

/// Writes an image's rules as `ImageRules` of decode.cuh. Classes without a threshold are left out.
pub fn write_rules(words: &mut [u32], outputs: &Outputs, rules: &ImageRules) {
    let threshold = |class: usize| {
        rules
            .thresholds
            .get(class)
            .map_or(f32::INFINITY, |threshold| threshold.max(0.0))
    };
    let lowest = (0..outputs.thresholds())
        .map(threshold)
        .fold(f32::INFINITY, f32::min);
    let placement = &rules.placement;
    let (scale_x, scale_y) = placement.frame_pixels_per_input_pixel();
    let numbers = [
        placement.left as f32,
        placement.top as f32,
        scale_x,
        scale_y,
        placement.frame_width as f32,
        placement.frame_height as f32,
        rules.iou_threshold,
        lowest,
    ];
    let (head, tail) = words.split_at_mut(RULE_WORDS);
    head.fill(0);
    for (word, number) in head.iter_mut().zip(numbers) {
        *word = number.to_bits();
    }
    head[numbers.len()] = rules.max_detections.min(MAX_DETECTIONS) as u32;
    head[numbers.len() + 1] = rules.filter.class_agnostic.into();
    head[numbers.len() + 2] = rules.filter.sizes.smallest.to_bits();
    head[numbers.len() + 3] = rules.filter.sizes.largest.to_bits();
    head[numbers.len() + 4] = rules.filter.most_of_class.min(MAX_DETECTIONS) as u32;
    head[numbers.len() + 5] = rules.filter.soft_sigma.to_bits();
    for (class, word) in tail.iter_mut().enumerate() {
        *word = threshold(class).to_bits();
    }
}

/// The detections in an image's `Found` of decode.cuh, most confident first; turned boxes as the upright ones around
/// them, clipped to the frame.
pub fn read_found<'a>(
    words: &'a [u32],
    outputs: &Outputs,
    frame: (f32, f32),
) -> impl Iterator<Item = Found> + use<'a> {
    let (head, boxes) = words.split_at(FOUND_WORDS);
    let sources = &outputs.plan.sources;
    let turned = sources.iter().any(|source| source.boxes.angle.is_some());
    boxes
        .chunks_exact(FOUND_BOX_WORDS)
        .take(head[0] as usize)
        .map(move |words| {
            let number = |i: usize| f32::from_bits(words[i]);
            let candidate = Candidate {
                index: words[6],
                class_id: words[5],
                confidence: number(4),
                bounding_box: BoundingBox {
                    x: number(0),
                    y: number(1),
                    width: number(2),
                    height: number(3),
                },
                angle: turned.then_some(number(7)),
            };
            Found {
                detection: candidate.detection(frame),
                index: candidate.index,
            }
        })
}

/// The signs in an image's `Found` of decode.cuh.
pub fn read_signs(words: &[u32]) -> Signs {
    Signs::from_bits(words[2])
}

/// Decodes batches of one network. All memory is taken when it is made. Its context must be current
/// whenever it is used, and when it goes.
#[derive(Debug)]
pub struct Decoder {
    outputs: Outputs,
    sizes: Sizes,
    images: usize,
    batch: Batch,
    host_rules: LockedBuffer<u32>,
    /// Where the kernels write to.
    host_found: LockedBuffer<u32>,
    /// Of the frame of each image.
    placements: Vec<Placement>,
    device: DeviceBuffers,
}

/// The memory behind [`Buffers`].
#[derive(Debug)]
struct DeviceBuffers {
    rules: DeviceBuffer<u32>,
    priors: DeviceBuffer<u8>,
    candidate_boxes: DeviceBuffer<f32>,
    keys: DeviceBuffer<u64>,
    candidate_classes: DeviceBuffer<u32>,
    candidate_angles: DeviceBuffer<f32>,
    counts: DeviceBuffer<u32>,
    signs: DeviceBuffer<u32>,
}

impl DeviceBuffers {
    fn new(outputs: &Outputs, sizes: Sizes, images: usize) -> Result<Self, CudaError> {
        let candidates = outputs.candidates().max(1);
        let mut priors = prior_bytes(outputs);
        priors.resize(priors.len().max(1), 0);
        let buffers = Self {
            rules: device_buffer(sizes.rules * images)?,
            priors: DeviceBuffer::from_slice(&priors).map_err(CudaError::during("cuMemcpyHtoD"))?,
            candidate_boxes: device_buffer(4 * candidates * images)?,
            keys: device_buffer(candidates * images)?,
            candidate_classes: device_buffer(candidates * images)?,
            candidate_angles: device_buffer(candidates * images)?,
            counts: device_buffer(images)?,
            signs: device_buffer(images)?,
        };
        for words in [&buffers.counts, &buffers.signs] {
            let address = words.as_device_ptr().as_raw();
            // SAFETY: the buffer has as many words.
            check("cuMemsetD32", unsafe {
                sys::cuMemsetD32_v2(address, 0, images)
            })?;
        }
        // Other streams do not wait for it.
        finish_default_stream()?;
        Ok(buffers)
    }

    /// With the address of what the kernels write for the host.
    fn addresses(&self, found: u64) -> Buffers {
        Buffers {
            rules: self.rules.as_device_ptr().as_raw(),
            priors: self.priors.as_device_ptr().as_raw(),
            candidate_boxes: self.candidate_boxes.as_device_ptr().as_raw(),
            keys: self.keys.as_device_ptr().as_raw(),
            candidate_classes: self.candidate_classes.as_device_ptr().as_raw(),
            candidate_angles: self.candidate_angles.as_device_ptr().as_raw(),
            counts: self.counts.as_device_ptr().as_raw(),
            signs: self.signs.as_device_ptr().as_raw(),
            found,
        }
    }
}

fn device_buffer<T: DeviceCopy>(elements: usize) -> Result<DeviceBuffer<T>, CudaError> {
    // SAFETY: what is read of the buffers, kernels or copies have written before.
    unsafe { DeviceBuffer::uninitialized(elements) }.map_err(CudaError::during("cuMemAlloc"))
}

fn pinned_words(words: usize) -> Result<LockedBuffer<u32>, CudaError> {
    LockedBuffer::new(&0, words).map_err(CudaError::during("cuMemAllocHost"))
}

impl Decoder {
    /// For batches of up to `images` images and up to `capacity` detections in each.
    pub fn new(outputs: Outputs, images: usize, capacity: usize) -> Result<Self, CudaError> {
        let sizes = Sizes::new(&outputs, capacity);
        let device = DeviceBuffers::new(&outputs, sizes, images)?;
        let host_found = pinned_words(sizes.found * images)?;
        // Page-locked memory has one address for host and GPU ("Unified Addressing", CUDA Driver API): a few boxes that
        // kernels write there are sooner with the host than by a copy.
        let found = host_found.as_ptr() as u64;
        Ok(Self {
            batch: Batch::new(&outputs, sizes, device.addresses(found)),
            outputs,
            sizes,
            images,
            host_rules: pinned_words(sizes.rules * images)?,
            host_found,
            placements: vec![Placement::NONE; images],
            device,
        })
    }

    /// Sets what holds for an image of the next batch. Call it when the GPU is done with the last one.
    pub fn set_rules(&mut self, image: usize, rules: &ImageRules) {
        let words = self
            .host_rules
            .chunks_exact_mut(self.sizes.rules)
            .nth(image);
        if let (Some(words), Some(placement)) = (words, self.placements.get_mut(image)) {
            write_rules(words, &self.outputs, rules);
            *placement = rules.placement;
        }
    }

    /// Enqueues the way of the rules for the first `images` images to the GPU, which must come before the decoding. Can
    /// be captured into a CUDA graph, which then reads the rules that are set when it runs.
    ///
    /// # Safety
    /// The current context is the one of the decoder and the stream. Until the stream has passed this, the decoder
    /// lives and is not used.
    pub unsafe fn enqueue_rules(
        &mut self,
        stream: CUstream,
        images: usize,
    ) -> Result<(), CudaError> {
        // SAFETY: both buffers hold so many bytes for each image; the caller vouches for the stream.
        check("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(
                self.device.rules.as_device_ptr().as_raw(),
                self.host_rules.as_ptr().cast::<c_void>(),
                4 * self.sizes.rules * images.min(self.images),
                stream,
            )
        })
    }

    /// Enqueues the decoding of the first `images` images of the output tensors; the results are with the host when the
    /// stream has passed it. Can be captured into a CUDA graph.
    ///
    /// # Safety
    /// The current context is the one of the decoder, the kernels, the stream and the output tensors, which
    /// have the described sizes. Until the stream has passed this, the decoder lives and is not used.
    pub unsafe fn enqueue(
        &mut self,
        kernels: &Kernels,
        stream: CUstream,
        images: usize,
    ) -> Result<(), CudaError> {
        let images = images.min(self.images);
        if images == 0 {
            return Ok(());
        }
        // SAFETY: the addresses are those of the decoder's memory; the caller vouches for stream and tensors.
        unsafe { self.batch.launch(kernels, stream, images) }
    }

    /// The detections of an image, most confident first, once the stream has passed what was enqueued.
    pub fn found(&self, image: usize) -> impl Iterator<Item = Found> + '_ {
        let result = self.result(image).into_iter();
        result.flat_map(|(words, placement)| read_found(words, &self.outputs, frame_of(placement)))
    }

    /// What the outputs of an image say about the model, once the stream has passed what was enqueued.
    pub fn signs(&self, image: usize) -> Signs {
        let Some((words, placement)) = self.result(image) else {
            return Signs::default();
        };
        let mut signs = read_signs(words);
        for found in read_found(words, &self.outputs, frame_of(placement)) {
            signs.look_at(&placement.to_input(found.detection.bounding_box), placement);
        }
        signs
    }

    fn result(&self, image: usize) -> Option<(&[u32], &Placement)> {
        let words = self.host_found.chunks_exact(self.sizes.found).nth(image)?;
        Some((words, self.placements.get(image)?))
    }
}

fn frame_of(placement: &Placement) -> (f32, f32) {
    (placement.frame_width as f32, placement.frame_height as f32)
}
