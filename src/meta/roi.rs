//! `GstVideoRegionOfInterestMeta`: one for each detection, with a `detection` parameter as DL Streamer's
//! elements read it (label_id, confidence, x_min, y_min, x_max, y_max from 0 to 1, object_id when tracked), `hash`
//! where it is wanted, `repeated` where an earlier frame's detection is attached again, and `predicted` where a tracker
//! expects the object in a frame that was not inspected.

use gst::glib;
use gst::glib::translate::IntoGlib;
use gst::prelude::*;
use gst_video::VideoRegionOfInterestMeta;

use super::message::FrameFacts;
use super::quarks::LabelQuarks;
use crate::detection::{BoundingBox, Detection, OrientedBox};
use crate::model::Labels;

const PARAMETER: &str = "detection";

/// The fields that every parameter has.
const FIELDS: [&str; 8] = [
    "label_id",
    "frame_width",
    "frame_height",
    "confidence",
    "x_min",
    "y_min",
    "x_max",
    "y_max",
];

/// A detection read back from a buffer, with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct LabeledDetection {
    pub label: String,
    pub detection: Detection,
    /// The frame of a batched buffer of nvstreammux, counted from 0; None for buffers of one frame.
    pub batch_id: Option<u32>,
    /// The grey thumbnail of the object, row by row, where `hash-size` asks for it.
    pub hash: Option<glib::Bytes>,
    /// It was found in an earlier frame, which looked the same.
    pub repeated: bool,
    /// It was not found but is expected there: the frame was not inspected, and its confidence is an earlier frame's.
    pub predicted: bool,
}

/// Attaches regions of interest to the buffers of one stream.
pub struct Regions {
    labels: LabelQuarks,
    /// A parameter with all fields that every one has.
    parameter: gst::Structure,
    /// The names of these, in the same order: to look one up takes a lock that all threads of the process share.
    fields: [glib::Quark; FIELDS.len()],
}

impl Default for Regions {
    fn default() -> Self {
        let fields = FIELDS.map(glib::Quark::from_str);
        let mut parameter = gst::Structure::new_empty(PARAMETER);
        fill(&mut parameter, fields, [0; 3], [0.0; 5]);
        Self {
            labels: LabelQuarks::default(),
            parameter,
            fields,
        }
    }
}

/// Sets [`FIELDS`]: the integers among them, and the numbers.
fn fill(
    parameter: &mut gst::StructureRef,
    fields: [glib::Quark; FIELDS.len()],
    integers: [i32; 3],
    numbers: [f64; 5],
) {
    let [label_id, frame_width, frame_height, numbered @ ..] = fields;
    for (field, integer) in [label_id, frame_width, frame_height]
        .into_iter()
        .zip(integers)
    {
        set(parameter, field, integer);
    }
    for (field, number) in numbered.into_iter().zip(numbers) {
        set(parameter, field, number);
    }
}

/// The one way to set a field whose name is not looked up that there is before GStreamer 1.26.
#[expect(deprecated, reason = "what replaces it looks the name up before 1.26")]
fn set(
    parameter: &mut gst::StructureRef,
    field: glib::Quark,
    value: impl Into<glib::Value> + Send,
) {
    parameter.set_by_quark(field, value);
}

impl Regions {
    /// Attaches the detections of a frame; `batch_id` tells the frames of a batched buffer apart.
    pub fn attach(
        &mut self,
        buffer: &mut gst::BufferRef,
        facts: &FrameFacts<'_>,
        batch_id: Option<u32>,
        detections: &[Detection],
        labels: &Labels,
    ) {
        let frame = batch_id.unwrap_or(0) as usize;
        for (index, detection) in detections.iter().enumerate() {
            let mut parameter = self.parameter(facts, detection);
            let hash = facts.object_hash(frame, index).map(glib::Bytes::from);
            parameter.set_if_some("object_id", detection.object_id.map(|id| id as i64));
            parameter.set_if_some("batch_id", batch_id.map(|id| id as i32));
            parameter.set_if_some("repeated", facts.repeated.then_some(true));
            parameter.set_if_some("predicted", facts.predicted.then_some(true));
            parameter.set_if_some("hash", hash);
            if let Some(OrientedBox { rectangle, angle }) = detection.oriented {
                parameter.set("oriented_x", f64::from(rectangle.x));
                parameter.set("oriented_y", f64::from(rectangle.y));
                parameter.set("oriented_w", f64::from(rectangle.width));
                parameter.set("oriented_h", f64::from(rectangle.height));
                parameter.set("oriented_angle", f64::from(angle));
            }
            let label = self.labels.of(detection.class_id, labels);
            let region = detection
                .bounding_box
                .covering_pixels(facts.width, facts.height);
            let mut meta = add(buffer, label, region);
            meta.add_param(parameter);
        }
    }

