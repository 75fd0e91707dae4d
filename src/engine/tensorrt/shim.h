// The small C interface between rsdetectnet and TensorRT's C++ interface; shim.rs mirrors it field by field.
//
// shim.cpp is compiled once per set of TensorRT headers and exports one `Shim` table each time. Nothing
// here links to TensorRT: the few entry points are looked up at run time and handed to `open`.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RSDETECTNET_MAX_RANK = 8, RSDETECTNET_MESSAGE_SIZE = 1024 };

enum ShimStatus { SHIM_OK = 0, SHIM_FAILED = 1, SHIM_CANCELLED = 2 };

enum ShimProgressKind { SHIM_PHASE_STARTED = 0, SHIM_STEP_DONE = 1, SHIM_PHASE_FINISHED = 2 };

// One sentence for the user, null-terminated; empty when TensorRT's own log says what was wrong.
typedef struct {
    char text[RSDETECTNET_MESSAGE_SIZE];
} ShimMessage;

// Functions found with dlsym. `create_parser` may be null: then `build` fails and the rest works. So may
// `register_plugins`: then models with layers of libnvinfer_plugin do not load.
typedef struct {
    void *create_builder;
    void *create_runtime;
    void *create_parser;
    void *register_plugins;
    int32_t version; // what getInferLibVersion() returned
} ShimEntryPoints;

// `severity` counts as nvinfer1::ILogger::Severity: 0 internal error … 4 verbose. Called from any thread.
typedef void (*ShimLog)(int32_t severity, const char *message);

// `count` is the number of steps (SHIM_PHASE_STARTED) or the finished step (SHIM_STEP_DONE). Returns
// whether to go on. Called from any thread.
typedef int32_t (*ShimProgress)(void *user, int32_t kind, const char *phase, int32_t count);

// Memory owned by TensorRT, to be given back with `release`.
typedef struct {
    void *owner;
    const void *data;
    size_t size;
} ShimBlob;

typedef struct {
    const char *name;
    int32_t rank;
    int64_t dimensions[RSDETECTNET_MAX_RANK];
} ShimShape;

// The first axis of the inputs, from one size to another.
typedef struct {
    int32_t minimum, maximum;
} ShimBatches;

typedef struct {
    const void *model;
    size_t model_size;
    const char *model_path; // beside it lie the files of external weights; may be null
    const ShimShape *shapes; // values for dynamic axes other than the batch
    size_t shape_count;
    const ShimBatches *batches; // each becomes an optimisation profile, where the batch is dynamic
    size_t batches_count;       // at least 1
    int32_t float32_only; // no TF32
    int32_t float16;      // where TensorRT chooses types itself
    int32_t int8_expected;
    int32_t dla_core;   // -1: none
    uint64_t workspace; // bytes; 0: TensorRT's own limit
    ShimProgress progress;
    void *user;
} ShimBuildRequest;

typedef struct {
    const char *name; // lives as long as the engine
    int32_t is_input;
    int32_t data_type; // nvinfer1::DataType
    int32_t rank;      // -1: unknown
    int64_t dimensions[RSDETECTNET_MAX_RANK]; // -1: dynamic
    // Of inputs, from the optimisation profile that was asked for; equal to `dimensions` where those are static.
    int64_t minimum[RSDETECTNET_MAX_RANK];
    int64_t optimum[RSDETECTNET_MAX_RANK];
    int64_t maximum[RSDETECTNET_MAX_RANK];
    int32_t is_plain; // row-major on the device, and no input of shape calculations
} ShimTensor;

// Handles are opaque: `library` lives as long as the process; contexts are destroyed before their engine.
typedef struct {
    int32_t is_rtx;
    int32_t major, minor, patch; // of the headers
    int32_t oldest_minor;        // of the library that has every call made here, same major
    int32_t is_strongly_typed;   // types come from the model alone
    int32_t reports_progress;    // and so can be cancelled, while it builds

    void *(*open)(const ShimEntryPoints *entry_points, ShimLog log); // null: out of memory
    int32_t (*build)(void *library, const ShimBuildRequest *request, ShimBlob *plan, ShimMessage *message);
    void (*release)(ShimBlob *blob);

    // `jit` holds what `runtime_cache` gave earlier, or is null.
    void *(*load)(void *library, const void *plan, size_t size, int32_t dla_core, const void *jit, size_t jit_size,
        ShimMessage *message);
    void (*unload)(void *engine);
    int32_t (*tensor_count)(void *engine);
    int32_t (*profile_count)(void *engine);
    int32_t (*tensor)(void *engine, int32_t index, int32_t profile, ShimTensor *tensor);
    // Kernels compiled so far (TensorRT-RTX); SHIM_FAILED where there is no such thing.
    int32_t (*runtime_cache)(void *engine, ShimBlob *blob);

    // Bytes for activations that contexts of a profile need; not above 0: none, or TensorRT does not say.
    int64_t (*memory_size)(void *engine, int32_t profile);

    // Profiles are set by work on the default stream, which must be done before the context runs. A context without
    // memory of its own must be given some for activations before it runs.
    void *(*create_context)(void *engine, int32_t profile, int32_t own_memory, ShimMessage *message);
    void (*destroy_context)(void *context);
    void (*set_memory)(void *context, void *memory, int64_t size); // what is wrong with it is in the log alone
    int32_t (*set_profile)(void *context, int32_t profile);
    int32_t (*set_shape)(void *context, const char *name, const int64_t *dimensions, int32_t rank);
    int32_t (*shape)(void *context, const char *name, int64_t *dimensions); // the rank; -1: unknown
    int32_t (*set_address)(void *context, const char *name, void *address);
    int32_t (*enqueue)(void *context, void *stream);
} Shim;

#ifdef __cplusplus
}
#endif
