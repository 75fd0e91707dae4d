// From an ONNX model to an engine file.
#pragma once

#include "common.hpp"

#include <string.h>

namespace {

// Progress as the caller is told it; remembers that the caller wanted no more.
struct Reporter
{
    explicit Reporter(ShimBuildRequest const &request) noexcept
        : request(request)
    {
    }

    void started(char const *phase, int32_t steps) noexcept
    {
        tell(SHIM_PHASE_STARTED, phase, steps);
    }

    bool step_done(char const *phase, int32_t step) noexcept
    {
        return tell(SHIM_STEP_DONE, phase, step);
    }

    void finished(char const *phase) noexcept
    {
        tell(SHIM_PHASE_FINISHED, phase, 0);
    }

    bool is_cancelled() const noexcept
    {
        return __atomic_load_n(&cancelled, __ATOMIC_ACQUIRE);
    }

private:
    bool tell(ShimProgressKind kind, char const *phase, int32_t count) noexcept
    {
        if (!request.progress(request.user, kind, phase, count))
            __atomic_store_n(&cancelled, true, __ATOMIC_RELEASE);
        return !is_cancelled();
    }

    ShimBuildRequest const &request;
    bool cancelled = false;
};

#if HAS_PROGRESS_MONITOR
class Monitor final : public IProgressMonitor
{
public:
    explicit Monitor(Reporter &reporter) noexcept
        : reporter(reporter)
    {
    }

    void phaseStart(char const *phase, char const *, int32_t steps) noexcept override
    {
        reporter.started(phase, steps);
    }

    bool stepComplete(char const *phase, int32_t step) noexcept override
    {
        return reporter.step_done(phase, step);
    }

