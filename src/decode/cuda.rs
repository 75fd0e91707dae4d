//! Decoding on a GPU: only the final boxes of each image cross to the host.
//!
//! Two launches for a batch: one finds the best class of every anchor and keeps those above their threshold,
//! the other sorts them and suppresses. The structs of C layout are those of `src/cuda/kernels/decode.cuh`.

use std::ffi::c_void;

use cust::memory::{DeviceBuffer, DeviceCopy, LockedBuffer};
use cust::sys::{self, CUstream};

use crate::cuda::driver::check;
use crate::cuda::{CudaError, Kernels};
use crate::detection::{BoundingBox, Detection};
use crate::preprocess::InputGeometry;
use crate::preprocess::Placement;

/// More boxes than this are never returned for an image.
pub const MAX_DETECTIONS: usize = 512;

/// So many anchors of an image, those with the highest scores, take part in the suppression.
pub const MAX_CANDIDATES: usize = 4096;

const RULE_WORDS: usize = 12;
const FOUND_WORDS: usize = 2;
const FOUND_BOX_WORDS: usize = 7;

/// The type of an output tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OutputElement {
    F32 = 0,
    F16 = 1,
}

/// What the four values of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BoxFormat {
    /// Left, top, right, bottom.
    Corners = 0,
    /// Centre x, centre y, width, height.
    Centers = 1,
}

/// Values of an output tensor in the memory of a GPU. Strides count elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    pub address: u64,
    pub image_stride: usize,
    pub anchor_stride: usize,
    /// From one value of an anchor to the next.
    pub value_stride: usize,
}

/// Where a network's outputs hold what makes a box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outputs {
    pub element: OutputElement,
    pub anchors: usize,
    /// Scores of each anchor.
    pub classes: usize,
    /// The class of the first score.
    pub first_class: usize,
    /// Probabilities, 0 to 1.
    pub scores: Values,
    /// One value for each anchor that its scores are multiplied with.
    pub objectness: Option<Values>,
    pub boxes: Values,
    pub box_format: BoxFormat,
    /// Pixels of the network's input for one unit of a box, horizontally and vertically.
    pub box_scale: [f32; 2],
}

impl Outputs {
    /// SSD: `scores` [N, anchors, classes] whose class 0 is the background, and `boxes` [N, anchors, 4] as
    /// corners, 0 to 1 over the network's input.
    pub fn ssd(
        element: OutputElement,
        scores: u64,
        boxes: u64,
        anchors: usize,
        classes: usize,
        input: InputGeometry,
    ) -> Self {
        Self {
            element,
            anchors,
            classes: classes.saturating_sub(1),
            first_class: 1,
            scores: Values {
                address: scores + element.bytes(),
                image_stride: anchors * classes,
                anchor_stride: classes,
                value_stride: 1,
            },
            objectness: None,
            boxes: Values {
                address: boxes,
                image_stride: anchors * 4,
                anchor_stride: 4,
                value_stride: 1,
            },
            box_format: BoxFormat::Corners,
            box_scale: [input.width as f32, input.height as f32],
        }
    }

    /// YOLOv5: [N, anchors, 5 + classes] with centre x, centre y, width and height in pixels of the network's
    /// input, objectness, and the scores of the classes.
    pub fn yolov5(element: OutputElement, output: u64, anchors: usize, classes: usize) -> Self {
        let from = |value: u64| Values {
            address: output + value * element.bytes(),
            image_stride: anchors * (5 + classes),
            anchor_stride: 5 + classes,
            value_stride: 1,
        };
        Self {
            element,
            anchors,
            classes,
            first_class: 0,
            scores: from(5),
            objectness: Some(from(4)),
            boxes: from(0),
            box_format: BoxFormat::Centers,
            box_scale: [1.0, 1.0],
        }
    }

    /// Thresholds that an image needs: one for each class, the background too.
    pub fn thresholds(&self) -> usize {
        self.first_class + self.classes
    }
}

impl OutputElement {
    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
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
}

/// A detection and the network's anchor that it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub detection: Detection,
    pub anchor: u32,
}

