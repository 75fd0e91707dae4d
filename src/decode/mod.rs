//! From output tensors to detections in pixels of the frame: one file for each family of networks.

pub mod classes;
pub mod cuda;
pub mod nms;
mod ssd;
mod yolo;

use crate::detection::{BoundingBox, Detection};
use crate::engine::{ElementType, Tensor, TensorSpec, describe};
use crate::preprocess::{Anchor, ChannelOrder, InputGeometry, Placement, Preparation, ResizeMode};

/// The families of output layouts that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `scores [N,A,C]` with class 0 the background, and `boxes [N,A,4]` as x1, y1, x2, y2 from 0 to 1.
    Ssd,
    /// One output `[N,A,5+C]`: centre x, centre y, width, height in pixels of the input, objectness, classes.
    Yolov5,
}

/// Which outputs of a network hold what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub family: Family,
    /// Number of classes, the background of SSD included, so that a class is an index into the labels.
    pub classes: usize,
    /// Indices into the network's outputs: (scores, boxes) for SSD; YOLO uses the first only.
    outputs: (usize, usize),
}

/// The outputs fit none of the families.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the model's outputs are not those of a detector that is understood here: {seen}. Understood are SSD \
     (scores [N,A,C] and boxes [N,A,4], float32) and YOLOv5 (one output [N,A,5+C], float32)"
)]
pub struct UnknownLayout {
    seen: String,
}

/// A run returned tensors of other shapes than the model had promised.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the network returned {name} of shape {shape:?}, which does not fit {family:?} with {classes} classes"
)]
pub struct UnexpectedShape {
    name: &'static str,
    shape: Vec<i64>,
    family: Family,
    classes: usize,
}

/// What is kept of the network's candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// What the confidence must exceed, by class; infinite for classes that are not wanted.
    pub thresholds: Vec<f32>,
    pub iou_threshold: f32,
    pub max_detections: usize,
}

impl Selection {
    fn wants(&self, class: usize, confidence: f32) -> bool {
        self.thresholds
            .get(class)
            .is_some_and(|threshold| confidence > *threshold)
    }

    /// Only candidates above this can be wanted.
    fn least_threshold(&self) -> f32 {
        self.thresholds
            .iter()
            .copied()
            .fold(f32::INFINITY, f32::min)
    }
}

impl Layout {
    /// Finds the family by names, types and shapes of the outputs.
    pub fn recognize(outputs: &[TensorSpec]) -> Result<Self, UnknownLayout> {
        ssd::recognize(outputs)
            .or_else(|| yolo::recognize(outputs))
            .ok_or_else(|| UnknownLayout {
                seen: describe(outputs),
            })
    }

    /// Indices into the network's outputs: scores and boxes of SSD, twice the only one of YOLOv5.
    pub fn outputs(&self) -> (usize, usize) {
        self.outputs
    }

    /// What the family's networks want done to pixels, where the model says nothing else. Networks that take
    /// bytes normalise them on their own.
    pub fn default_preparation(&self, input: ElementType) -> Preparation {
        let mut preparation = self.float_preparation();
        if input == ElementType::Uint8 {
            (preparation.mean, preparation.scale) = ([0.0; 3], [1.0; 3]);
        }
        preparation
    }

    fn float_preparation(&self) -> Preparation {
        match self.family {
            Family::Ssd => Preparation {
                resize: ResizeMode::Stretch,
                order: ChannelOrder::Rgb,
                mean: [127.5; 3],
                scale: [1.0 / 127.5; 3],
            },
            Family::Yolov5 => Preparation {
                resize: ResizeMode::Letterbox {
                    fill: 114,
                    anchor: Anchor::Center,
                },
                order: ChannelOrder::Rgb,
                mean: [0.0; 3],
                scale: [1.0 / 255.0; 3],
            },
        }
    }

