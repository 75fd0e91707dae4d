//! The `crops` pad: a buffer for every detection, of the format and size that downstream wants.

use gst::prelude::*;
use gst_video::VideoInfo;

use super::branch::{Stop, Worker};
use super::crop_caps::{Allowed, CropFormat};
use super::crop_pool::CropPool;
use super::imp::CAT;
use crate::crop::render::{CropResize, Renderer};
use crate::frame::FrameError;
use crate::frame::buffer::{FrameShape, SYSTEM_FORMATS};

pub(super) const NAME: &str = "crops";

/// Frames whose crops may wait for what is linked to the pad.
pub(super) const MOST_WAITING: usize = 16;

pub(super) fn caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format_list(SYSTEM_FORMATS)
        .build()
}

/// A detection's pixels, copied out of the frame as they were, with its times and its meta.
#[derive(Debug)]
pub(super) struct StagedCrop {
    pub buffer: gst::Buffer,
    pub shape: FrameShape,
}

/// All crops of one frame.
#[derive(Debug)]
pub(super) struct CropBatch {
    pub crops: Vec<StagedCrop>,
    pub resize: CropResize,
}

#[derive(Debug, Default)]
pub(super) struct CropPusher {
    video: Option<VideoInfo>,
    allowed: Option<Allowed>,
    /// What the pad's caps are now, and the crop that they were made for.
    current: Option<(CropFormat, VideoInfo)>,
    pool: CropPool,
    renderer: Renderer,
}

impl Worker for CropPusher {
    type Item = CropBatch;

    fn video_caps(&mut self, caps: &gst::CapsRef) {
        self.video = VideoInfo::from_caps(caps).ok();
        self.renegotiate();
    }

    fn renegotiate(&mut self) {
        self.allowed = None;
    }

    fn ensure_caps(&mut self, pad: &gst::Pad, next: Option<&CropBatch>) -> Result<(), Stop> {
        let next = next.and_then(|batch| batch.crops.first());
        let whole_frame = self.video.clone();
        match next.map(|crop| crop.shape.info.clone()) {
            Some(crop) => self.set_caps(pad, &crop),
            // Nothing has been cut out yet: the largest crop that there can be stands for those to come.
            None => match whole_frame {
                Some(frame) if self.allowed.is_none() => self.set_caps(pad, &frame),
                _ => Ok(()),
            },
        }
    }

    fn push(&mut self, pad: &gst::Pad, batch: CropBatch) -> Result<(), Stop> {
        for crop in batch.crops {
            self.set_caps(pad, &crop.shape.info)?;
            let Some((format, _)) = &self.current else {
                return Ok(());
            };
            let buffer = match is_as_wanted(&crop.shape.info, &format.shape.info) {
                true => crop.buffer,
                false => {
                    let target = self.pool.acquire(&format.shape.info);
                    render(
                        &mut self.renderer,
                        &crop,
                        &format.shape,
                        target,
                        batch.resize,
                    )
                    .map_err(|error| Stop::Problem(error.to_string()))?
                }
            };
            pad.push(buffer)?;
        }
        Ok(())
    }
}

impl CropPusher {
    /// Gives the pad the caps for a crop that has these in the frame's own format.
    fn set_caps(&mut self, pad: &gst::Pad, native: &VideoInfo) -> Result<(), Stop> {
        let allowed = match &self.allowed {
            Some(allowed) => {
                let fits = self
                    .current
                    .as_ref()
                    .is_some_and(|(_, made_for)| allowed.has_fixed_size() || made_for == native);
                if fits {
                    return Ok(());
                }
                allowed
            }
            None => {
                let video = self.video.as_ref().unwrap_or(native);
                self.allowed.insert(Allowed::ask(pad, video)?)
            }
        };
        let format = allowed.caps_for(native)?;
        let changed = pad.current_caps().as_ref() != Some(&format.caps);
        if changed {
            gst::log!(CAT, obj = pad, "caps of crops: {}", format.caps);
            pad.push_event(gst::event::Caps::new(&format.caps));
        }
        match allowed.has_fixed_size() {
            true => self.pool.negotiate(pad, &format),
            // A pool of one size is no help where each crop has its own.
            false => self.pool.clear(),
        }
        self.current = Some((format, native.clone()));
        Ok(())
    }
}

fn is_as_wanted(native: &VideoInfo, wanted: &VideoInfo) -> bool {
    (native.format(), native.width(), native.height())
        == (wanted.format(), wanted.width(), wanted.height())
        && native.colorimetry() == wanted.colorimetry()
}

/// Draws a crop into a buffer of another format or size, which takes over its times and its meta.
fn render(
    renderer: &mut Renderer,
    crop: &StagedCrop,
    shape: &FrameShape,
    mut target: gst::Buffer,
    resize: CropResize,
) -> Result<gst::Buffer, FrameError> {
    let edit = target.make_mut();
    {
        let source = crop.shape.read(&crop.buffer)?;
        let mut mapped = shape.write(edit)?;
        renderer.render(&source.view()?, &mut mapped.view()?, resize);
    }
    let what = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
    let _ = crop.buffer.copy_into(edit, what, ..);
    Ok(target)
}
