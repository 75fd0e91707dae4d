//! What the streaming thread makes of an inspected frame for the pads `crops` and `detections`.

use super::crop_caps::native_info;
use super::crops_pad::{CropBatch, StagedCrop};
use super::memory::Format;
use super::output_settings::OutputSettings;
use super::outputs::{Overflows, Wanted};
use crate::crop::recycle::Shelf;
use crate::crop::select::{Rules, Selector};
use crate::crop::{Rectangle, copy};
use crate::detection::Detection;
use crate::detector::Timings;
use crate::frame::buffer::FrameShape;
use crate::frame::memory::Memory;
use crate::frame::{FrameError, SystemFrame};
use crate::meta::crop::{self, CropDetails};
use crate::meta::json;
use crate::meta::message::FrameFacts;
use crate::model::Labels;

const NOT_IN_SYSTEM_MEMORY: &str =
    "crops are cut from frames in system memory so far; put a download before this element";

/// A frame that has been inspected, before anything is drawn into it.
pub(super) struct InspectedFrame<'a> {
    pub format: &'a Format,
    pub buffer: &'a gst::BufferRef,
    pub facts: FrameFacts,
    pub timings: Timings,
    /// By frame of the buffer; only batches of nvstreammux have more than one.
    pub detections: &'a [Vec<Detection>],
    pub labels: &'a Labels,
}

/// What a frame gave for each pad; a pad without anything gets a gap.
#[derive(Debug, Default)]
pub(super) struct Produced {
    pub line: Option<gst::Buffer>,
    pub crops: Option<CropBatch>,
    /// Crops that were not cut out since there is no room for them.
    pub crops_without_room: usize,
    /// Why nothing is cut out, the first time.
    pub not_cut: Option<&'static str>,
}

/// Makes what is wanted of each frame; kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Producer {
    pub wanted: Wanted,
    /// What the lines call this stream where the settings do not say.
    pub element_name: String,
    settings: OutputSettings,
    rules: Rules,
    selector: Selector,
    shelf: Shelf,
    /// It was told that crops cannot be cut out of frames like these.
    warned_of_memory: bool,
    produced: Produced,
}

impl Producer {
    /// Takes over settings and the rules that they make with the model's labels.
    pub fn apply(&mut self, settings: &OutputSettings, crop_rules: Rules) {
        self.rules = crop_rules;
        self.settings = settings.clone();
    }

    /// What came before is another picture.
    pub fn forget_past(&mut self) {
        self.selector = Selector::default();
    }

    pub fn overflows(&self) -> Overflows {
        Overflows {
            lines: self.settings.json_overflow,
            crops: self.settings.crop_overflow,
        }
    }

    pub fn frame_inspected(&mut self, frame: &InspectedFrame<'_>) -> Result<(), FrameError> {
        self.produced = Produced::default();
        let empty = frame.detections.iter().all(Vec::is_empty);
        if self.wanted.line && (!empty || self.settings.json_empty) {
            self.produced.line = self.line(frame);
        }
        match frame.format.memory {
            _ if !self.wanted.crops => {}
            Memory::System => match frame.detections {
                [found] if !found.is_empty() => self.cut(frame, found)?,
                _ => {}
            },
            Memory::Cuda | Memory::Nvmm => {
                let told = std::mem::replace(&mut self.warned_of_memory, true);
                self.produced.not_cut = (!told).then_some(NOT_IN_SYSTEM_MEMORY);
            }
        }
        Ok(())
    }

    /// What the latest frame gave.
    pub fn take(&mut self) -> Produced {
        std::mem::take(&mut self.produced)
    }

    fn line(&self, frame: &InspectedFrame<'_>) -> Option<gst::Buffer> {
        let source = self.settings.json_source.as_ref();
        let line = json::line(
            source.unwrap_or(&self.element_name),
            &frame.facts,
            &frame.timings,
            frame.detections,
            frame.labels,
        );
        let mut buffer = gst::Buffer::from_mut_slice(line.ok()?);
        let edit = buffer.get_mut()?;
        edit.set_pts(frame.facts.pts);
        edit.set_duration(frame.buffer.duration());
        Some(buffer)
    }

