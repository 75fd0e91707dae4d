// TensorRT behind the C interface of shim.h. Compiled once per set of headers: TensorRT 8.5 and later,
// TensorRT-RTX 1.3 and later.
//
// build.rs defines RSDETECTNET_SHIM (the name of the exported table) and renames TensorRT's namespaces:
// the headers' inline functions call virtual functions by position, and the linker would otherwise merge
// those of different versions, which have different positions.

#include "build.hpp"
#include "common.hpp"

#include <new>

namespace {

void release(ShimBlob *blob) noexcept
{
    delete static_cast<IHostMemory *>(blob->owner);
    *blob = ShimBlob{};
}

// Members are destroyed from the last to the first: each needs those before it.
struct Engine
{
    Owned<IRuntime> runtime;
    Owned<ICudaEngine> engine;
#if IS_RTX
    Owned<IRuntimeCache> cache;
    Owned<IRuntimeConfig> config; // made the cache; each context has one of its own
#endif
};

struct Context
{
#if IS_RTX
    Owned<IRuntimeConfig> config;
#endif
    Owned<IExecutionContext> context;
};

IExecutionContext &context_of(void *handle) noexcept
{
    return *static_cast<Context *>(handle)->context;
}

#if IS_RTX
// TensorRT-RTX compiles kernels when they are first needed; what is compiled goes into the cache.
bool prepare_runtime_cache(Engine &engine, void const *jit, size_t jit_size) noexcept
{
    engine.config.reset(engine.engine->createRuntimeConfig());
    if (!engine.config)
        return false;
    engine.cache.reset(engine.config->createRuntimeCache());
    if (!engine.cache)
        return false;
    if (jit != nullptr && !engine.cache->deserialize(jit, jit_size))
        engine.cache->reset();
    return true;
}
#endif

void *load(void *handle, void const *plan, size_t size, int32_t dla_core, [[maybe_unused]] void const *jit,
    [[maybe_unused]] size_t jit_size, ShimMessage *message) noexcept
{
    return guarded<void *>(message, nullptr, [&]() -> void * {
        Library &library = *static_cast<Library *>(handle);
        Owned<Engine> engine(new (std::nothrow) Engine);
        if (!engine)
            return nullptr;
        engine->runtime.reset(library.create<IRuntime>(library.entry_points.create_runtime));
        if (!engine->runtime)
            return nullptr;
        if (dla_core >= 0)
            engine->runtime->setDLACore(dla_core);
        engine->engine.reset(engine->runtime->deserializeCudaEngine(plan, size));
        if (!engine->engine)
            return nullptr;
#if !IS_RTX && NV_TENSORRT_MAJOR == 8
        if (engine->engine->hasImplicitBatchDimension())
        {
            describe(message, "the engine was built with an implicit batch, which TensorRT has given up; build it anew");
            return nullptr;
        }
#endif
#if IS_RTX
        if (!prepare_runtime_cache(*engine, jit, jit_size))
            return nullptr;
#endif
        return engine.release();
    });
}

void unload(void *handle) noexcept
{
    delete static_cast<Engine *>(handle);
}

int32_t tensor_count(void *handle) noexcept
{
    return static_cast<Engine *>(handle)->engine->getNbIOTensors();
}

int32_t profile_count(void *handle) noexcept
{
    return static_cast<Engine *>(handle)->engine->getNbOptimizationProfiles();
}

int32_t tensor(void *handle, int32_t index, int32_t profile, ShimTensor *tensor) noexcept
{
    ICudaEngine const &engine = *static_cast<Engine *>(handle)->engine;
    char const *const name = engine.getIOTensorName(index);
    if (name == nullptr)
        return SHIM_FAILED;
    *tensor = ShimTensor{};
    tensor->name = name;
    tensor->is_input = engine.getTensorIOMode(name) == TensorIOMode::kINPUT;
    tensor->data_type = static_cast<int32_t>(engine.getTensorDataType(name));
    tensor->is_plain = engine.getTensorFormat(name) == TensorFormat::kLINEAR
        && engine.getTensorLocation(name) == TensorLocation::kDEVICE
        && !(tensor->is_input && engine.isShapeInferenceIO(name));
    Dims const shape = engine.getTensorShape(name);
    tensor->rank = shape.nbDims;
    copy_dimensions(shape, tensor->dimensions);
    if (!tensor->is_input)
        return SHIM_OK;
    Dims const minimum = engine.getProfileShape(name, profile, OptProfileSelector::kMIN);
    bool const has_profile = minimum.nbDims == shape.nbDims;
    copy_dimensions(has_profile ? minimum : shape, tensor->minimum);
    auto const of_profile = [&](OptProfileSelector selector) {
        return has_profile ? engine.getProfileShape(name, profile, selector) : shape;
    };
    copy_dimensions(of_profile(OptProfileSelector::kOPT), tensor->optimum);
    copy_dimensions(of_profile(OptProfileSelector::kMAX), tensor->maximum);
    return SHIM_OK;
}

int32_t runtime_cache([[maybe_unused]] void *handle, [[maybe_unused]] ShimBlob *blob) noexcept
{
#if IS_RTX
    IHostMemory *const memory = static_cast<Engine *>(handle)->cache->serialize();
    if (memory == nullptr)
        return SHIM_FAILED;
    *blob = ShimBlob{memory, memory->data(), memory->size()};
    return SHIM_OK;
#else
    return SHIM_FAILED;
#endif
}

int64_t memory_size(void *handle, [[maybe_unused]] int32_t profile) noexcept
{
    ICudaEngine const &engine = *static_cast<Engine *>(handle)->engine;
#if HAS_SIZED_MEMORY
    return engine.getDeviceMemorySizeForProfileV2(profile);
#elif NV_TENSORRT_MAJOR >= 10
    return static_cast<int64_t>(engine.getDeviceMemorySizeForProfile(profile));
#else
    return static_cast<int64_t>(engine.getDeviceMemorySize());
#endif
}

IExecutionContext *make_context(Engine &engine, [[maybe_unused]] Context &context, bool own_memory) noexcept
{
#if IS_RTX || NV_TENSORRT_MAJOR >= 10
    ExecutionContextAllocationStrategy const strategy
        = own_memory ? ExecutionContextAllocationStrategy::kSTATIC : ExecutionContextAllocationStrategy::kUSER_MANAGED;
#endif
#if IS_RTX
    context.config.reset(engine.engine->createRuntimeConfig());
    if (!context.config || !context.config->setRuntimeCache(*engine.cache))
        return nullptr;
    // Kernels for a batch that is one of several are compiled before its first run, so that a CUDA graph captured
    // after that holds the fast ones.
    context.config->setDynamicShapesKernelSpecializationStrategy(DynamicShapesKernelSpecializationStrategy::kEAGER);
    context.config->setExecutionContextAllocationStrategy(strategy);
    return engine.engine->createExecutionContext(context.config.get());
#elif NV_TENSORRT_MAJOR >= 10
    return engine.engine->createExecutionContext(strategy);
#else
    return own_memory ? engine.engine->createExecutionContext()
                      : engine.engine->createExecutionContextWithoutDeviceMemory();
#endif
}

int32_t set_profile(void *handle, int32_t profile) noexcept
{
    IExecutionContext &context = context_of(handle);
    // Only the first context of an engine of TensorRT 8 has a profile from the start.
    bool const done
        = context.getOptimizationProfile() == profile || context.setOptimizationProfileAsync(profile, nullptr);
    return done ? SHIM_OK : SHIM_FAILED;
}

void *create_context(void *handle, int32_t profile, int32_t own_memory, ShimMessage *message) noexcept
{
    return guarded<void *>(message, nullptr, [&]() -> void * {
        Owned<Context> context(new (std::nothrow) Context);
        if (!context)
            return nullptr;
        context->context.reset(make_context(*static_cast<Engine *>(handle), *context, own_memory != 0));
        if (!context->context || set_profile(context.get(), profile) != SHIM_OK)
            return nullptr;
        return context.release();
    });
}

void destroy_context(void *handle) noexcept
{
    delete static_cast<Context *>(handle);
}

void set_memory(void *handle, void *memory, [[maybe_unused]] int64_t size) noexcept
{
#if HAS_SIZED_MEMORY
    context_of(handle).setDeviceMemoryV2(memory, size);
#else
    context_of(handle).setDeviceMemory(memory);
#endif
}

int32_t set_shape(void *handle, char const *name, int64_t const *dimensions, int32_t rank) noexcept
{
    bool const done = context_of(handle).setInputShape(name, to_dimensions(dimensions, rank));
    return done ? SHIM_OK : SHIM_FAILED;
}

int32_t shape(void *handle, char const *name, int64_t *dimensions) noexcept
{
    Dims const shape = context_of(handle).getTensorShape(name);
    copy_dimensions(shape, dimensions);
    return shape.nbDims;
}

int32_t set_address(void *handle, char const *name, void *address) noexcept
{
    return context_of(handle).setTensorAddress(name, address) ? SHIM_OK : SHIM_FAILED;
}

int32_t enqueue(void *handle, void *stream) noexcept
{
    return context_of(handle).enqueueV3(static_cast<cudaStream_t>(stream)) ? SHIM_OK : SHIM_FAILED;
}

void *open(ShimEntryPoints const *entry_points, ShimLog log) noexcept
{
    Library *const library = new (std::nothrow) Library(*entry_points, log);
    if (library != nullptr)
        library->register_plugins();
    return library;
}

// Every call made here is in the first release of each generation of headers, but for TensorRT 8.6's
// setPreviewFeature flag, and generations end where virtual tables changed: NvInferImpl.h.
constexpr int32_t oldest_minor() noexcept
{
#if IS_RTX
    return IS_CLEANED_UP ? 5 : 3;
#elif NV_TENSORRT_MAJOR == 8
    return NV_TENSORRT_MINOR >= 6 ? 6 : 5;
#else
    return 0;
#endif
}

} // namespace

extern "C" Shim const RSDETECTNET_SHIM = {
    IS_RTX,
    NV_TENSORRT_MAJOR,
    NV_TENSORRT_MINOR,
    NV_TENSORRT_PATCH,
    oldest_minor(),
    IS_STRONGLY_TYPED,
    HAS_PROGRESS_MONITOR,
    open,
    build,
    release,
    load,
    unload,
    tensor_count,
    profile_count,
    tensor,
    runtime_cache,
    memory_size,
    create_context,
    destroy_context,
    set_memory,
    set_profile,
    set_shape,
    shape,
    set_address,
    enqueue,
};