    /// Replaces `detections` by those that the first image of the outputs holds, best first, in pixels of the
    /// frame and within it. `outputs` are all of the network's outputs, in the network's order.
    pub fn decode(
        &self,
        outputs: &[Tensor<'_>],
        input: InputGeometry,
        placement: &Placement,
        selection: &Selection,
        detections: &mut Vec<Detection>,
    ) -> Result<(), UnexpectedShape> {
        detections.clear();
        let mut keep = |class: usize, confidence: f32, in_input: BoundingBox| {
            let bounding_box = placement
                .to_frame(in_input)
                .clipped_to(placement.frame_width as f32, placement.frame_height as f32);
            if bounding_box.area() > 0.0 {
                detections.push(Detection {
                    class_id: class as u32,
                    confidence,
                    bounding_box,
                    object_id: None,
                });
            }
        };
        match self.family {
            Family::Ssd => ssd::decode(self, outputs, input, selection, &mut keep)?,
            Family::Yolov5 => yolo::decode(self, outputs, selection, &mut keep)?,
        }
        nms::suppress(
            detections,
            selection.iou_threshold,
            selection.max_detections,
        );
        Ok(())
    }

    /// The output at `index`, or an error if it is not `[N, anchors, row]` with at least one image.
    fn rows<'a>(
        &self,
        outputs: &[Tensor<'a>],
        index: usize,
        name: &'static str,
        row: usize,
    ) -> Result<&'a [f32], UnexpectedShape> {
        let unexpected = |shape: &[i64]| UnexpectedShape {
            name,
            shape: shape.to_vec(),
            family: self.family,
            classes: self.classes,
        };
        let tensor = outputs.get(index).ok_or_else(|| unexpected(&[]))?;
        match *tensor.shape {
            [images, anchors, last] if images >= 1 && last == row as i64 => {
                usize::try_from(anchors)
                    .ok()
                    .and_then(|anchors| tensor.data.get(..anchors.checked_mul(row)?))
                    .ok_or_else(|| unexpected(tensor.shape))
            }
            _ => Err(unexpected(tensor.shape)),
        }
    }
}

fn is_float_rank_3(spec: &TensorSpec) -> bool {
    spec.element == ElementType::Float32 && spec.shape.len() == 3
}