    /// Copies the pixels of the crops out of the frame: the frame itself goes on, and is drawn into. All that takes
    /// longer happens on the pad's own thread.
    fn cut(
        &mut self,
        frame: &InspectedFrame<'_>,
        detections: &[Detection],
    ) -> Result<(), FrameError> {
        let frame_shape = &frame.format.shape;
        let selected = self.selector.select(
            &self.rules,
            detections,
            frame_shape.format(),
            frame_shape.size(),
            frame.facts.pts,
        );
        if selected.is_empty() || !self.wanted.room_for_crops {
            self.produced.crops_without_room = selected.len();
            return Ok(());
        }
        let mapped = frame_shape.read(frame.buffer)?;
        let view = mapped.view()?;
        let crops = selected
            .iter()
            .map(|selected| {
                let detection = &detections[selected.detection];
                self.stage(frame, &view, detection, selected.rectangle)
            })
            .collect::<Result<_, _>>()?;
        self.produced.crops = Some(CropBatch {
            crops,
            resize: self.settings.crop_resize,
        });
        Ok(())
    }

    fn stage(
        &self,
        frame: &InspectedFrame<'_>,
        view: &SystemFrame<'_>,
        detection: &Detection,
        rectangle: Rectangle,
    ) -> Result<StagedCrop, FrameError> {
        let (width, height) = (rectangle.width as u32, rectangle.height as u32);
        let shape = native_info(&frame.format.shape.info, width, height)
            .and_then(FrameShape::new)
            .ok_or(FrameError::NotMapped("cropping"))?;
        let memory = self.shelf.take(shape.info.size());
        let mut buffer = gst::Buffer::from_mut_slice(memory);
        let edit = buffer.make_mut();
        copy(view, rectangle, &mut shape.write(edit)?.view()?);
        edit.set_pts(frame.facts.pts);
        edit.set_dts(frame.buffer.dts());
        edit.set_duration(frame.buffer.duration());
        let details = details(frame, detection, rectangle);
        // The meta is registered with the plugin, so that this cannot fail.
        let _ = crop::attach(edit, &details);
        Ok(StagedCrop { buffer, shape })
    }
}

fn details(frame: &InspectedFrame<'_>, detection: &Detection, rectangle: Rectangle) -> CropDetails {
    CropDetails {
        label: frame.labels.get(detection.class_id).to_owned(),
        label_id: detection.class_id,
        confidence: detection.confidence,
        x: rectangle.x as u32,
        y: rectangle.y as u32,
        width: rectangle.width as u32,
        height: rectangle.height as u32,
        frame_width: frame.facts.width,
        frame_height: frame.facts.height,
        frame: frame.facts.number,
        object_id: detection.object_id,
    }
}

#[cfg(test)]
mod tests {
    use gst_video::{VideoFormat, VideoInfo};

    use super::*;
    use crate::detection::BoundingBox;
    use crate::meta::crop::crop_details;

