//! Decoding on a machine against the rules written plainly.

use gstrsdetectnet::decode::cuda::{
    Batch, Buffers, Found, ImageRules, MAX_CANDIDATES, OutputElement, OutputTensor, Outputs, Sizes,
    prior_bytes, read_found, write_rules,
};
use gstrsdetectnet::decode::{Evidence, Family, Filter, Layout};
use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::engine::{ElementType, TensorSpec};
use gstrsdetectnet::preprocess::{Anchor, InputGeometry, Placement, ResizeMode, TensorLayout};
use half::f16;

use crate::machine::Machine;
use crate::random::Random;

pub const INPUT: InputGeometry = InputGeometry {
    width: 640,
    height: 640,
    layout: TensorLayout::Nchw,
};

/// What a network returned for one image: for each anchor, scores of the classes from `first_class` on and
/// a box in pixels of the network's input.
struct Image {
    scores: Vec<Vec<f32>>,
    boxes: Vec<BoundingBox>,
}

/// The rules of one image, with its thresholds.
#[derive(Clone)]
pub struct Rules {
    pub placement: Placement,
    pub iou_threshold: f32,
    pub max_detections: usize,
    pub thresholds: Vec<f32>,
}

impl Rules {
    /// For a letterboxed frame of 1920x1080.
    pub fn hd(threshold: f32, classes: usize) -> Self {
        let resize = ResizeMode::Letterbox {
            fill: 114,
            anchor: Anchor::Center,
        };
        Self {
            placement: Placement::new(resize, INPUT, 1920, 1080),
            iou_threshold: 0.5,
            max_detections: 100,
            thresholds: vec![threshold; classes],
        }
    }

    pub fn borrowed(&self) -> ImageRules<'_> {
        ImageRules {
            placement: self.placement,
            iou_threshold: self.iou_threshold,
            max_detections: self.max_detections,
            thresholds: &self.thresholds,
            filter: Filter::NONE,
        }
    }
}

fn expected(image: &Image, first_class: usize, rules: &Rules) -> Vec<Found> {
    let mut candidates: Vec<Found> = Vec::new();
    for (anchor, (scores, input_box)) in image.scores.iter().zip(&image.boxes).enumerate() {
        let mut best = 0;
        for (class, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = class;
            }
        }
        let (class, confidence) = (first_class + best, scores[best]);
        if confidence <= rules.thresholds[class] {
            continue;
        }
        let (width, height) = (rules.placement.frame_width, rules.placement.frame_height);
        let frame_box = rules.placement.to_frame(*input_box);
        let frame_box = frame_box.clipped_to(width as f32, height as f32);
        // What lies beside the frame is no candidate.
        if frame_box.area() <= 0.0 {
            continue;
        }
        candidates.push(Found {
            detection: Detection {
                class_id: class as u32,
                confidence,
                bounding_box: frame_box,
                object_id: None,
                oriented: None,
            },
            index: anchor as u32,
        });
    }
    candidates.sort_by(|a, b| b.detection.confidence.total_cmp(&a.detection.confidence));
    candidates.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Found> = Vec::new();
    for candidate in candidates {
        let Detection {
            class_id,
            bounding_box,
            ..
        } = candidate.detection;
        let overlapped = kept.iter().any(|k| {
            k.detection.class_id == class_id
                && k.detection.bounding_box.iou(&bounding_box) > rules.iou_threshold
        });
        if !overlapped && kept.len() < rules.max_detections {
            kept.push(candidate);
        }
    }
    kept
}

fn assert_same(actual: &[Found], expected: &[Found]) {
    let identity = |found: &[Found]| -> Vec<(u32, u32, f32)> {
        let identity = |f: &Found| (f.index, f.detection.class_id, f.detection.confidence);
        found.iter().map(identity).collect()
    };
    assert_eq!(identity(actual), identity(expected));
    for (a, b) in actual.iter().zip(expected) {
        let (a, b) = (a.detection.bounding_box, b.detection.bounding_box);
        for (a, b) in [
            (a.x, b.x),
            (a.y, b.y),
            (a.right(), b.right()),
            (a.bottom(), b.bottom()),
        ] {
            assert!((a - b).abs() < 0.002, "{a} should be {b}");
        }
    }
}

