//! A GstBuffer in system memory as a frame, mapped where it lies.

use gst_video::video_frame::IsVideoFrame;
use gst_video::{VideoFormat, VideoFrameRef, VideoInfo};

use super::system::{Plane, PlaneMut};
use super::{
    Colorimetry, DeviceFrame, DevicePlane, DeviceStorage, FrameError, PixelFormat, SystemFrame,
    SystemFrameMut, video_info,
};

/// The formats that are understood in system memory, most wanted first.
pub const SYSTEM_FORMATS: [VideoFormat; 16] = [
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Yuy2,
    VideoFormat::Uyvy,
    VideoFormat::P01010le,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Argb,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Gray8,
    VideoFormat::Xrgb,
];

/// What caps say of every frame, worked out once.
#[derive(Clone, Debug)]
pub struct FrameShape {
    pub info: VideoInfo,
    format: PixelFormat,
    plane_order: [usize; 3],
    colorimetry: Colorimetry,
    matrix_is_named: bool,
}

impl FrameShape {
    /// As [`FrameShape::new`], of what caps say. None also where they are no caps of frames.
    pub fn from_caps(caps: &gst::CapsRef) -> Option<Self> {
        let shape = Self::new(VideoInfo::from_caps(caps).ok()?)?;
        Some(Self {
            matrix_is_named: video_info::names_matrix(caps),
            ..shape
        })
    }

    /// Of frames that are what `info` says. None for formats that are not in [`SYSTEM_FORMATS`].
    pub fn new(info: VideoInfo) -> Option<Self> {
        let (format, plane_order) = video_info::pixel_format(info.format())?;
        let colorimetry = video_info::colorimetry(&info);
        Some(Self {
            info,
            format,
            plane_order,
            colorimetry,
            matrix_is_named: true,
        })
    }

    pub fn format(&self) -> PixelFormat {
        self.format
    }

    pub fn colorimetry(&self) -> Colorimetry {
        self.colorimetry
    }

    /// Whether the matrix of the colorimetry is named, and no guess.
    pub fn matrix_is_named(&self) -> bool {
        self.matrix_is_named
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.info.width(), self.info.height())
    }

    /// The frame in memory of a GPU at an address, as the caps lay it out.
    pub fn at(&self, address: u64) -> DeviceFrame {
        let mut planes = [DevicePlane::default(); 3];
        for (plane, &index) in planes
            .iter_mut()
            .zip(&self.plane_order)
            .take(self.format.planes())
        {
            *plane = DevicePlane {
                pointer: address + self.info.offset()[index] as u64,
                pitch: self.info.stride()[index] as usize,
            };
        }
        DeviceFrame {
            format: self.format,
            colorimetry: self.colorimetry,
            width: self.info.width() as usize,
            height: self.info.height() as usize,
            storage: DeviceStorage::Pitch,
            planes,
        }
    }

    /// The frame in bytes, as the caps lay it out.
    pub fn view<'a>(&self, bytes: &'a [u8]) -> Result<SystemFrame<'a>, FrameError> {
        let mut planes = [Plane::default(); 3];
        for (plane, &index) in planes
            .iter_mut()
            .zip(&self.plane_order)
            .take(self.format.planes())
        {
            *plane = Plane {
                data: bytes.get(self.info.offset()[index]..).unwrap_or_default(),
                stride: self.info.stride()[index] as usize,
            };
        }
        let (width, height) = self.size();
        SystemFrame::new(
            self.format,
            self.colorimetry,
            width as usize,
            height as usize,
            planes,
        )
    }

    /// Offset and stride of each plane, from the buffer's own GstVideoMeta or else from the caps, after a check
    /// that the plane lies wholly within the memory that is mapped for it.
    fn check(&self, buffer: &gst::BufferRef) -> Result<(), FrameError> {
        let meta = buffer.meta::<gst_video::VideoMeta>();
        let (width, height) = (self.info.width(), self.info.height());
        if let Some(meta) = &meta
            && (meta.format() != self.info.format()
                || meta.width() != width
                || meta.height() != height)
        {
            return Err(FrameError::MetaDiffers {
                buffer: format!("{} {}x{}", meta.format(), meta.width(), meta.height()),
                caps: format!("{} {width}x{height}", self.info.format()),
            });
        }
        for (plane, &index) in self
            .plane_order
            .iter()
            .enumerate()
            .take(self.format.planes())
        {
            let (stride, actual) = match &meta {
                Some(meta) => {
                    let offset = meta.offset()[index];
                    (meta.stride()[index], bytes_behind(buffer, offset))
                }
                // Without a meta the whole buffer is mapped as one.
                None => {
                    let actual = buffer.size().saturating_sub(self.info.offset()[index]);
                    (self.info.stride()[index], actual)
                }
            };
            let (row, rows) = self
                .format
                .plane_size(plane, width as usize, height as usize);
            let needed = usize::try_from(stride)
                .ok()
                .filter(|stride| *stride >= row)
                .map(|stride| stride * rows.saturating_sub(1) + row);
            if needed.is_none_or(|needed| actual < needed) {
                return Err(FrameError::PlaneTooSmall {
                    format: self.format,
                    width: width as usize,
                    height: height as usize,
                    plane,
                    actual,
                    needed: needed.unwrap_or(row * rows),
                });
            }
        }
        Ok(())
    }

    /// Start, length and stride of a mapped plane.
    fn plane<T>(&self, frame: &VideoFrameRef<T>, plane: usize) -> (*mut u8, usize, usize) {
        if plane >= self.format.planes() {
            return (std::ptr::NonNull::dangling().as_ptr(), 0, 0);
        }
        let index = self.plane_order[plane];
        let (row, rows) = self.format.plane_size(
            plane,
            self.info.width() as usize,
            self.info.height() as usize,
        );
        let raw = frame.as_raw();
        let stride = raw.info.stride[index] as usize;
        let length = stride * rows.saturating_sub(1) + row;
        (raw.data[index].cast(), length, stride)
    }

    /// Maps a buffer for reading. The view is good as long as the returned frame lives.
    pub fn read<'a>(&self, buffer: &'a gst::BufferRef) -> Result<MappedFrame<'a>, FrameError> {
        self.check(buffer)?;
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &self.info)
            .map_err(|_| FrameError::NotMapped("reading"))?;
        Ok(MappedFrame {
            shape: self.clone(),
            frame,
        })
    }

    /// Maps a buffer for drawing into it.
    pub fn write<'a>(
        &self,
        buffer: &'a mut gst::BufferRef,
    ) -> Result<MappedFrameMut<'a>, FrameError> {
        self.check(buffer)?;
        let frame = VideoFrameRef::from_buffer_ref_writable(buffer, &self.info)
            .map_err(|_| FrameError::NotMapped("writing"))?;
        Ok(MappedFrameMut {
            shape: self.clone(),
            frame,
        })
    }
}