/// Index and value of the greatest entry; the first of equal ones. NaN is never the greatest.
fn arg_max(values: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::TensorLayout;

    fn spec(name: &str, shape: &[i64]) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            element: ElementType::Float32,
            shape: shape.to_vec(),
        }
    }

    const INPUT: InputGeometry = InputGeometry {
        width: 100,
        height: 100,
        layout: TensorLayout::Nchw,
    };

    fn selection(classes: usize) -> Selection {
        Selection {
            thresholds: vec![0.5; classes],
            iou_threshold: 0.5,
            max_detections: 10,
        }
    }

    #[test]
    fn ssd_is_recognized_by_its_names_in_any_order() {
        let outputs = [
            spec("boxes", &[-1, 1917, 4]),
            spec("scores", &[-1, 1917, 24]),
        ];
        let layout = Layout::recognize(&outputs).unwrap();
        assert_eq!((layout.family, layout.classes), (Family::Ssd, 24));
        assert_eq!(layout.outputs, (1, 0));
    }

    #[test]
    fn yolov5_is_recognized_and_has_no_background() {
        let layout = Layout::recognize(&[spec("output", &[1, 25200, 85])]).unwrap();
        assert_eq!((layout.family, layout.classes), (Family::Yolov5, 80));
    }

    #[test]
    fn outputs_of_no_known_detector_are_refused_with_what_was_seen() {
        for outputs in [
            vec![],
            vec![spec("probabilities", &[1, 1000])],
            vec![spec("output0", &[1, 84, 8400])],
            vec![spec("output0", &[1, 300, 6])],
            vec![spec("scores", &[1, 10, 4]), spec("boxes", &[1, 11, 4])],
        ] {
            let error = Layout::recognize(&outputs).unwrap_err().to_string();
            assert!(error.contains(&describe(&outputs)), "{error}");
        }
    }

    #[test]
    fn ssd_rows_become_boxes_of_the_frame_and_the_background_is_never_found() {
        let layout =
            Layout::recognize(&[spec("scores", &[1, 3, 3]), spec("boxes", &[1, 3, 4])]).unwrap();
        let scores = [0.9, 0.6, 0.1, 0.0, 0.2, 0.8, 1.0, 0.4, 0.3];
        let boxes = [0.1, 0.2, 0.5, 0.6, -0.1, 0.9, 0.5, 1.2, 0.0, 0.0, 1.0, 1.0];
        let placement = Placement::new(ResizeMode::Stretch, INPUT, 200, 50);
        let mut detections = Vec::new();
        layout
            .decode(
                &[
                    Tensor {
                        shape: &[1, 3, 3],
                        data: &scores,
                    },
                    Tensor {
                        shape: &[1, 3, 4],
                        data: &boxes,
                    },
                ],
                INPUT,
                &placement,
                &selection(3),
                &mut detections,
            )
            .unwrap();
        let found: Vec<_> = detections
            .iter()
            .map(|d| (d.class_id, d.confidence))
            .collect();
        assert_eq!(found, [(2, 0.8), (1, 0.6)]);
        let expected = [(0.0, 45.0, 100.0, 50.0), (20.0, 10.0, 100.0, 30.0)];
        for (detection, (left, top, right, bottom)) in detections.iter().zip(expected) {
            let wanted = BoundingBox::from_corners(left, top, right, bottom);
            assert!(
                detection.bounding_box.iou(&wanted) > 0.9999,
                "{detection:?}"
            );
        }
    }

    #[test]
    fn a_letterboxed_yolo_box_finds_back_into_the_frame() {
        let layout = Layout::recognize(&[spec("output", &[-1, -1, 7])]).unwrap();
        let resize = layout.default_preparation(ElementType::Float32).resize;
        let placement = Placement::new(resize, INPUT, 400, 200);
        assert_eq!((placement.left, placement.top), (0, 25));
        let rows = [
            50.0, 50.0, 20.0, 10.0, 0.9, 0.1, 0.8, //
            50.0, 50.0, 20.0, 10.0, 0.4, 1.0, 1.0,
        ];
        let mut detections = Vec::new();
        let output = [Tensor {
            shape: &[1, 2, 7],
            data: &rows,
        }];
        layout
            .decode(&output, INPUT, &placement, &selection(2), &mut detections)
            .unwrap();
        assert_eq!(detections.len(), 1);
        assert_eq!(detections[0].class_id, 1);
        assert!((detections[0].confidence - 0.72).abs() < 1e-6);
        let wanted = BoundingBox::from_corners(160.0, 80.0, 240.0, 120.0);
        assert!(detections[0].bounding_box.iou(&wanted) > 0.9999);
    }

    #[test]
    fn not_a_number_is_never_a_detection() {
        let layout = Layout::recognize(&[spec("output", &[-1, -1, 6])]).unwrap();
        let placement = Placement::new(ResizeMode::Stretch, INPUT, 100, 100);
        let nan = f32::NAN;
        let rows = [
            50.0, 50.0, 20.0, 10.0, 1.0, nan, //
            nan, 50.0, 20.0, 10.0, 1.0, 1.0,
        ];
        let mut detections = Vec::new();
        let output = [Tensor {
            shape: &[1, 2, 6],
            data: &rows,
        }];
        layout
            .decode(&output, INPUT, &placement, &selection(1), &mut detections)
            .unwrap();
        assert_eq!(detections, []);
    }

    #[test]
    fn a_run_that_returns_another_shape_is_an_error() {
        let layout = Layout::recognize(&[spec("output", &[-1, -1, 7])]).unwrap();
        let placement = Placement::new(ResizeMode::Stretch, INPUT, 100, 100);
        let output = [Tensor {
            shape: &[1, 1, 8],
            data: &[0.0; 8],
        }];
        let error = layout
            .decode(&output, INPUT, &placement, &selection(2), &mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains("[1, 1, 8]"), "{error}");
    }
}