/// A tensor of an element type, and its values as that type holds them.
pub fn rounded(element: OutputElement, values: &mut [f32]) -> Vec<u8> {
    match element {
        OutputElement::F16 => values
            .iter_mut()
            .flat_map(|v| {
                let half = f16::from_f32(*v);
                *v = half.to_f32();
                half.to_ne_bytes()
            })
            .collect(),
        _ => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
    }
}

/// Boxes in clusters, so that there is something to suppress; some reach over the edges.
pub fn clustered_box(random: &mut Random) -> BoundingBox {
    let cluster = random.below(25);
    let (column, row) = ((cluster % 5) as f32, (cluster / 5) as f32);
    BoundingBox::from_center(
        column * 150.0 + 20.0 + 30.0 * random.unit(),
        row * 140.0 + 30.0 + 30.0 * random.unit(),
        60.0 + 40.0 * random.unit(),
        50.0 + 40.0 * random.unit(),
    )
}

/// A YOLOv5 output of `images` images. Scores are multiples of 1/32, so that many are equal.
pub fn yolov5_values(images: usize, anchors: usize, classes: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut values = Vec::new();
    for _ in 0..images * anchors {
        let b = clustered_box(&mut random);
        values.extend([b.x + b.width / 2.0, b.y + b.height / 2.0, b.width, b.height]);
        values.extend((0..=classes).map(|_| random.below(33) as f32 / 32.0));
    }
    values
}

fn yolov5_images(values: &[f32], anchors: usize, classes: usize) -> Vec<Image> {
    values
        .chunks(anchors * (5 + classes))
        .map(|image| {
            let rows = || image.chunks(5 + classes);
            Image {
                scores: rows()
                    .map(|r| r[5..].iter().map(|s| s * r[4]).collect())
                    .collect(),
                boxes: rows()
                    .map(|r| BoundingBox::from_center(r[0], r[1], r[2], r[3]))
                    .collect(),
            }
        })
        .collect()
}

/// Background, scores, and boxes as corners 0 to 1.
fn ssd_values(images: usize, anchors: usize, classes: usize) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random::new(9);
    let (mut scores, mut boxes) = (Vec::new(), Vec::new());
    for _ in 0..images * anchors {
        scores.push(1.0);
        scores.extend((1..classes).map(|_| random.below(65) as f32 / 64.0));
        let b = clustered_box(&mut random);
        boxes.extend([b.x, b.y, b.right(), b.bottom()].map(|v| v / 640.0));
    }
    (scores, boxes)
}

fn ssd_images(scores: &[f32], boxes: &[f32], anchors: usize, classes: usize) -> Vec<Image> {
    scores
        .chunks(anchors * classes)
        .zip(boxes.chunks(anchors * 4))
        .map(|(scores, boxes)| Image {
            scores: scores
                .chunks(classes)
                .map(|row| row[1..].to_vec())
                .collect(),
            boxes: boxes
                .chunks(4)
                .map(|b| {
                    BoundingBox::from_corners(
                        b[0] * 640.0,
                        b[1] * 640.0,
                        b[2] * 640.0,
                        b[3] * 640.0,
                    )
                })
                .collect(),
        })
        .collect()
}

/// Decodes twice with the same buffers, since each batch must leave them ready for the next.
fn check(
    machine: &impl Machine,
    outputs: &Outputs,
    first_class: usize,
    images: &[Image],
    rules: &[Rules],
) {
    let sizes = Sizes::new(outputs, 300);
    let mut words = vec![0u32; sizes.rules * images.len()];
    for (words, rules) in words.chunks_exact_mut(sizes.rules).zip(rules) {
        write_rules(words, outputs, &rules.borrowed());
    }
    let rule_bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let buffers = buffers(machine, outputs, sizes, &rule_bytes, images.len());
    let batch = Batch::new(outputs, sizes, buffers);
    for _ in 0..2 {
        let words = run(machine, &batch, sizes, &buffers, images.len());
        for ((words, image), rules) in words.chunks_exact(sizes.found).zip(images).zip(rules) {
            let frame = frame_of(&rules.placement);
            let actual: Vec<Found> = read_found(words, outputs, frame).collect();
            assert_same(&actual, &expected(image, first_class, rules));
        }
    }
}

