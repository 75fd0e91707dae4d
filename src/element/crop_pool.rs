//! Where the buffers of the pad `crops` come from: downstream's pool or one of ours for crops of one size, and pieces
//! of memory that are used again where each has its own.

use gst::prelude::*;
use gst_video::VideoInfo;

use super::crop_caps::CropFormat;
use super::imp::CAT;
use crate::crop::recycle::Shelf;

#[derive(Debug, Default)]
pub(super) struct CropPool {
    pool: Option<gst::BufferPool>,
    shelf: Shelf,
}

impl CropPool {
    /// Asks downstream for a pool.
    pub fn negotiate(&mut self, pad: &gst::Pad, format: &CropFormat) {
        self.clear();
        let mut query = gst::query::Allocation::new(Some(&format.caps), true);
        if !pad.peer_query(&mut query) {
            gst::debug!(CAT, obj = pad, "downstream has no wishes for memory");
        }
        let offer = query.allocation_pools().next();
        let ours = || gst_video::VideoBufferPool::new().upcast::<gst::BufferPool>();
        let (pool, size, least, most) = match offer {
            Some((pool, size, least, most)) => (pool.unwrap_or_else(ours), size, least, most),
            None => (ours(), 0, 0, 0),
        };
        let size = size.max(format.shape.info.size() as u32);
        let mut config = pool.config();
        config.set_params(Some(&format.caps), size, least, most);
        if let Some((allocator, params)) = query.allocation_params().next() {
            config.set_allocator(allocator.as_ref(), Some(&params));
        }
        if query
            .find_allocation_meta::<gst_video::VideoMeta>()
            .is_some()
        {
            config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
        }
        match pool.set_config(config).and_then(|()| pool.set_active(true)) {
            Ok(()) => self.pool = Some(pool),
            Err(error) => gst::warning!(CAT, obj = pad, "downstream's pool is not used: {error}"),
        }
    }

    pub fn clear(&mut self) {
        if let Some(pool) = self.pool.take() {
            let _ = pool.set_active(false);
        }
    }

    /// A buffer for a crop. Does not wait for one that downstream keeps.
    pub fn acquire(&self, info: &VideoInfo) -> gst::Buffer {
        let params =
            gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
        self.pool
            .as_ref()
            .and_then(|pool| pool.acquire_buffer(Some(&params)).ok())
            .unwrap_or_else(|| gst::Buffer::from_mut_slice(self.shelf.take(info.size())))
    }
}

impl Drop for CropPool {
    fn drop(&mut self) {
        self.clear();
    }
}