/// `DecodeBatch` of decode.cuh: everything the two launches need.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    boxes: u64,
    scores: u64,
    objectness: u64,
    box_image: u32,
    box_anchor: u32,
    box_value: u32,
    score_image: u32,
    score_anchor: u32,
    score_class: u32,
    objectness_image: u32,
    objectness_anchor: u32,
    anchors: u32,
    classes: u32,
    first_class: u32,
    element: u32,
    box_format: u32,
    box_scale_x: f32,
    box_scale_y: f32,
    rules_stride: u32,
    rules: u64,
    candidate_boxes: u64,
    keys: u64,
    candidate_classes: u64,
    counts: u64,
    found: u64,
    found_stride: u32,
    capacity: u32,
}

/// Addresses of what the kernels write to and of the rules that they read, for `images` images.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// [`Sizes::rules`] words of 4 bytes an image, written by [`write_rules`].
    pub rules: u64,
    /// 16 bytes for each anchor of each image.
    pub candidate_boxes: u64,
    /// 8 bytes for each anchor of each image.
    pub keys: u64,
    /// 4 bytes for each anchor of each image.
    pub candidate_classes: u64,
    /// 4 bytes for each image, 0 before the first batch; every batch leaves them so.
    pub counts: u64,
    /// [`Sizes::found`] words of 4 bytes an image, read by [`read_found`].
    pub found: u64,
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

impl Batch {
    pub fn new(outputs: &Outputs, sizes: Sizes, buffers: Buffers) -> Self {
        let Outputs { boxes, scores, .. } = outputs;
        let objectness = outputs.objectness;
        Self {
            boxes: boxes.address,
            scores: scores.address,
            objectness: objectness.map_or(0, |o| o.address),
            box_image: boxes.image_stride as u32,
            box_anchor: boxes.anchor_stride as u32,
            box_value: boxes.value_stride as u32,
            score_image: scores.image_stride as u32,
            score_anchor: scores.anchor_stride as u32,
            score_class: scores.value_stride as u32,
            objectness_image: objectness.map_or(0, |o| o.image_stride as u32),
            objectness_anchor: objectness.map_or(0, |o| o.anchor_stride as u32),
            anchors: outputs.anchors as u32,
            classes: outputs.classes as u32,
            first_class: outputs.first_class as u32,
            element: outputs.element as u32,
            box_format: outputs.box_format as u32,
            box_scale_x: outputs.box_scale[0],
            box_scale_y: outputs.box_scale[1],
            rules_stride: 4 * sizes.rules as u32,
            rules: buffers.rules,
            candidate_boxes: buffers.candidate_boxes,
            keys: buffers.keys,
            candidate_classes: buffers.candidate_classes,
            counts: buffers.counts,
            found: buffers.found,
            found_stride: 4 * sizes.found as u32,
            capacity: sizes.capacity as u32,
        }
    }

    /// Blocks of the kernel `decode`: 32 anchors each, for each image.
    pub fn decode_grid(&self, images: usize) -> [u32; 3] {
        [self.anchors.div_ceil(32), images as u32, 1]
    }

    /// Blocks of the kernel `suppress`: one for each image.
    pub fn suppress_grid(&self, images: usize) -> [u32; 3] {
        [images as u32, 1, 1]
    }

    /// Enqueues both kernels for the first `images` images.
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
        if images == 0 || self.anchors == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for what the addresses name.
        unsafe {
            let decode = &kernels.decode;
            decode.launch(self.decode_grid(images), stream, self)?;
            let suppress = &kernels.suppress;
            suppress.launch(self.suppress_grid(images), stream, self)
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
    let lowest = (outputs.first_class..outputs.thresholds())
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
    for (class, word) in tail.iter_mut().enumerate() {
        *word = threshold(class).to_bits();
    }
}

/// The detections in an image's `Found` of decode.cuh, most confident first.
pub fn read_found(words: &[u32]) -> impl Iterator<Item = Found> + '_ {
    let (head, boxes) = words.split_at(FOUND_WORDS);
    boxes
        .chunks_exact(FOUND_BOX_WORDS)
        .take(head[0] as usize)
        .map(|words| {
            let number = |i: usize| f32::from_bits(words[i]);
            Found {
                detection: Detection {
                    class_id: words[5],
                    confidence: number(4),
                    bounding_box: BoundingBox {
                        x: number(0),
                        y: number(1),
                        width: number(2),
                        height: number(3),
                    },
                    object_id: None,
                },
                anchor: words[6],
            }
        })
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
    host_found: LockedBuffer<u32>,
    _device: DeviceBuffers,
}

