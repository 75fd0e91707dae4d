//! What the streaming thread makes of an inspected frame for the pads `crops` and `detections`.

use gst_video::VideoInfo;

use super::crop_caps::{Allowed, CropFormat, native_info};
use super::crops_pad::{CropBatch, StagedCrop};
use super::device_crops::{DeviceCropError, DeviceCrops, Gpu, Order, Pixels};
use super::memory::Format;
use super::output_settings::OutputSettings;
use super::outputs::{Overflows, Wanted};
use crate::crop::recycle::Shelf;
use crate::crop::select::{Rules, Selected, Selector};
use crate::crop::{Rectangle, copy};
use crate::cuda::context::Context;
use crate::detection::Detection;
use crate::detector::Timings;
use crate::frame::buffer::FrameShape;
use crate::frame::cuda::CudaFrame;
use crate::frame::gstcuda::CudaContext;
use crate::frame::memory::Memory;
use crate::frame::nvmm::NvmmBuffer;
use crate::frame::{DeviceFrame, FrameError, PendingStream, SystemFrame};
use crate::meta::crop::{self, CropDetails};
use crate::meta::json;
use crate::meta::message::FrameFacts;
use crate::model::Labels;
use crate::profiler;

/// A frame that has been inspected, or whose objects are predicted, before anything is drawn into it.
pub(super) struct InspectedFrame<'a> {
    pub format: &'a Format,
    pub buffer: &'a gst::Buffer,
    /// Where frames in GPU memory lie.
    pub context: Option<&'a Context>,
    pub facts: FrameFacts<'a>,
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
    /// Why nothing is cut out, when it is something new.
    pub not_cut: Option<String>,
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
    /// The CUDA context that is shared with the elements around.
    shared: Option<CudaContext>,
    device: Option<DeviceCrops>,
    /// The latest reason for which nothing was cut out.
    told: String,
    produced: Produced,
}

impl Producer {
    /// Takes over settings and the rules that they make with the model's labels.
    pub fn apply(&mut self, settings: &OutputSettings, crop_rules: Rules) {
        self.rules = crop_rules;
        self.settings = settings.clone();
    }