    fn random(state: &mut u32, below: f32) -> f32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 8) as f32 / (1 << 24) as f32 * below
    }

    fn detections(number: u32, width: f32, height: f32) -> Vec<Detection> {
        let mut state = 1;
        let detection = |class_id| {
            let (x, y) = (random(&mut state, width), random(&mut state, height));
            let (right, bottom) = (
                x + random(&mut state, width / 3.0),
                y + random(&mut state, height / 3.0),
            );
            Detection {
                class_id,
                confidence: 0.9,
                bounding_box: BoundingBox::from_corners(x, y, right, bottom)
                    .clipped_to(width, height),
                object_id: None,
                oriented: None,
            }
        };
        (0..number).map(detection).collect()
    }

    fn in_memory(memory: Memory, shape: &FrameShape) -> Format {
        Format {
            shape: shape.clone(),
            memory,
        }
    }

    #[test]
    fn five_hundred_objects_of_an_odd_frame_are_cut_out_bit_by_bit_and_told() {
        gst::init().unwrap();
        for format in [VideoFormat::Nv12, VideoFormat::Yuy2, VideoFormat::Bgr] {
            let info = VideoInfo::builder(format, 641, 361).build().unwrap();
            let shape = FrameShape::new(info.clone()).unwrap();
            let format = in_memory(Memory::System, &shape);
            let noise =
                (0..info.size() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
            let buffer = gst::Buffer::from_mut_slice(noise.collect::<Vec<_>>());
            let detections = detections(500, 641.0, 361.0);
            let mut producer = Producer {
                wanted: Wanted {
                    line: true,
                    crops: true,
                    room_for_crops: true,
                },
                ..Producer::default()
            };
            let inspected = InspectedFrame {
                format: &format,
                buffer: &buffer,
                facts: FrameFacts {
                    number: 3,
                    pts: None,
                    stream_time: None,
                    running_time: None,
                    width: 641,
                    height: 361,
                },
                timings: Timings::default(),
                detections: std::slice::from_ref(&detections),
                labels: &Labels::numbered(500),
            };
            producer.frame_inspected(&inspected).unwrap();
            let produced = producer.take();
            let line = produced.line.unwrap();
            let line: serde_json::Value =
                serde_json::from_slice(&line.map_readable().unwrap()).unwrap();
            assert_eq!(line["objects"].as_array().unwrap().len(), 500);
            let crops = produced.crops.unwrap().crops;
            assert_eq!(crops.len(), 500);
            let frame = shape.read(&buffer).unwrap();
            let frame = frame.view().unwrap();
            for (crop, class) in crops.iter().zip(0..) {
                let details = crop_details(&crop.buffer).unwrap();
                assert_eq!((details.label_id, details.frame), (class, 3));
                let mapped = crop.shape.read(&crop.buffer).unwrap();
                assert_same_pixels(&mapped.view().unwrap(), &frame, &details);
            }
        }
    }

    fn assert_same_pixels(crop: &SystemFrame<'_>, frame: &SystemFrame<'_>, details: &CropDetails) {
        let (width, height) = (details.width as usize, details.height as usize);
        assert_eq!((crop.width, crop.height), (width, height));
        for plane in 0..frame.format.planes() {
            let (x, y) = (details.x as usize, details.y as usize);
            let (left, top) = frame.format.plane_size(plane, x, y);
            let (bytes, rows) = frame.format.plane_size(plane, width, height);
            let (crop, frame) = (crop.planes[plane], frame.planes[plane]);
            for row in 0..rows {
                let given = &crop.data[row * crop.stride..][..bytes];
                let wanted = &frame.data[(top + row) * frame.stride + left..][..bytes];
                assert_eq!(given, wanted, "{details:?}");
            }
        }
    }

    #[test]
    fn without_room_crops_are_counted_but_not_made() {
        gst::init().unwrap();
        let info = VideoInfo::builder(VideoFormat::Rgb, 64, 64)
            .build()
            .unwrap();
        let shape = FrameShape::new(info.clone()).unwrap();
        let format = in_memory(Memory::System, &shape);
        let buffer = gst::Buffer::with_size(info.size()).unwrap();
        let detections = detections(5, 64.0, 64.0);
        let mut producer = Producer::default();
        producer.wanted.crops = true;
        let facts = FrameFacts {
            number: 0,
            pts: None,
            stream_time: None,
            running_time: None,
            width: 64,
            height: 64,
        };
        let inspected = InspectedFrame {
            format: &format,
            buffer: &buffer,
            facts,
            timings: Timings::default(),
            detections: std::slice::from_ref(&detections),
            labels: &Labels::numbered(5),
        };
        producer.frame_inspected(&inspected).unwrap();
        let produced = producer.take();
        assert!(produced.crops.is_none() && produced.line.is_none());
        assert_eq!(produced.crops_without_room, 5);
    }
    #[test]
    fn frames_of_a_gpu_give_lines_and_one_warning_instead_of_crops() {
        gst::init().unwrap();
        let info = VideoInfo::builder(VideoFormat::Nv12, 64, 64)
            .build()
            .unwrap();
        let shape = FrameShape::new(info).unwrap();
        let buffer = gst::Buffer::new();
        let batch = [
            detections(2, 64.0, 64.0),
            Vec::new(),
            detections(1, 64.0, 64.0),
        ];
        for memory in [Memory::Cuda, Memory::Nvmm] {
            let format = in_memory(memory, &shape);
            let mut producer = Producer {
                wanted: Wanted {
                    line: true,
                    crops: true,
                    room_for_crops: true,
                },
                ..Producer::default()
            };
            for first in [true, false] {
                let facts = FrameFacts {
                    number: 0,
                    pts: None,
                    stream_time: None,
                    running_time: None,
                    width: 64,
                    height: 64,
                };
                let inspected = InspectedFrame {
                    format: &format,
                    buffer: &buffer,
                    facts,
                    timings: Timings::default(),
                    detections: &batch,
                    labels: &Labels::numbered(5),
                };
                producer.frame_inspected(&inspected).unwrap();
                let produced = producer.take();
                assert_eq!(produced.not_cut.is_some(), first);
                assert!(produced.crops.is_none());
                let line = produced.line.unwrap();
                let line: serde_json::Value =
                    serde_json::from_slice(&line.map_readable().unwrap()).unwrap();
                let objects = line["objects"].as_array().unwrap();
                let frames: Vec<_> = objects.iter().map(|o| o["batch_id"].as_u64()).collect();
                assert_eq!(frames, [Some(0), Some(0), Some(2)]);
            }
        }
    }
}
