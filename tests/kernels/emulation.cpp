// Runs the kernels of src/cuda on a CPU, as they are. The threads of a block are coroutines that change over
// where they wait for each other.
#include <ucontext.h>

#include <vector>

#include "../../src/cuda/kernels.cu"

Index current_thread, current_block;

namespace {

struct Coroutine {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(64 * 1024);
    bool done;
};

ucontext_t scheduler;
std::vector<Coroutine> coroutines;
void (*kernel_of_threads)(const void *);
const void *parameters_of_threads;

void run_thread() {
    kernel_of_threads(parameters_of_threads);
    coroutines[current_thread.x].done = true;
    swapcontext(&coroutines[current_thread.x].context, &scheduler);
}

void run_block(u32 threads) {
    if (coroutines.size() < threads) coroutines.resize(threads);
    for (u32 i = 0; i < threads; i++) {
        Coroutine &coroutine = coroutines[i];
        getcontext(&coroutine.context);
        coroutine.context.uc_stack.ss_sp = coroutine.stack.data();
        coroutine.context.uc_stack.ss_size = coroutine.stack.size();
        coroutine.context.uc_link = nullptr;
        makecontext(&coroutine.context, run_thread, 0);
        coroutine.done = false;
    }
    for (u32 left = threads; left > 0;)
        for (u32 i = 0; i < threads; i++) {
            if (coroutines[i].done) continue;
            current_thread = {i, 0, 0};
            swapcontext(&scheduler, &coroutines[i].context);
            left -= coroutines[i].done;
        }
}

void run_waiting(void (*kernel)(const void *), const void *parameters, const u32 *grid, u32 threads) {
    kernel_of_threads = kernel;
    parameters_of_threads = parameters;
    for (u32 y = 0; y < grid[1]; y++)
        for (u32 x = 0; x < grid[0]; x++) {
            current_block = {x, y, 0};
            run_block(threads);
        }
}

} // namespace

void wait_for_block() { swapcontext(&coroutines[current_thread.x].context, &scheduler); }

extern "C" {

void run_preprocess(const PreprocessBatch *batch, const u32 *grid) {
    for (u32 z = 0; z < grid[2]; z++)
        for (u32 y = 0; y < grid[1]; y++)
            for (u32 x = 0; x < grid[0]; x++)
                for (u32 thread = 0; thread < 256; thread++) {
                    current_block = {x, y, z};
                    current_thread = {thread % 32, thread / 32, 0};
                    preprocess(*batch);
                }
}

void run_decode(const DecodeBatch *batch, const u32 *grid) {
    run_waiting([](const void *batch) { decode(*static_cast<const DecodeBatch *>(batch)); }, batch, grid, 256);
}

void run_suppress(const DecodeBatch *batch, const u32 *grid) {
    run_waiting([](const void *batch) { suppress(*static_cast<const DecodeBatch *>(batch)); }, batch, grid, 512);
}

void run_thumbnail(const ThumbnailBatch *batch, const u32 *grid) {
    for (u32 x = 0; x < grid[0]; x++)
        for (u32 thread = 256; thread-- > 0;) {
            current_block = {x, 0, 0};
            current_thread = {thread, 0, 0};
            thumbnail(*batch);
        }
}

void run_crop(const CropLaunch *launch, const u32 *grid) {
    run_waiting([](const void *launch) { crop(*static_cast<const CropLaunch *>(launch)); }, launch, grid, 256);
}

void run_overlay(const Canvas *canvas, const u32 *grid) {
    run_waiting([](const void *canvas) { overlay(*static_cast<const Canvas *>(canvas)); }, canvas, grid, 256);
}
}