    /// Takes the CUDA context that is shared with the elements around.
    pub fn share(&mut self, context: Option<CudaContext>) {
        self.shared = context;
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
            let _range = profiler::range(c"line");
            self.produced.line = self.line(frame);
        }
        // What is repeated was cut out of the frame in which it was found, and what is expected was not found.
        let found_here = !empty && !frame.facts.repeated && !frame.facts.predicted;
        if !found_here || !self.wanted.crops {
            return Ok(());
        }
        let _range = profiler::range(c"crop");
        match frame.format.memory {
            Memory::System => self.cut(frame, &frame.detections[0])?,
            // Whatever is wrong with crops, the video goes on.
            Memory::Cuda | Memory::Nvmm => {
                if let Err(error) = self.cut_on_gpu(frame) {
                    let told = error.to_string();
                    if told != self.told {
                        self.told.clone_from(&told);
                        self.produced.not_cut = Some(format!("crops are not cut out: {told}"));
                    }
                }
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
            .map(|selected| self.stage(frame, &view, selected))
            .collect::<Result<_, _>>()?;
        self.produced.crops = Some(CropBatch {
            crops,
            resize: self.settings.crop_resize,
            gpu: None,
        });
        Ok(())
    }

    /// Cuts out on the GPU, of each frame of the buffer, straight into what downstream wants, or, where that is not
    /// known yet, copies as the frame has it.
    fn cut_on_gpu(&mut self, frame: &InspectedFrame<'_>) -> Result<(), DeviceCropError> {
        let Some(context) = frame.context else {
            return Ok(());
        };
        let info = &frame.format.shape.info;
        if frame.format.memory == Memory::Cuda {
            let mapped = CudaFrame::map(frame.buffer, info)?;
            let gpu = Gpu {
                context: context.clone(),
                shared: Some(mapped.context().clone()),
                gpu_id: mapped.context().gpu_id(),
            };
            return self.cut_frames(frame, &[mapped.frame()], mapped.pending_stream(), gpu);
        }
        let current = context.enter()?;
        let mapped = NvmmBuffer::map(frame.buffer, &frame.format.shape)?;
        let sources: Vec<_> = (0..mapped.len())
            .map(|index| mapped.frame(index))
            .collect::<Result<_, _>>()?;
        drop(current);
        let gpu = Gpu {
            context: context.clone(),
            shared: self.shared.clone(),
            gpu_id: mapped.gpu_id(),
        };
        self.cut_frames(frame, &sources, None, gpu)
    }

    /// `sources` are the frames of the buffer, mapped in the context, and `pending` is the stream on which they may
    /// still be written.
    fn cut_frames(
        &mut self,
        frame: &InspectedFrame<'_>,
        sources: &[DeviceFrame],
        pending: Option<PendingStream>,
        gpu: Gpu,
    ) -> Result<(), DeviceCropError> {
        let allowed = self.wanted.allowed.clone();
        let allowed = allowed.filter(|allowed| allowed.is_for(frame.format));
        let (mut orders, mut facts) = (Vec::new(), Vec::new());
        for (index, (source, detections)) in sources.iter().zip(frame.detections).enumerate() {
            let size = (source.width as u32, source.height as u32);
            let time = frame.facts.pts;
            let selected = self
                .selector
                .select(&self.rules, detections, source.format, size, time);
            for selected in selected {
                let rectangle = selected.rectangle;
                let (order, native) = order(frame, source, rectangle, allowed.as_deref())?;
                orders.push(order);
                let batch_id = (sources.len() > 1).then_some(index as u32);
                let details = CropDetails {
                    batch_id,
                    frame_width: size.0,
                    frame_height: size.1,
                    ..details(frame, index, &selected)
                };
                facts.push((native, details));
            }
        }
        self.produced.crops_without_room = orders.len();
        if orders.is_empty() || !self.wanted.room_for_crops {
            return Ok(());
        }
        let device = DeviceCrops::on(&mut self.device, &gpu)?;
        let resize = self.settings.crop_resize;
        // SAFETY: the frames are mapped in this context.
        let made = unsafe { device.cut(&orders, pending, resize) }?;
        let crops = made.into_iter().zip(facts);
        let crops = crops.map(|(made, (native, details))| {
            let mut buffer = made.buffer;
            tell(buffer.make_mut(), frame, &details);
            StagedCrop {
                buffer,
                pixels: made.pixels,
                native,
            }
        });
        self.produced.crops = Some(CropBatch {
            crops: crops.collect(),
            resize,
            gpu: Some(gpu),
        });
        self.produced.crops_without_room = 0;
        Ok(())
    }

    fn stage(
        &self,
        frame: &InspectedFrame<'_>,
        view: &SystemFrame<'_>,
        selected: &Selected,
    ) -> Result<StagedCrop, FrameError> {
        let rectangle = selected.rectangle;
        let size = (rectangle.width as u32, rectangle.height as u32);
        let shape = native_info(&frame.format.shape.info, view.colorimetry, size)
            .and_then(FrameShape::new)
            .ok_or(FrameError::NotMapped("cropping"))?;
        let memory = self.shelf.take(shape.info.size());
        let mut buffer = gst::Buffer::from_mut_slice(memory);
        let edit = buffer.make_mut();
        copy(view, rectangle, &mut shape.write(edit)?.view()?);
        tell(edit, frame, &details(frame, 0, selected));
        Ok(StagedCrop {
            buffer,
            native: shape.info.clone(),
            pixels: Pixels::Here {
                shape,
                memory: Memory::System,
            },
        })
    }
}

/// Gives a crop the frame's times, and says what it shows.
fn tell(crop: &mut gst::BufferRef, frame: &InspectedFrame<'_>, details: &CropDetails) {
    crop.set_pts(frame.facts.pts);
    crop.set_dts(frame.buffer.dts());
    crop.set_duration(frame.buffer.duration());
    // The meta is registered with the plugin, so that this cannot fail.
    let _ = crop::attach(crop, details);
}

/// A crop of a frame in GPU memory, and what it would be in the frame's own format and size.
fn order(
    frame: &InspectedFrame<'_>,
    source: &DeviceFrame,
    rectangle: Rectangle,
    allowed: Option<&Allowed>,
) -> Result<(Order, VideoInfo), DeviceCropError> {
    let video = &frame.format.shape.info;
    let size = (rectangle.width as u32, rectangle.height as u32);
    let native = native_info(video, source.colorimetry, size).ok_or(DeviceCropError::NotAllowed)?;
    let format = match allowed {
        Some(allowed) => allowed.caps_for(&native).ok(),
        None => CropFormat::native(&native),
    };
    let format = format.ok_or(DeviceCropError::NotAllowed)?;
    let same = format.shape.info.colorimetry() == native.colorimetry();
    let colorimetry = match same {
        true => source.colorimetry,
        false => format.shape.colorimetry(),
    };
    let order = Order {
        source: *source,
        rectangle,
        format,
        colorimetry,
    };
    Ok((order, native))
}

/// What a crop of a frame of the buffer shows.
fn details(frame: &InspectedFrame<'_>, index: usize, selected: &Selected) -> CropDetails {
    let rectangle = selected.rectangle;
    let detection = &frame.detections[index][selected.detection];
    let hash = frame.facts.object_hash(index, selected.detection);
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
        batch_id: None,
        object_id: detection.object_id,
        hash: hash.map(gst::glib::Bytes::from),
    }
}

#[cfg(test)]
mod tests;
