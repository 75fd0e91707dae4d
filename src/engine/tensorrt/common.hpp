// What building and running share: releases, errors, TensorRT's log, shapes.
#pragma once

#include "shim.h"

#include <NvInfer.h>
#include <NvInferRuntime.h>
#include <NvInferVersion.h>
#include <NvOnnxParser.h>

#include <memory>
#include <stdarg.h>
#include <stdio.h>
#include <type_traits>

#ifdef TRT_MAJOR_RTX
#define IS_RTX 1
#else
#define IS_RTX 0
#endif

// Both dropped what was deprecated: weak typing, and calls whose places in the virtual tables others took.
#define IS_CLEANED_UP (NV_TENSORRT_MAJOR >= 11 || (IS_RTX && NV_TENSORRT_MINOR >= 5))
#define IS_STRONGLY_TYPED (IS_RTX || NV_TENSORRT_MAJOR >= 11)
#define HAS_PROGRESS_MONITOR (IS_RTX || NV_TENSORRT_MAJOR >= 10)
// TensorRT 10 has such calls since 10.1, but those without a size in all of its releases.
#define HAS_SIZED_MEMORY (IS_RTX || NV_TENSORRT_MAJOR >= 11)

namespace {

using namespace nvinfer1;

static_assert(RSDETECTNET_MAX_RANK == Dims::MAX_DIMS, "shapes of shim.h hold every tensor of TensorRT");

template <typename T>
using Owned = std::unique_ptr<T>;

void describe(ShimMessage *message, char const *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message->text, sizeof message->text, format, arguments);
    va_end(arguments);
}

// The parser of TensorRT 8 may throw; no exception may reach Rust.
template <typename Result, typename Body>
Result guarded(ShimMessage *message, Result failure, Body body) noexcept
{
    try
    {
        return body();
    }
    catch (...)
    {
        describe(message, "TensorRT threw a C++ exception");
        return failure;
    }
}

class Logger final : public ILogger
{
public:
    explicit Logger(ShimLog write) noexcept
        : write(write)
    {
    }

    void log(Severity severity, AsciiChar const *message) noexcept override
    {
        write(static_cast<int32_t>(severity), message);
    }

private:
    ShimLog write;
};

struct Library
{
    Library(ShimEntryPoints const &entry_points, ShimLog log) noexcept
        : entry_points(entry_points)
        , logger(log)
    {
    }

    template <typename T>
    T *create(void *function) noexcept
    {
        auto const call = reinterpret_cast<void *(*) (void *, int32_t) noexcept>(function);
        return static_cast<T *>(call(static_cast<ILogger *>(&logger), entry_points.version));
    }

    void register_plugins() noexcept
    {
        if (entry_points.register_plugins == nullptr)
            return;
        auto const call = reinterpret_cast<bool (*)(void *, char const *)>(entry_points.register_plugins);
        call(static_cast<ILogger *>(&logger), "");
    }

    nvonnxparser::IParser *create_parser(INetworkDefinition &network) noexcept
    {
        if (entry_points.create_parser == nullptr)
            return nullptr;
        auto const call = reinterpret_cast<void *(*) (void *, void *, int)>(entry_points.create_parser);
        return static_cast<nvonnxparser::IParser *>(
            call(&network, static_cast<ILogger *>(&logger), NV_ONNX_PARSER_VERSION));
    }

    ShimEntryPoints entry_points;
    Logger logger;
};

void copy_dimensions(Dims const &from, int64_t *to) noexcept
{
    for (int32_t axis = 0; axis < from.nbDims; ++axis)
        to[axis] = from.d[axis];
}

Dims to_dimensions(int64_t const *from, int32_t rank) noexcept
{
    Dims to{};
    to.nbDims = rank;
    for (int32_t axis = 0; axis < rank; ++axis)
        to.d[axis] = static_cast<std::remove_reference_t<decltype(to.d[0])>>(from[axis]);
    return to;
}

} // namespace
