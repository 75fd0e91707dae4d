//! Textures: how kernels read arrays, whose layout only the GPU knows.

use cust::sys;

use crate::cuda::driver::{CudaError, check};
use crate::frame::{DeviceFrame, DeviceStorage};

/// A view of a two-dimensional array through which kernels read its samples unchanged: whole numbers at
/// whole coordinates. Made for arrays of 8- and 16-bit unsigned samples with 1, 2 or 4 channels.
#[derive(Debug)]
pub struct PointTexture {
    object: sys::CUtexObject,
}

impl PointTexture {
    /// # Safety
    /// `array` belongs to the current context and outlives this texture.
    pub unsafe fn new(array: sys::CUarray) -> Result<Self, CudaError> {
        let mut resource = sys::CUDA_RESOURCE_DESC {
            resType: sys::CUresourcetype::CU_RESOURCE_TYPE_ARRAY,
            ..Default::default()
        };
        resource.res.array.hArray = array;
        let texture = sys::CUDA_TEXTURE_DESC {
            addressMode: [sys::CUaddress_mode::CU_TR_ADDRESS_MODE_CLAMP; 3],
            filterMode: sys::CUfilter_mode::CU_TR_FILTER_MODE_POINT,
            flags: sys::CU_TRSF_READ_AS_INTEGER,
            ..Default::default()
        };
        let mut object = 0;
        // SAFETY: the caller vouches for the array; the descriptions outlive the call.
        check("cuTexObjectCreate", unsafe {
            sys::cuTexObjectCreate(&mut object, &resource, &texture, std::ptr::null())
        })?;
        Ok(Self { object })
    }

    /// The `CUtexObject`, as [`DeviceStorage::Texture`] takes it.
    pub fn object(&self) -> u64 {
        self.object
    }
}

impl Drop for PointTexture {
    fn drop(&mut self) {
        // SAFETY: the object is this texture's own. An error here means the context is gone, and the object too.
        unsafe { sys::cuTexObjectDestroy(self.object) };
    }
}

/// Textures of frames that lie in arrays, one for each array.
#[derive(Debug, Default)]
pub struct FrameTextures(Vec<(u64, PointTexture)>);

impl FrameTextures {
    /// The frame as kernels can read its first `planes` planes: arrays through textures, which live until
    /// [`FrameTextures::clear`].
    ///
    /// # Safety
    /// The arrays belong to the current context and outlive the textures.
    pub unsafe fn readable(
        &mut self,
        frame: &DeviceFrame,
        planes: usize,
    ) -> Result<DeviceFrame, CudaError> {
        let mut frame = *frame;
        if frame.storage == DeviceStorage::BlockLinear {
            for plane in frame.planes.iter_mut().take(planes) {
                // SAFETY: the caller vouches for the array.
                plane.pointer = unsafe { self.object(plane.pointer) }?;
            }
            frame.storage = DeviceStorage::Texture;
        }
        Ok(frame)
    }

    /// # Safety
    /// As for [`FrameTextures::readable`].
    unsafe fn object(&mut self, array: u64) -> Result<u64, CudaError> {
        if let Some((_, texture)) = self.0.iter().find(|(shown, _)| *shown == array) {
            return Ok(texture.object());
        }
        // SAFETY: the caller vouches for the array.
        let texture = unsafe { PointTexture::new(array as _) }?;
        let object = texture.object();
        self.0.push((array, texture));
        Ok(object)
    }

    /// Lets go of all textures. No work that reads them is under way.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