/// The memory behind [`Buffers`].
#[derive(Debug)]
struct DeviceBuffers {
    rules: DeviceBuffer<u32>,
    candidate_boxes: DeviceBuffer<f32>,
    keys: DeviceBuffer<u64>,
    candidate_classes: DeviceBuffer<u32>,
    counts: DeviceBuffer<u32>,
    found: DeviceBuffer<u32>,
}

impl DeviceBuffers {
    fn new(anchors: usize, sizes: Sizes, images: usize) -> Result<Self, CudaError> {
        let buffers = Self {
            rules: device_buffer(sizes.rules * images)?,
            candidate_boxes: device_buffer(4 * anchors * images)?,
            keys: device_buffer(anchors * images)?,
            candidate_classes: device_buffer(anchors * images)?,
            counts: device_buffer(images)?,
            found: device_buffer(sizes.found * images)?,
        };
        // SAFETY: the buffer has as many words. The wait is for streams that do not wait for the default one.
        unsafe {
            let counts = buffers.counts.as_device_ptr().as_raw();
            check("cuMemsetD32", sys::cuMemsetD32_v2(counts, 0, images))?;
            let default_stream = std::ptr::null_mut();
            check(
                "cuStreamSynchronize",
                sys::cuStreamSynchronize(default_stream),
            )?;
        }
        Ok(buffers)
    }

    fn addresses(&self) -> Buffers {
        Buffers {
            rules: self.rules.as_device_ptr().as_raw(),
            candidate_boxes: self.candidate_boxes.as_device_ptr().as_raw(),
            keys: self.keys.as_device_ptr().as_raw(),
            candidate_classes: self.candidate_classes.as_device_ptr().as_raw(),
            counts: self.counts.as_device_ptr().as_raw(),
            found: self.found.as_device_ptr().as_raw(),
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
        let device = DeviceBuffers::new(outputs.anchors, sizes, images)?;
        Ok(Self {
            outputs,
            sizes,
            images,
            batch: Batch::new(&outputs, sizes, device.addresses()),
            host_rules: pinned_words(sizes.rules * images)?,
            host_found: pinned_words(sizes.found * images)?,
            _device: device,
        })
    }

    /// Sets what holds for an image of the next batch. Call it when the GPU is done with the last one.
    pub fn set_rules(&mut self, image: usize, rules: &ImageRules) {
        let words = self.sizes.rules;
        if let Some(words) = self.host_rules.chunks_exact_mut(words).nth(image) {
            write_rules(words, &self.outputs, rules);
        }
    }

    /// Enqueues the decoding of the first `images` images of the output tensors: the rules' way to the GPU,
    /// two kernels, the results' way back. Can be captured into a CUDA graph, which then reads the rules
    /// that are set when it runs.
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
        // SAFETY: both buffers hold so many bytes for each image; the caller vouches for stream and tensors.
        unsafe {
            check(
                "cuMemcpyHtoDAsync",
                sys::cuMemcpyHtoDAsync_v2(
                    self.batch.rules,
                    self.host_rules.as_ptr().cast::<c_void>(),
                    4 * self.sizes.rules * images,
                    stream,
                ),
            )?;
            self.batch.launch(kernels, stream, images)?;
            check(
                "cuMemcpyDtoHAsync",
                sys::cuMemcpyDtoHAsync_v2(
                    self.host_found.as_mut_ptr().cast::<c_void>(),
                    self.batch.found,
                    4 * self.sizes.found * images,
                    stream,
                ),
            )
        }
    }

    /// The detections of an image, most confident first, once the stream has passed what was enqueued.
    pub fn found(&self, image: usize) -> impl Iterator<Item = Found> + '_ {
        self.host_found
            .chunks_exact(self.sizes.found)
            .nth(image)
            .into_iter()
            .flat_map(read_found)
    }
}
