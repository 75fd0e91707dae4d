//! Contexts that take turns in the same memory.

use cust::memory::DeviceBuffer;
use cust::sys;
use gstrsdetectnet::cuda::arena::Arena;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::cuda::driver::check;
use gstrsdetectnet::engine::tensorrt::Engine;

use crate::machine::{Gpu, Runner, largest_difference, picture};
use crate::{FLOAT32_LIMIT, engines_of_every_kind};

const MIB: usize = 1 << 20;

fn bytes_at(address: u64, bytes: usize) -> Vec<u8> {
    let mut values = vec![1; bytes];
    // SAFETY: as many bytes are there, says the arena.
    let copied = unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), address, bytes) };
    check("cuMemcpyDtoH", copied).unwrap();
    values
}

/// Whether the driver can put memory behind addresses.
fn can_grow(context: &Context) -> bool {
    use sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED as CAN;
    let mut can = 0;
    // SAFETY: the call writes to the variable.
    let asked = unsafe { sys::cuDeviceGetAttribute(&mut can, CAN, context.device()) };
    check("cuDeviceGetAttribute", asked).unwrap();
    println!("the driver can put memory behind addresses: {}", can != 0);
    can != 0
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn an_arena_grows_where_it_is_keeps_what_is_in_it_and_gives_all_back() {
    let gpu = Gpu::open();
    let context = Context::primary(0).unwrap();
    // What the driver takes for its first pieces stays with it.
    drop(Arena::new(&context).at_least(MIB));
    let before = gpu.free_memory();
    let mut arena = Arena::new(&context);
    assert_eq!(arena.size(), 0);
    let first = arena.at_least(1000).unwrap();
    assert!(bytes_at(first, 1000).iter().all(|byte| *byte == 0));
    // SAFETY: so many bytes are there.
    check("cuMemsetD8", unsafe { sys::cuMemsetD8_v2(first, 7, 1000) }).unwrap();
    let small = arena.size();
    let grown = arena.at_least(300 * MIB).unwrap();
    let large = arena.size();
    println!(
        "at {first:#x} {} KiB, then at {grown:#x} {} MiB; {} MiB of the GPU are gone",
        small >> 10,
        large / MIB,
        (before - gpu.free_memory()) / MIB
    );
    assert!(large >= 300 * MIB && large < 304 * MIB + small);
    assert_eq!(arena.at_least(200 * MIB).unwrap(), grown);
    assert_eq!(arena.size(), large);
    assert!(bytes_at(first, 1000).iter().all(|byte| *byte == 7));
    let end = grown + 300 * MIB as u64 - 1000;
    assert!(bytes_at(end, 1000).iter().all(|byte| *byte == 0));
    assert_eq!(first == grown, can_grow(&context));
    let too_much = arena.at_least(1 << 50).unwrap_err();
    println!("{too_much}");
    assert!(too_much.is_out_of_memory());
    drop(arena);
    assert_eq!(gpu.free_memory(), before);
}

/// What three runs of each of three contexts find in the same images.
fn runs_of_contexts(engine: &Engine, batch: u32) -> Vec<Vec<Vec<Vec<f32>>>> {
    let mut contexts = [(); 3].map(|()| Runner::new(engine, batch));
    let size = contexts[0].image_size();
    let images: Vec<f32> = (0..batch as usize)
        .flat_map(|seed| picture(size, seed))
        .collect();
    let runs = contexts
        .iter_mut()
        .map(|runner| (0..3).map(|_| runner.run(&images)).collect());
    runs.collect()
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn contexts_with_memory_of_their_own_find_the_same_from_their_second_run_on() {
    let gpu = Gpu::open();
    let mut worst: f32 = 0.0;
    for batch in [1, 4] {
        let kinds: Vec<_> = engines_of_every_kind(&gpu)
            .map(|(of_engines, engines)| {
                let engine = engines.iter().find(|engine| engine.takes(batch)).unwrap();
                (of_engines, runs_of_contexts(engine, batch))
            })
            .collect();
        // Of an engine that is as the element builds them.
        let expected = &kinds.last().unwrap().1[0][1];
        let largest = expected
            .iter()
            .flatten()
            .fold(0.0_f32, |m, v| m.max(v.abs()));
        println!("batches of {batch}: values up to {largest}");
        for (of_engines, contexts) in &kinds {
            for (number, runs) in contexts.iter().enumerate() {
                let differences: Vec<_> = runs
                    .iter()
                    .map(|run| largest_difference(run, expected))
                    .collect();
                println!("{of_engines:?}, context {number}: runs differ by {differences:?}");
                worst = differences[1..].iter().copied().fold(worst, f32::max);
            }
        }
    }
    assert!(worst < FLOAT32_LIMIT, "{worst}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn contexts_of_one_or_of_several_engines_take_turns_in_the_same_memory_also_as_graphs() {
    let gpu = Gpu::open();
    let context = Context::primary(0).unwrap();
    for (of_engines, engines) in engines_of_every_kind(&gpu) {
        // Where a profile is for a range, a lane has memory of its own.
        if !engines.iter().any(|engine| engine.is_made_for(1)) {
            continue;
        }
        let engine = |batch| engines.iter().find(|engine| engine.takes(batch)).unwrap();
        let mut arena = Arena::new(&context);
        let mut runners = [1, 4].map(|batch| {
            let context = engine(batch).new_context_without_memory().unwrap();
            let mut runner = Runner::of(engine(batch), context, batch);
            let need = runner.need();
            println!("{of_engines:?}: batches of {batch} need {need} bytes");
            // As a lane that is made while others run: its first run is elsewhere.
            let apart = DeviceBuffer::<u8>::zeroed(need.max(512)).unwrap();
            // SAFETY: the runner waits for its stream before it settles elsewhere.
            unsafe { runner.settle(apart.as_device_ptr().as_raw(), need.max(512)) };
            runner.enqueue();
            let address = arena.at_least(need.max(512)).unwrap();
            // SAFETY: the arena lives longer, and the runners take turns below.
            unsafe { runner.settle(address, need.max(512)) };
            drop(apart);
            runner
        });
        let size = runners[0].image_size();
        let images: Vec<f32> = (0..4).flat_map(|seed| picture(size, seed)).collect();
        // The runners above have run before, as lanes have: what a context's first run finds is not what is compared.
        let expected = [1, 4].map(|batch: u32| {
            let mut own = Runner::new(engine(batch), batch);
            let images = &images[..batch as usize * size];
            let [first, second] = [(); 2].map(|()| own.run(images));
            let difference = largest_difference(&first, &second);
            println!(
                "{of_engines:?}: the first run of a batch of {batch} differs by {difference:.1e}"
            );
            second
        });
        let mut largest: f32 = 0.0;
        let mut graphs = [0, 1].map(|which: usize| {
            let found = runners[which].run(&images[..[1, 4][which] * size]);
            largest = largest.max(largest_difference(&found, &expected[which]));
            runners[which].capture()
        });
        println!("{of_engines:?}: without graphs they differ by {largest:.1e}");
        for round in 0..20 {
            let which = [0, 1, 1, 0, 1][round % 5];
            runners[which].forget_outputs();
            runners[which].launch(&mut graphs[which]);
            let difference = largest_difference(&runners[which].outputs(), &expected[which]);
            largest = largest.max(difference);
        }
        println!("{of_engines:?}: largest difference {largest:.1e}");
        assert!(largest < FLOAT32_LIMIT, "{of_engines:?}");
        drop(graphs);
        drop(runners);
        drop(arena);
    }
}
