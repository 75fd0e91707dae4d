//! What the kernels run on in a test.

use gstrsdetectnet::crop::cuda::Launch as CropLaunch;
use gstrsdetectnet::decode::cuda::Batch as DecodeBatch;
use gstrsdetectnet::overlay::draw::Canvas;
use gstrsdetectnet::preprocess::cuda::Batch as PreprocessBatch;
use gstrsdetectnet::thumbnail::cuda::Batch as ThumbnailBatch;

/// Memory that lives as long as the machine, and the kernels. Each call returns when its work is done.
pub trait Machine {
    /// Memory with these bytes in it; its address is a multiple of 16.
    fn upload(&self, bytes: &[u8]) -> u64;
    fn download(&self, address: u64, bytes: usize) -> Vec<u8>;
    /// A texture of rows without gaps; `bytes` are those of one channel.
    fn texture(
        &self,
        data: &[u8],
        width: usize,
        height: usize,
        channels: usize,
        bytes: usize,
    ) -> u64;
    fn preprocess(&self, batch: &PreprocessBatch);
    fn decode(&self, batch: &DecodeBatch, images: usize);
    fn draw(&self, canvas: &Canvas);
    fn thumbnail(&self, batch: &ThumbnailBatch);
    fn crop(&self, launch: &CropLaunch);
}