pub fn frame_of(placement: &Placement) -> (f32, f32) {
    (placement.frame_width as f32, placement.frame_height as f32)
}

/// What the kernels need, with rubbish where they are to write before they read.
pub fn buffers(
    machine: &impl Machine,
    outputs: &Outputs,
    sizes: Sizes,
    rules: &[u8],
    images: usize,
) -> Buffers {
    let candidates = outputs.candidates() * images;
    Buffers {
        rules: machine.upload(rules),
        priors: machine.upload(&prior_bytes(outputs)),
        candidate_boxes: machine.upload(&vec![0xff; 16 * candidates]),
        keys: machine.upload(&vec![0xff; 8 * candidates]),
        candidate_classes: machine.upload(&vec![0xff; 4 * candidates]),
        candidate_angles: machine.upload(&vec![0xff; 4 * candidates]),
        counts: machine.upload(&vec![0; 4 * images]),
        signs: machine.upload(&vec![0; 4 * images]),
        found: machine.upload(&vec![0xff; 4 * sizes.found * images]),
    }
}

/// The words of all images' results.
pub fn run(
    machine: &impl Machine,
    batch: &Batch,
    sizes: Sizes,
    buffers: &Buffers,
    images: usize,
) -> Vec<u32> {
    machine.decode(batch, images);
    let found = machine.download(buffers.found, 4 * sizes.found * images);
    let words = found.chunks_exact(4);
    words
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
        .collect()
}

/// The outputs of a family, of which only names and shapes are needed.
pub fn outputs(
    family: Family,
    named: &[(&str, Vec<i64>)],
    element: OutputElement,
    addresses: &[u64],
) -> Outputs {
    let spec = |(name, shape): &(&str, Vec<i64>)| TensorSpec {
        name: (*name).into(),
        element: ElementType::Float32,
        shape: shape.clone(),
    };
    let specs: Vec<_> = named.iter().map(spec).collect();
    let evidence = Evidence {
        decoder: Some(family),
        ..Evidence::new(&specs, INPUT)
    };
    let layout = Layout::recognize(&evidence).unwrap();
    let shapes: Vec<_> = specs.iter().map(|spec| spec.shape.clone()).collect();
    let plan = layout.plan(&shapes, INPUT, &specs).unwrap();
    let tensor = |&address: &u64| OutputTensor { address, element };
    Outputs::new(plan, addresses.iter().map(tensor).collect(), layout.classes)
}

pub fn yolov5_outputs(
    element: OutputElement,
    address: u64,
    anchors: usize,
    classes: usize,
) -> Outputs {
    let shape = vec![1, anchors as i64, 5 + classes as i64];
    outputs(Family::Yolov5, &[("output", shape)], element, &[address])
}

pub fn ssd_outputs(
    element: OutputElement,
    addresses: [u64; 2],
    anchors: usize,
    classes: usize,
) -> Outputs {
    let scores = ("scores", vec![1, anchors as i64, classes as i64]);
    let boxes = ("boxes", vec![1, anchors as i64, 4]);
    outputs(Family::Ssd, &[scores, boxes], element, &addresses)
}

fn check_yolov5(
    machine: &impl Machine,
    element: OutputElement,
    mut values: Vec<f32>,
    classes: usize,
    rules: &[Rules],
) {
    let address = machine.upload(&rounded(element, &mut values));
    let anchors = values.len() / rules.len() / (5 + classes);
    let outputs = yolov5_outputs(element, address, anchors, classes);
    let images = yolov5_images(&values, anchors, classes);
    check(machine, &outputs, 0, &images, rules);
}