    void phaseFinish(char const *phase) noexcept override
    {
        reporter.finished(phase);
    }

private:
    Reporter &reporter;
};
#endif

uint32_t network_flags() noexcept
{
#if !IS_RTX && NV_TENSORRT_MAJOR == 8
    return 1U << static_cast<uint32_t>(NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif IS_RTX && !IS_CLEANED_UP
    return 1U << static_cast<uint32_t>(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#else
    return 0;
#endif
}

void describe_parser_error(nvonnxparser::IParser const &parser, ShimMessage *message)
{
    if (parser.getNbErrors() == 0)
        return;
    nvonnxparser::IParserError const &error = *parser.getError(0);
#if IS_RTX || NV_TENSORRT_MAJOR >= 10
    char const *name = error.nodeName();
    if (name != nullptr && name[0] != '\0')
    {
        describe(message, "node %s (%s): %s", name, error.nodeOperator(), error.desc());
        return;
    }
#endif
    if (error.node() >= 0)
        describe(message, "node %d: %s", error.node(), error.desc());
    else
        describe(message, "%s", error.desc());
}

bool is_quantised(INetworkDefinition const &network) noexcept
{
    for (int32_t index = 0; index < network.getNbLayers(); ++index)
        if (network.getLayer(index)->getType() == LayerType::kQUANTIZE)
            return true;
    return false;
}

ShimShape const *find_shape(ShimBuildRequest const &request, char const *name) noexcept
{
    for (size_t index = 0; index < request.shape_count; ++index)
        if (strcmp(request.shapes[index].name, name) == 0)
            return &request.shapes[index];
    return nullptr;
}

bool is_dynamic(ITensor const &input) noexcept
{
    Dims const shape = input.getDimensions();
    for (int32_t axis = 0; axis < shape.nbDims; ++axis)
        if (shape.d[axis] < 0)
            return true;
    return false;
}

// The range of every dynamic axis of an input: of the first these batches, of the others what was asked for.
bool set_ranges(IOptimizationProfile &profile, ITensor const &input, ShimBatches batches,
    ShimBuildRequest const &request, ShimMessage *message) noexcept
{
    Dims minimum = input.getDimensions();
    Dims maximum = minimum;
    ShimShape const *const wanted = find_shape(request, input.getName());
    for (int32_t axis = 0; axis < minimum.nbDims; ++axis)
    {
        if (minimum.d[axis] >= 0)
            continue;
        if (axis == 0)
        {
            minimum.d[axis] = batches.minimum;
            maximum.d[axis] = batches.maximum;
        }
        else if (wanted != nullptr && axis < wanted->rank && wanted->dimensions[axis] > 0)
        {
            Dims const fixed = to_dimensions(wanted->dimensions, wanted->rank);
            minimum.d[axis] = maximum.d[axis] = fixed.d[axis];
        }
        else
        {
            describe(message, "axis %d of input %s has no fixed size; say which size the input has", axis,
                input.getName());
            return false;
        }
    }
    return profile.setDimensions(input.getName(), OptProfileSelector::kMIN, minimum)
        && profile.setDimensions(input.getName(), OptProfileSelector::kOPT, maximum)
        && profile.setDimensions(input.getName(), OptProfileSelector::kMAX, maximum);
}

bool add_profile(IBuilder &builder, INetworkDefinition const &network, IBuilderConfig &config, ShimBatches batches,
    ShimBuildRequest const &request, ShimMessage *message) noexcept
{
    IOptimizationProfile *const profile = builder.createOptimizationProfile();
    for (int32_t index = 0; index < network.getNbInputs(); ++index)
    {
        ITensor const &input = *network.getInput(index);
        if (is_dynamic(input) && !set_ranges(*profile, input, batches, request, message))
            return false;
    }
    return config.addOptimizationProfile(profile) >= 0;
}

// Gives every dynamic axis its range: one profile for each of the batches, where the batch is dynamic.
bool add_profiles(IBuilder &builder, INetworkDefinition const &network, IBuilderConfig &config,
    ShimBuildRequest const &request, ShimMessage *message) noexcept
{
    bool any_axis = false;
    bool first_axis = false;
    for (int32_t index = 0; index < network.getNbInputs(); ++index)
    {
        ITensor const &input = *network.getInput(index);
        if (input.isShapeTensor())
        {
            describe(message, "input %s takes part in shape calculations; export the model with fixed shapes",
                input.getName());
            return false;
        }
        any_axis |= is_dynamic(input);
        first_axis |= input.getDimensions().nbDims > 0 && input.getDimensions().d[0] < 0;
    }
    if (!any_axis)
        return true;
    size_t const count = first_axis ? request.batches_count : 1;
    for (size_t index = 0; index < count; ++index)
        if (!add_profile(builder, network, config, request.batches[index], request, message))
            return false;
    return true;
}

bool configure(IBuilder &builder, INetworkDefinition const &network, IBuilderConfig &config,
    ShimBuildRequest const &request, ShimMessage *message) noexcept
{
    bool const quantised = is_quantised(network);
    if (request.int8_expected && !quantised)
    {
        describe(message,
            "int8 needs a model with QuantizeLinear and DequantizeLinear nodes; this one has none, so quantise it first");
        return false;
    }
    if (request.float32_only)
        config.clearFlag(BuilderFlag::kTF32);
#if !IS_STRONGLY_TYPED
    // Where float16 is no faster, it would cost accuracy for nothing.
    if (request.float16 && builder.platformHasFastFp16())
        config.setFlag(BuilderFlag::kFP16);
    if (quantised)
        config.setFlag(BuilderFlag::kINT8);
#endif
    if (request.workspace != 0)
        config.setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, request.workspace);
    if (request.dla_core >= 0)
    {
        if (request.dla_core >= builder.getNbDLACores())
        {
            describe(message, "there is no DLA core %d: this device has %d", request.dla_core, builder.getNbDLACores());
            return false;
        }
        config.setDefaultDeviceType(DeviceType::kDLA);
        config.setDLACore(request.dla_core);
        config.setFlag(BuilderFlag::kGPU_FALLBACK);
    }
#if IS_RTX
    if (!config.setNbComputeCapabilities(1) || !config.setComputeCapability(ComputeCapability::kCURRENT, 0))
        return false;
#elif NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6
    // Several contexts of one engine may then use its only profile; later versions always allow that.
    config.setPreviewFeature(PreviewFeature::kPROFILE_SHARING_0806, true);
#endif
    return true;
}

bool parse(nvonnxparser::IParser &parser, ShimBuildRequest const &request, Reporter &reporter, ShimMessage *message)
{
    char const *const phase = "Reading the model";
    reporter.started(phase, 1);
    bool const parsed = parser.parse(request.model, request.model_size, request.model_path);
    if (!parsed)
        describe_parser_error(parser, message);
    reporter.step_done(phase, 0);
    reporter.finished(phase);
    return parsed;
}

int32_t build(void *handle, ShimBuildRequest const *request, ShimBlob *plan, ShimMessage *message) noexcept
{
    return guarded<int32_t>(message, SHIM_FAILED, [&]() -> int32_t {
        Library &library = *static_cast<Library *>(handle);
        Reporter reporter(*request);
#if HAS_PROGRESS_MONITOR
        Monitor monitor(reporter);
#endif
        Owned<IBuilder> builder(library.create<IBuilder>(library.entry_points.create_builder));
        if (!builder)
            return SHIM_FAILED;
        Owned<INetworkDefinition> network(builder->createNetworkV2(network_flags()));
        Owned<IBuilderConfig> config(builder->createBuilderConfig());
        if (!network || !config)
            return SHIM_FAILED;
        Owned<nvonnxparser::IParser> parser(library.create_parser(*network));
        if (!parser)
        {
            describe(message, "TensorRT's ONNX parser is not there");
            return SHIM_FAILED;
        }
        if (!parse(*parser, *request, reporter, message))
            return SHIM_FAILED;
        if (reporter.is_cancelled())
            return SHIM_CANCELLED;
        if (!configure(*builder, *network, *config, *request, message)
            || !add_profiles(*builder, *network, *config, *request, message))
            return SHIM_FAILED;
#if HAS_PROGRESS_MONITOR
        config->setProgressMonitor(&monitor);
#endif
        Owned<IHostMemory> memory(builder->buildSerializedNetwork(*network, *config));
        if (reporter.is_cancelled())
            return SHIM_CANCELLED;
        if (!memory)
            return SHIM_FAILED;
        *plan = ShimBlob{memory.get(), memory->data(), memory->size()};
        memory.release();
        return SHIM_OK;
    });
}

} // namespace
