//! Surfaces of both layouts, laid out in memory as the library would.

mod surface_array;

use std::ptr;

use super::nvbufsurface::{PlaneParams, SurfaceParamsNewTail};
use super::*;
use crate::frame::{ColorMatrix, Colorimetry};

const NV12: u32 = 6;
const DEVICE_MEMORY: u64 = 0x7f00_0000_0000;

/// An entry of 64x32 pixels in NV12, 256 bytes a row.
fn nv12_entry(index: usize) -> SurfaceParams {
    let planes = PlaneParams {
        num_planes: 2,
        width: [64, 32, 0, 0],
        height: [32, 16, 0, 0],
        pitch: [256, 256, 0, 0],
        offset: [0, 256 * 32, 0, 0],
        size: [256 * 32, 256 * 16, 0, 0],
        bytes_per_pixel: [1, 2, 0, 0],
        reserved: [ptr::null_mut(); 16],
    };
    SurfaceParams {
        width: 64,
        height: 32,
        pitch: 256,
        color_format: NV12,
        layout: LAYOUT_PITCH,
        buffer_desc: 40 + index as u64,
        data_size: 256 * 48,
        data_pointer: (DEVICE_MEMORY + 0x10_0000 * index as u64) as *mut c_void,
        planes,
        mapped_addresses: [ptr::null_mut(); MAX_PLANES],
        egl_image: ptr::null_mut(),
    }
}

/// A surface that owns its list of entries, like a buffer of DeepStream's pools.
struct Surface {
    bytes: Vec<u8>,
    // 8-byte words, as the library aligns its entries.
    _entries: Vec<u64>,
}