/// How many bytes lie behind `offset` in the memory that holds it.
fn bytes_behind(buffer: &gst::BufferRef, offset: usize) -> usize {
    buffer.find_memory(offset..).map_or(0, |(memories, skip)| {
        buffer
            .peek_memory(memories.start)
            .size()
            .saturating_sub(skip)
    })
}

/// A buffer mapped for reading.
pub struct MappedFrame<'a> {
    shape: FrameShape,
    frame: VideoFrameRef<&'a gst::BufferRef>,
}

impl MappedFrame<'_> {
    pub fn view(&self) -> Result<SystemFrame<'_>, FrameError> {
        let plane = |index| {
            let (start, length, stride) = self.shape.plane(&self.frame, index);
            // SAFETY: `check` found that many bytes in the mapped memory, which stays mapped while `self` lives.
            let data = unsafe { std::slice::from_raw_parts(start, length) };
            Plane { data, stride }
        };
        let (width, height) = self.shape.size();
        SystemFrame::new(
            self.shape.format,
            self.shape.colorimetry,
            width as usize,
            height as usize,
            [plane(0), plane(1), plane(2)],
        )
    }
}

/// A buffer mapped for drawing.
pub struct MappedFrameMut<'a> {
    shape: FrameShape,
    frame: VideoFrameRef<&'a mut gst::BufferRef>,
}

impl MappedFrameMut<'_> {
    pub fn view(&mut self) -> Result<SystemFrameMut<'_>, FrameError> {
        let plane = |index| {
            let (start, length, stride) = self.shape.plane(&self.frame, index);
            // SAFETY: as for reading; planes of one frame do not overlap, and the mapping is exclusive.
            let data = unsafe { std::slice::from_raw_parts_mut(start, length) };
            PlaneMut { data, stride }
        };
        let (width, height) = self.shape.size();
        SystemFrameMut::new(
            self.shape.format,
            self.shape.colorimetry,
            width as usize,
            height as usize,
            [plane(0), plane(1), plane(2)],
        )
    }
}
