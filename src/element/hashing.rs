//! The looks of frames: whether one still looks like the last that was inspected, and the thumbnails of frames and
//! objects that users see as hashes.

use super::hash_settings::HashPlan;
use crate::cuda::context::Context;
use crate::detection::Detection;
use crate::detector::Frames;
use crate::profiler;
use crate::thumbnail::cpu::Thumbnailer;
use crate::thumbnail::cuda::{DeviceThumbnailer, ThumbnailError};
use crate::thumbnail::{self, Area, Thumbnails};

/// Compares frames as they come in, before those that came earlier have been inspected.
#[derive(Default)]
pub(super) struct Comparer {
    makers: Makers,
    areas: Vec<Area>,
    /// Of the frames of the last buffer that was given away to be inspected; empty where there is none.
    inspected: Vec<u8>,
}

/// Makes the hashes of frames that have been inspected.
#[derive(Default)]
pub(super) struct Hasher {
    makers: Makers,
    areas: Vec<Area>,
}

/// What makes thumbnails, by where frames lie.
#[derive(Default)]
struct Makers {
    on_cpu: Thumbnailer,
    /// Made for the first frame in GPU memory.
    on_gpu: Option<DeviceThumbnailer>,
}

impl Comparer {
    /// The next frame is compared with none before it.
    pub fn forget_past(&mut self) {
        self.inspected.clear();
    }

    /// Whether all frames of a buffer look like those of the last one for which this was not so, and which was
    /// inspected therefore. Frames in GPU memory lie in `context`. Their thumbnails replace `look`, which is empty
    /// without a comparison.
    pub fn is_unchanged(
        &mut self,
        plan: HashPlan,
        frames: Frames<'_>,
        context: Option<&Context>,
        look: &mut Vec<u8>,
    ) -> Result<bool, ThumbnailError> {
        look.clear();
        let Some(limit) = plan.limit else {
            return Ok(false);
        };
        let _range = profiler::range(c"compare");
        self.areas.clear();
        self.areas.extend(whole(frames));
        self.makers
            .append(frames, context, &self.areas, plan.side, look)?;
        let unchanged = all_alike(look, &self.inspected, plan.side * plan.side, limit);
        if !unchanged {
            self.inspected.clone_from(look);
        }
        Ok(unchanged)
    }
}

impl Hasher {
    /// Makes the thumbnails of a buffer and of what was found in each of its frames. Those of the frames are `look`, if
    /// it is not empty.
    pub fn hash(
        &mut self,
        plan: HashPlan,
        frames: Frames<'_>,
        context: Option<&Context>,
        look: &[u8],
        detections: &[Vec<Detection>],
        thumbnails: &mut Thumbnails,
    ) -> Result<(), ThumbnailError> {
        let _range = profiler::range(c"hash");
        self.areas.clear();
        if look.is_empty() {
            self.areas.extend(whole(frames));
        }
        self.areas.extend(objects(frames, detections));
        let bytes = thumbnails.begin(plan.side, detections);
        bytes.extend_from_slice(look);
        self.makers
            .append(frames, context, &self.areas, plan.side, bytes)
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
                    None => DeviceThumbnailer::new(context)?,
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