impl AsRef<[u8]> for Surface {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn surface(layout: Layout, head: NvBufSurface, entries: &[SurfaceParams]) -> Surface {
    // What lies between the entries' common parts must not be taken for the next entry.
    let mut list = vec![u64::MAX; entries.len() * layout.entry_stride() / 8];
    for (index, entry) in entries.iter().enumerate() {
        let place = list
            .as_mut_ptr()
            .wrapping_byte_add(index * layout.entry_stride());
        unsafe { place.cast::<SurfaceParams>().write(*entry) };
        if layout == Layout::New {
            let tail = place.wrapping_byte_add(size_of::<SurfaceParams>());
            let tail = tail.cast::<SurfaceParamsNewTail>();
            unsafe { (*tail).cuda_pointer = ptr::null_mut() };
        }
    }
    let head = NvBufSurface {
        surface_list: match entries {
            [] => ptr::null_mut(),
            _ => list.as_mut_ptr().cast(),
        },
        ..head
    };
    let mut bytes = vec![0xff; layout.surface_size()];
    unsafe {
        bytes
            .as_mut_ptr()
            .cast::<NvBufSurface>()
            .write_unaligned(head)
    };
    Surface {
        bytes,
        _entries: list,
    }
}

fn head(memory_type: u32, num_filled: u32, batch_size: u32) -> NvBufSurface {
    NvBufSurface {
        gpu_id: 1,
        batch_size,
        num_filled,
        is_contiguous: 1,
        memory_type,
        surface_list: ptr::null_mut(),
    }
}

fn caps() -> FrameShape {
    caps_with("")
}

fn caps_with(rest: &str) -> FrameShape {
    gst::init().unwrap();
    let caps = format!("video/x-raw(memory:NVMM),format=NV12,width=64,height=32{rest}");
    FrameShape::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap()
}

fn map(surface: Surface) -> Result<NvmmBuffer, NvmmError> {
    let caps = caps();
    NvmmBuffer::map(&gst::Buffer::from_slice(surface), &caps)
}

/// The sentence about a surface with one entry.
fn refusal(memory_type: u32, entry: SurfaceParams) -> String {
    let mapped = map(surface(Layout::New, head(memory_type, 1, 1), &[entry])).unwrap();
    mapped.frame(0).unwrap_err().to_string()
}

#[test]
fn every_frame_of_a_batch_is_found_in_both_layouts() {
    for layout in [Layout::Old, Layout::New] {
        let entries = [0, 1, 2].map(nv12_entry);
        let mapped = map(surface(
            layout,
            head(memory_type::CUDA_DEVICE, 3, 4),
            &entries,
        ))
        .unwrap();
        assert_eq!(mapped.len(), 3);
        assert_eq!(mapped.gpu_id(), 1);
        for index in 0..3 {
            let pointer = DEVICE_MEMORY + 0x10_0000 * index as u64;
            assert_eq!(
                mapped.frame(index).unwrap(),
                DeviceFrame {
                    format: PixelFormat::Nv12,
                    colorimetry: Colorimetry {
                        matrix: ColorMatrix::Bt601,
                        full_range: false
                    },
                    width: 64,
                    height: 32,
                    storage: DeviceStorage::Pitch,
                    planes: [
                        DevicePlane {
                            pointer,
                            pitch: 256
                        },
                        DevicePlane {
                            pointer: pointer + 256 * 32,
                            pitch: 256
                        },
                        DevicePlane::default(),
                    ],
                }
            );
        }
        assert_eq!(
            mapped.frame(3).unwrap_err().to_string(),
            "frame 3 is not in the NvBufSurface, which holds 3"
        );
    }
}

#[test]
fn pinned_unified_and_default_memory_are_read_where_they_lie() {
    for memory_type in [
        memory_type::CUDA_PINNED,
        memory_type::CUDA_UNIFIED,
        memory_type::DEFAULT,
    ] {
        let mapped = map(surface(
            Layout::Old,
            head(memory_type, 1, 1),
            &[nv12_entry(0)],
        ))
        .unwrap();
        assert_eq!(mapped.frame(0).unwrap().planes[0].pointer, DEVICE_MEMORY);
    }
}

#[test]
fn a_frame_s_matrix_is_that_of_the_caps_or_else_of_the_surface() {
    gst::init().unwrap();
    const NV12_709: u32 = 33;
    for (rest, color_format, matrix) in [
        ("", NV12, ColorMatrix::Bt601),
        ("", NV12_709, ColorMatrix::Bt709),
        (",colorimetry=2:4:7:1", NV12_709, ColorMatrix::Bt601),
        (",colorimetry=bt709", NV12, ColorMatrix::Bt709),
    ] {
        let entry = SurfaceParams {
            color_format,
            ..nv12_entry(0)
        };
        let surface = surface(Layout::New, head(memory_type::CUDA_DEVICE, 1, 1), &[entry]);
        let buffer = gst::Buffer::from_slice(surface);
        let mapped = NvmmBuffer::map(&buffer, &caps_with(rest)).unwrap();
        let colorimetry = Colorimetry {
            matrix,
            full_range: false,
        };
        assert_eq!(mapped.frame(0).unwrap().colorimetry, colorimetry, "{rest}");
    }
}

#[test]
fn planar_formats_with_v_first_come_out_as_i420() {
    let mut entry = nv12_entry(0);
    entry.color_format = 3;
    entry.planes.num_planes = 3;
    entry.planes.pitch = [256, 128, 128, 0];
    entry.planes.offset = [0, 256 * 32, 256 * 32 + 128 * 16, 0];
    let mapped = map(surface(
        Layout::Old,
        head(memory_type::CUDA_DEVICE, 1, 1),
        &[entry],
    ))
    .unwrap();
    let frame = mapped.frame(0).unwrap();
    assert_eq!(frame.format, PixelFormat::I420);
    let plane = |offset, pitch| DevicePlane {
        pointer: DEVICE_MEMORY + offset,
        pitch,
    };
    assert_eq!(
        frame.planes,
        [
            plane(0, 256),
            plane(256 * 32 + 128 * 16, 128),
            plane(256 * 32, 128)
        ]
    );
}

#[test]
fn a_single_frame_whose_count_was_never_set_is_read() {
    let one = map(surface(
        Layout::Old,
        head(memory_type::CUDA_DEVICE, 0, 1),
        &[nv12_entry(0)],
    ));
    assert_eq!(one.unwrap().len(), 1);
}

#[test]
fn buffers_that_hold_no_surface_are_refused_with_a_sentence() {
    let caps = caps();
    let error = |buffer: &gst::Buffer| NvmmBuffer::map(buffer, &caps).err().unwrap().to_string();
    assert_eq!(
        error(&gst::Buffer::with_size(1008).unwrap()),
        "the NVMM buffer is one of JetPack 4's nvbuf_utils; set bufapi-version=1 on the element that \
         makes it, or use JetPack 5 or later"
    );
    assert_eq!(
        error(&gst::Buffer::with_size(63).unwrap()),
        "the NVMM buffer holds 63 bytes; an NvBufSurface has 64, or 72 since DeepStream 8"
    );
    assert_eq!(
        error(&gst::Buffer::new()),
        "the buffer consists of 0 pieces of memory; an NVMM buffer is one piece"
    );
}

#[test]
fn surfaces_with_impossible_counts_are_refused_with_a_sentence() {
    let error = |head| {
        map(surface(Layout::New, head, &[]))
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        error(head(memory_type::CUDA_DEVICE, 5, 4)),
        "the NvBufSurface says that 5 of its 4 frames are filled"
    );
    assert_eq!(
        error(head(memory_type::CUDA_DEVICE, 0, 4)),
        "the NvBufSurface says that 0 of its 4 frames are filled"
    );
    assert_eq!(
        error(head(memory_type::CUDA_DEVICE, 0, 0)),
        "the NvBufSurface says that 0 of its 0 frames are filled"
    );
    assert_eq!(
        error(head(memory_type::CUDA_DEVICE, 1, 1)),
        "the NvBufSurface has no list of its frames"
    );
}

#[test]
fn frames_that_cannot_be_read_are_refused_with_a_sentence() {
    let device = memory_type::CUDA_DEVICE;
    let mut entry = nv12_entry(0);
    assert_eq!(
        refusal(6, entry),
        "the frame is in NVBUF_MEM_SYSTEM memory, which CUDA cannot read; set \
         nvbuf-memory-type=nvbuf-mem-cuda-device on the element that makes it"
    );
    entry.color_format = 18;
    assert_eq!(
        refusal(device, entry),
        "NVBUF_COLOR_FORMAT_YUV444 frames are not supported"
    );
    entry = nv12_entry(0);
    entry.planes.num_planes = u32::MAX;
    assert_eq!(
        refusal(device, entry),
        "a Nv12 frame has 2 planes, but the NvBufSurface names 4294967295"
    );
    entry = nv12_entry(0);
    entry.layout = 1;
    assert_eq!(
        refusal(device, entry),
        "the frame is block linear in NVBUF_MEM_CUDA_DEVICE memory, which is not supported"
    );
    entry = nv12_entry(0);
    entry.data_pointer = ptr::null_mut();
    assert_eq!(
        refusal(device, entry),
        "plane 0 of the Nv12 frame has no address in GPU memory"
    );
    entry = nv12_entry(0);
    entry.planes.pitch[1] = 63;
    assert_eq!(
        refusal(device, entry),
        "rows of plane 1 of the Nv12 frame are 63 bytes apart, but hold 64 bytes"
    );
    entry = nv12_entry(0);
    entry.planes.offset[1] = u32::MAX;
    assert_eq!(
        refusal(device, entry),
        "plane 1 of the 64x32 Nv12 frame ends 4294971199 bytes into memory of 12288 bytes"
    );
    entry = nv12_entry(0);
    entry.width = 0;
    assert_eq!(refusal(device, entry), "a frame of 0x32 pixels has no area");
}

#[test]
fn without_jetson_a_surface_array_is_refused_with_a_sentence() {
    if nvbufsurface::Library::get().is_none() {
        assert_eq!(
            refusal(memory_type::SURFACE_ARRAY, nv12_entry(0)),
            "libnvbufsurface.so has no EGL images"
        );
    }
}
