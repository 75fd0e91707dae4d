//! CUDA is found when the program runs: the library needs none to load, and says clearly when there is none.

use std::path::PathBuf;
use std::process::Command;

use cust::error::CudaError;
use gstrsdetectnet::cuda::driver::{self, DriverError};

/// The plugin, which cargo builds beside the tests.
fn plugin() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors()
        .nth(1)
        .unwrap()
        .join("libgstrsdetectnet.so")
}

#[test]
fn the_plugin_names_no_nvidia_library() {
    let output = Command::new("readelf")
        .args(["--dynamic", "--dyn-syms", "--wide"])
        .arg(plugin())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("(NEEDED)"), "{text}");
    let nvidia: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter(|line| {
            ["cuda", "nvinfer", "nvbuf", "nvds"]
                .iter()
                .any(|name| line.contains(name))
        })
        .collect();
    assert!(nvidia.is_empty(), "{nvidia:?}");
    let own_symbols = text.lines().filter(|line| line.contains(" cuInit"));
    assert_eq!(
        own_symbols.count(),
        0,
        "the jumps must stay hidden from other libraries"
    );
}

#[test]
fn a_machine_without_driver_gets_one_clear_sentence() {
    match driver::load() {
        Ok(driver) => assert!(driver.cuda_version() >= (10, 0)),
        Err(error @ DriverError::NotFound(_)) => {
            assert!(
                error
                    .to_string()
                    .starts_with("no NVIDIA driver was found: libcuda.so.1")
            );
            assert_eq!(
                cust::device::Device::num_devices(),
                Err(CudaError::NotInitialized)
            );
        }
        Err(error) => assert!(error.to_string().contains("NVIDIA driver"), "{error}"),
    }
}

#[test]
fn an_error_of_cuda_carries_operation_name_and_code() {
    let result = cust::sys::CUresult::CUDA_ERROR_INVALID_VALUE;
    let error = driver::check("cuMemAlloc", result).unwrap_err();
    assert_eq!(error.code, 1);
    assert!(
        error
            .to_string()
            .starts_with("cuMemAlloc failed with CUDA_ERROR_INVALID_VALUE (1): ")
    );
}

#[test]
fn errors_that_somebody_can_do_something_about_say_what() {
    let say = |result| driver::check("cuMemAlloc", result).unwrap_err();
    let full = say(cust::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY).to_string();
    assert!(full.contains("; free memory of the GPU, or use "), "{full}");
    let other = say(cust::sys::CUresult::CUDA_ERROR_INVALID_VALUE);
    assert!(!other.to_string().contains(';') && !other.is_final());
    assert!(!driver::is_lost());
    let lost = say(cust::sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(lost.is_final() && driver::is_lost());
    let lost = lost.to_string();
    assert!(
        lost.starts_with("cuMemAlloc failed with CUDA_ERROR_ILLEGAL_ADDRESS (700): "),
        "{lost}"
    );
    assert!(
        lost.ends_with("in this process, which has to be started again"),
        "{lost}"
    );
}
