//! The kernels compiled for the CPU, from the same source.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use gstrsdetectnet::crop::cuda::Launch as CropLaunch;
use gstrsdetectnet::decode::cuda::Batch as DecodeBatch;
use gstrsdetectnet::overlay::draw::Canvas;
use gstrsdetectnet::preprocess::cuda::Batch as PreprocessBatch;
use gstrsdetectnet::thumbnail::cuda::Batch as ThumbnailBatch;
use libloading::Library;

use crate::machine::Machine;

/// Only one block runs at a time, in the whole process.
static RUNNING: Mutex<()> = Mutex::new(());

#[derive(Default)]
pub struct Emulated {
    memory: RefCell<Vec<Vec<u128>>>,
}

/// The kernels, compiled when the first test asks.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libkernels.so");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
        let status = Command::new("g++")
            .args([
                "-std=c++17",
                "-O2",
                "-fno-strict-aliasing",
                "-ffp-contract=off",
                "-shared",
                "-fPIC",
                "-I",
            ])
            .arg(&sources)
            .arg(sources.join("emulation.cpp"))
            .arg("-o")
            .arg(&library)
            .status()
            .unwrap();
        assert!(status.success());
        // SAFETY: the library has no initialisers but those of its own globals.
        unsafe { Library::new(library) }.unwrap()
    })
}

impl Emulated {
    fn run<Parameters>(&self, name: &str, parameters: &Parameters, grid: [u32; 3]) {
        type Run<Parameters> = unsafe extern "C" fn(*const Parameters, *const u32);
        let guard = RUNNING.lock();
        // SAFETY: the functions of emulation.cpp have this signature; the tests give valid addresses.
        unsafe {
            let run = library().get::<Run<Parameters>>(name).unwrap();
            run(parameters, grid.as_ptr());
        }
        drop(guard);
    }
}

impl Machine for Emulated {
    fn upload(&self, bytes: &[u8]) -> u64 {
        let mut words = vec![0u128; bytes.len().div_ceil(16).max(1)];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(16)) {
            let mut padded = [0; 16];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u128::from_ne_bytes(padded);
        }
        let address = words.as_mut_ptr() as u64;
        self.memory.borrow_mut().push(words);
        address
    }

    fn download(&self, address: u64, bytes: usize) -> Vec<u8> {
        // SAFETY: the tests download what they have uploaded.
        unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }.to_vec()
    }

    fn texture(
        &self,
        data: &[u8],
        width: usize,
        height: usize,
        channels: usize,
        bytes: usize,
    ) -> u64 {
        // `Texture` of emulation.h.
        let mut texture = self.upload(data).to_ne_bytes().to_vec();
        for number in [width, height, channels, bytes] {
            texture.extend((number as u32).to_ne_bytes());
        }
        self.upload(&texture)
    }

    fn preprocess(&self, batch: &PreprocessBatch) {
        self.run("run_preprocess", batch, batch.grid());
    }

    fn decode(&self, batch: &DecodeBatch, images: usize) {
        for source in batch.launches() {
            self.run("run_decode", source, source.decode_grid(images));
        }
        if let Some(last) = batch.launches().last() {
            self.run("run_suppress", last, last.suppress_grid(images));
        }
    }

    fn draw(&self, canvas: &Canvas) {
        self.run("run_overlay", canvas, canvas.grid());
    }

    fn thumbnail(&self, batch: &ThumbnailBatch) {
        self.run("run_thumbnail", batch, batch.grid());
    }

    fn crop(&self, launch: &CropLaunch) {
        self.run("run_crop", launch, launch.grid());
    }
}
