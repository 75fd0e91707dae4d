//! What the streaming thread knows of the looks of frames: their thumbnails and those of their objects, and whether
//! a frame still looks like the last one that was inspected.

use super::hash_settings::HashSettings;
use crate::cuda::context::Context;
use crate::detection::Detection;
use crate::detector::Frames;
use crate::thumbnail::cpu::Thumbnailer;
use crate::thumbnail::cuda::{DeviceThumbnailer, ThumbnailError};
use crate::thumbnail::{self, Area, Thumbnails};

/// The side of thumbnails that are compared and nobody wants to see.
const COMPARED_SIDE: usize = 16;

#[derive(Default)]
pub(super) struct Hashing {
    settings: HashSettings,
    makers: Makers,
    areas: Vec<Area>,
    /// Of the frames of the buffer at hand.
    current: Vec<u8>,
    /// Of the frames of the last buffer that was inspected; empty where there is none to compare with.
    inspected: Vec<u8>,
    /// What users see of the buffer at hand.
    thumbnails: Thumbnails,
}

/// What makes thumbnails, by where frames lie.
#[derive(Default)]
struct Makers {
    on_cpu: Thumbnailer,
    /// Made for the first frame in GPU memory.
    on_gpu: Option<DeviceThumbnailer>,
}

impl Hashing {
    /// Takes over settings; the next frame is compared with none before it, which other settings may have been for.
    pub fn apply(&mut self, settings: &HashSettings) {
        self.settings = settings.clone();
        self.forget_past();
    }

    /// The next frame is compared with none before it.
    pub fn forget_past(&mut self) {
        self.inspected.clear();
    }

    /// Whether frames are compared before they are inspected.
    pub fn compares(&self) -> bool {
        self.settings.skip_unchanged > 0.0
    }

    /// Whether there is anything to do for a frame that was inspected.
    pub fn makes(&self) -> bool {
        self.compares() || self.settings.hash_size > 0
    }

    /// The thumbnails of the buffer at hand, where users want to see them.
    pub fn thumbnails(&self) -> Option<&Thumbnails> {
        (self.settings.hash_size > 0).then_some(&self.thumbnails)
    }

    fn side(&self) -> usize {
        match self.settings.hash_size {
            0 => COMPARED_SIDE,
            side => side as usize,
        }
    }

    /// Whether all frames of a buffer look like those of the last one that was inspected. Frames in GPU memory lie in
    /// `context`. Where they do, [`Hashing::thumbnails`] are their own and, of what is repeated, those of then.
    pub fn is_unchanged(
        &mut self,
        frames: Frames<'_>,
        context: Option<&Context>,
    ) -> Result<bool, ThumbnailError> {
        let side = self.side();
        self.areas.clear();
        self.areas.extend(whole(frames));
        self.current.clear();
        self.makers
            .append(frames, context, &self.areas, side, &mut self.current)?;
        let limit = self.settings.skip_unchanged.into();
        let unchanged = all_alike(&self.current, &self.inspected, side * side, limit);
        if unchanged && self.settings.hash_size > 0 {
            self.thumbnails.replace_frames(&self.current);
        }
        Ok(unchanged)
    }

    /// Makes the thumbnails of a buffer that was inspected, after [`Hashing::is_unchanged`] where frames are compared.
    /// `detections` are by frame.
    pub fn frames_inspected(
        &mut self,
        frames: Frames<'_>,
        context: Option<&Context>,
        detections: &[Vec<Detection>],
    ) -> Result<(), ThumbnailError> {
        if self.settings.hash_size > 0 {
            let side = self.side();
            let compared = self.compares();
            self.areas.clear();
            if !compared {
                self.areas.extend(whole(frames));
            }
            self.areas.extend(objects(frames, detections));
            let bytes = self.thumbnails.begin(side, detections);
            if compared {
                bytes.extend_from_slice(&self.current);
            }
            self.makers
                .append(frames, context, &self.areas, side, bytes)?;
        }
        if self.compares() {
            std::mem::swap(&mut self.inspected, &mut self.current);
        }
        Ok(())
    }
}

impl Makers {
    fn append(
        &mut self,
        frames: Frames<'_>,
        context: Option<&Context>,
        areas: &[Area],
        side: usize,
        thumbnails: &mut Vec<u8>,
    ) -> Result<(), ThumbnailError> {
        match (frames, context) {
            (Frames::System(frame), _) => {
                self.on_cpu.append(&frame, areas, side, thumbnails);
                Ok(())
            }
            (Frames::Device { frames, pending }, Some(context)) => {
                let handle = context.handle();
                let here = self.on_gpu.take();
                let here = here.filter(|maker| maker.context().handle() == handle);
                let maker = match here {
                    Some(maker) => maker,
                    None => DeviceThumbnailer::new(context.clone())?,
                };
                let maker = self.on_gpu.insert(maker);
                maker.append(frames, pending, areas, side, thumbnails)
            }
            // Without a context nothing inspects frames in GPU memory, and detection has said so.
            (Frames::Device { .. }, None) => Ok(()),
        }
    }
}

/// The size in pixels of each frame.
fn sizes(frames: Frames<'_>) -> impl Iterator<Item = (usize, usize)> {
    let (system, device) = match frames {
        Frames::System(frame) => (Some((frame.width, frame.height)), &[][..]),
        Frames::Device { frames, .. } => (None, frames),
    };
    let device = device.iter().map(|frame| (frame.width, frame.height));
    system.into_iter().chain(device)
}

fn whole(frames: Frames<'_>) -> impl Iterator<Item = Area> {
    let sizes = sizes(frames).enumerate();
    sizes.map(|(frame, (width, height))| Area::whole(frame, width, height))
}

/// The pixels of each detection.
fn objects(frames: Frames<'_>, detections: &[Vec<Detection>]) -> impl Iterator<Item = Area> {
    let frames = sizes(frames).zip(detections).enumerate();
    frames.flat_map(|(frame, (size, found))| {
        found.iter().map(move |found| Area {
            frame,
            pixels: thumbnail::pixels_of(found.bounding_box, size),
        })
    })
}

/// Whether there are as many thumbnails, each of so many bytes, and each differs from its fellow by `limit` at most.
fn all_alike(now: &[u8], then: &[u8], bytes: usize, limit: f64) -> bool {
    let mut pairs = now.chunks(bytes).zip(then.chunks(bytes));
    now.len() == then.len() && pairs.all(|(a, b)| thumbnail::difference(a, b) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_alike_only_if_each_of_its_frames_is() {
        let then = [10, 10, 20, 20, 30, 30];
        let alike = |now: &[u8], limit| all_alike(now, &then, 2, limit);
        assert!(alike(&then, 0.0));
        assert!(alike(&[11, 9, 21, 20, 30, 30], 1.0));
        // On the mean over all frames it is not more than 1 either.
        assert!(!alike(&[10, 10, 20, 20, 30, 33], 1.0));
        assert!(alike(&[10, 10, 20, 20, 30, 33], 1.5));
        assert!(!alike(&[10, 10, 20, 20], 255.0));
        assert!(!alike(&[10, 10, 20, 20, 30, 30, 40, 40], 255.0));
        assert!(!all_alike(&[1, 2], &[], 2, 255.0));
    }
}