    /// What every parameter says.
    fn parameter(&self, facts: &FrameFacts<'_>, detection: &Detection) -> gst::Structure {
        let mut parameter = self.parameter.clone();
        let integers = [detection.class_id, facts.width, facts.height].map(|value| value as i32);
        let bounding_box = detection.bounding_box;
        let (width, height) = (f64::from(facts.width), f64::from(facts.height));
        let numbers = [
            f64::from(detection.confidence),
            f64::from(bounding_box.x) / width,
            f64::from(bounding_box.y) / height,
            f64::from(bounding_box.right()) / width,
            f64::from(bounding_box.bottom()) / height,
        ];
        fill(&mut parameter, self.fields, integers, numbers);
        parameter
    }
}

/// As `VideoRegionOfInterestMeta::add`, for a type whose name is not looked up.
fn add(
    buffer: &mut gst::BufferRef,
    roi_type: glib::Quark,
    (x, y, width, height): (u32, u32, u32, u32),
) -> gst::MetaRefMut<'_, VideoRegionOfInterestMeta, gst::meta::Standalone> {
    // SAFETY: the buffer is borrowed for writing as long as the meta, which the call adds, and cannot fail to.
    unsafe {
        let meta = gst_video::ffi::gst_buffer_add_video_region_of_interest_meta_id(
            buffer.as_mut_ptr(),
            roi_type.into_glib(),
            x,
            y,
            width,
            height,
        );
        VideoRegionOfInterestMeta::from_mut_ptr(buffer, meta)
    }
}

/// The detections that rsdetectnet attached to a buffer, in the order in which it attached them: best first.
pub fn detections(buffer: &gst::BufferRef) -> Vec<LabeledDetection> {
    buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .filter_map(|meta| {
            let parameter = meta.param(PARAMETER)?;
            let batch_id = parameter.get::<i32>("batch_id").ok();
            Some(LabeledDetection {
                label: meta.roi_type().to_owned(),
                detection: from_parameter(parameter)?,
                batch_id: batch_id.and_then(|id| id.try_into().ok()),
                hash: parameter.get("hash").ok(),
                repeated: parameter.get("repeated").unwrap_or(false),
                predicted: parameter.get("predicted").unwrap_or(false),
            })
        })
        .collect()
}

fn from_parameter(parameter: &gst::StructureRef) -> Option<Detection> {
    let width = f64::from(parameter.get::<i32>("frame_width").ok()?);
    let height = f64::from(parameter.get::<i32>("frame_height").ok()?);
    let corner = |name, size| Some((parameter.get::<f64>(name).ok()? * size) as f32);
    Some(Detection {
        class_id: parameter.get::<i32>("label_id").ok()?.try_into().ok()?,
        confidence: parameter.get::<f64>("confidence").ok()? as f32,
        bounding_box: BoundingBox::from_corners(
            corner("x_min", width)?,
            corner("y_min", height)?,
            corner("x_max", width)?,
            corner("y_max", height)?,
        ),
        object_id: parameter
            .get::<i64>("object_id")
            .ok()
            .map(|object_id| object_id as u64),
        oriented: oriented(parameter),
    })
}

fn oriented(parameter: &gst::StructureRef) -> Option<OrientedBox> {
    let number = |name| Some(parameter.get::<f64>(name).ok()? as f32);
    Some(OrientedBox {
        rectangle: BoundingBox {
            x: number("oriented_x")?,
            y: number("oriented_y")?,
            width: number("oriented_w")?,
            height: number("oriented_h")?,
        },
        angle: number("oriented_angle")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_what_is_read_back() {
        gst::init().unwrap();
        let labels = Labels::from_lines("cat\ndog");
        let given =
            [(1, 0.75, None), (0, 0.5, Some(7))].map(|(class_id, confidence, object_id)| {
                Detection {
                    class_id,
                    confidence,
                    bounding_box: BoundingBox::from_corners(10.25, 20.5, 110.75, 220.0),
                    object_id,
                    oriented: object_id.map(|_| OrientedBox {
                        rectangle: BoundingBox::from_corners(-3.5, 20.5, 110.75, 220.0),
                        angle: 0.75,
                    }),
                }
            });
        let mut buffer = gst::Buffer::new();
        let facts = FrameFacts {
            width: 640,
            height: 480,
            ..FrameFacts::default()
        };
        let mut regions = Regions::default();
        regions.attach(buffer.get_mut().unwrap(), &facts, None, &given, &labels);
        let read = detections(&buffer);
        assert_eq!(read.len(), 2);
        for (read, given) in read.iter().zip(given) {
            assert_eq!(read.label, labels.get(given.class_id));
            assert_eq!(read.detection.confidence, given.confidence);
            assert_eq!(read.detection.object_id, given.object_id);
            assert_eq!(read.detection.oriented, given.oriented);
            assert!(read.detection.bounding_box.iou(&given.bounding_box) > 0.99999);
        }
        let roi = buffer.meta::<VideoRegionOfInterestMeta>().unwrap();
        assert_eq!(roi.rect(), (10, 21, 101, 199));
    }

    #[test]
    fn regions_of_other_elements_are_not_detections() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        VideoRegionOfInterestMeta::add(buffer.get_mut().unwrap(), "face", (0, 0, 9, 9));
        assert_eq!(detections(&buffer), []);
    }
}