pub fn yolov5_in_both_element_types(machine: &impl Machine) {
    for element in [OutputElement::F32, OutputElement::F16] {
        for (anchors, classes) in [(1000, 80), (333, 3), (50, 1)] {
            let values = yolov5_values(1, anchors, classes, 5);
            check_yolov5(
                machine,
                element,
                values,
                classes,
                &[Rules::hd(0.5, classes)],
            );
        }
    }
}

pub fn ssd_in_both_element_types(machine: &impl Machine) {
    let (anchors, classes) = (700, 91);
    for element in [OutputElement::F32, OutputElement::F16] {
        let (mut scores, mut boxes) = ssd_values(2, anchors, classes);
        let scores_address = machine.upload(&rounded(element, &mut scores));
        let boxes_address = machine.upload(&rounded(element, &mut boxes));
        let addresses = [scores_address, boxes_address];
        let outputs = ssd_outputs(element, addresses, anchors, classes);
        let images = ssd_images(&scores, &boxes, anchors, classes);
        let stretched = Rules {
            placement: Placement::new(ResizeMode::Stretch, INPUT, 1280, 720),
            ..Rules::hd(0.9, classes)
        };
        check(
            machine,
            &outputs,
            1,
            &images,
            &[Rules::hd(0.97, classes), stretched],
        );
    }
}

pub fn each_image_of_a_batch_has_its_own_rules(machine: &impl Machine) {
    let classes = 4;
    let mut rules: Vec<Rules> = (0..4).map(|_| Rules::hd(0.3, classes)).collect();
    rules[1].thresholds = vec![f32::INFINITY, 0.6, 0.1, 0.8];
    rules[1].iou_threshold = 0.2;
    rules[2].max_detections = 7;
    rules[2].placement = Placement::new(ResizeMode::Stretch, INPUT, 321, 123);
    rules[3].thresholds = vec![f32::INFINITY; classes];
    let values = yolov5_values(4, 500, classes, 6);
    check_yolov5(machine, OutputElement::F32, values, classes, &rules);
}

pub fn equal_scores_go_by_anchor(machine: &impl Machine) {
    let mut values = yolov5_values(1, 400, 2, 7);
    for row in values.chunks_mut(7) {
        row[4..].fill(0.75);
    }
    check_yolov5(
        machine,
        OutputElement::F32,
        values,
        2,
        &[Rules::hd(0.25, 2)],
    );
}

pub fn without_candidates_there_are_no_detections(machine: &impl Machine) {
    let values = yolov5_values(2, 40, 2, 8);
    let rules = [Rules::hd(1.0, 2), Rules::hd(0.4, 2)];
    check_yolov5(machine, OutputElement::F32, values, 2, &rules);
}

/// 25,200 anchors pass the threshold. The best 4,000 share ten places; each one after them has its own, so
/// that what is kept shows where the line was drawn.
pub fn of_too_many_candidates_the_highest_count(machine: &impl Machine) {
    let anchors = 25_200;
    let mut random = Random::new(11);
    let mut ranks: Vec<usize> = (0..anchors).collect();
    for i in (1..anchors).rev() {
        ranks.swap(i, random.below(i + 1));
    }
    for distinct_scores in [anchors, 200, 1] {
        let mut values = Vec::new();
        // Among equal scores the anchor decides, so that it then is the rank.
        for (anchor, rank) in ranks.iter().enumerate() {
            let level = rank * distinct_scores / anchors;
            let place = if *rank < 4000 { rank % 10 } else { rank - 3990 };
            let (x, y) = (
                (place % 160) as f32 * 4.0 + 2.0,
                (place / 160) as f32 * 4.0 + 2.0,
            );
            let (x, y) = if distinct_scores == 1 && anchor < 4000 {
                (2.0, 2.0)
            } else {
                (x, y)
            };
            values.extend([
                x,
                y,
                4.0,
                4.0,
                1.0,
                0.9 - 0.5 * level as f32 / anchors as f32,
            ]);
        }
        let mut rules = Rules::hd(0.25, 1);
        rules.placement = Placement::new(ResizeMode::Stretch, INPUT, 640, 640);
        rules.max_detections = 300;
        check_yolov5(machine, OutputElement::F32, values, 1, &[rules]);
    }
}
