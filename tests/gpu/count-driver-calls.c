// Counts the calls of the CUDA driver that a program makes, and the bytes it copies: what a frame costs is the
// difference between two runs of different length, which tests/gpu/driver-calls makes. The driver loads this by itself:
//
//   cc -shared -fPIC -O2 -o count-driver-calls.so tests/gpu/count-driver-calls.c -ldl
//   DRIVER_CALLS=counts CUDA_INJECTION64_PATH=$PWD/count-driver-calls.so gst-launch-1.0 …
//
// Each line of the file is a function, its calls, and the bytes that they copied.
// Calls inside a CUDA graph are made by the GPU and do not count. The types are those of CUPTI's cupti_callbacks.h and
// generated_cuda_meta.h.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRIVER_API = 1, ENTER = 0, MOST_NAMES = 512 };

typedef struct {
    uint32_t site;
    const char *function;
    const void *parameters;
} CallbackData;

typedef struct {
    const char *name;
    unsigned long calls;
    unsigned long long bytes;
} Count;

static Count counts[MOST_NAMES];

// cuMemcpyHtoDAsync, cuMemcpyDtoHAsync, cuMemcpyDtoDAsync and their kin take destination, source and size.
static unsigned long long bytes_of(const CallbackData *data)
{
    if (strncmp(data->function, "cuMemcpy", 8) != 0 || strstr(data->function, "2D") || strstr(data->function, "3D"))
        return 0;
    return ((const uint64_t *)data->parameters)[2];
}

static void on_call(void *unused, uint32_t domain, uint32_t id, const CallbackData *data)
{
    (void)unused, (void)id;
    if (domain != DRIVER_API || data->site != ENTER || !data->function)
        return;
    for (int i = 0; i < MOST_NAMES; i++) {
        const char *expected = NULL;
        if (!counts[i].name)
            __atomic_compare_exchange_n(&counts[i].name, &expected, data->function, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        if (strcmp(counts[i].name, data->function) == 0) {
            __atomic_fetch_add(&counts[i].calls, 1, __ATOMIC_RELAXED);
            __atomic_fetch_add(&counts[i].bytes, bytes_of(data), __ATOMIC_RELAXED);
            return;
        }
    }
}

static void print_counts(void)
{
    const char *path = getenv("DRIVER_CALLS");
    FILE *out = path ? fopen(path, "w") : stderr;
    for (int i = 0; out && i < MOST_NAMES && counts[i].name; i++)
        fprintf(out, "%s %lu %llu\n", counts[i].name, counts[i].calls, counts[i].bytes);
    if (path && out)
        fclose(out);
}

int InitializeInjection(void)
{
    static const char *const names[] = {"libcupti.so", "libcupti.so.13", "libcupti.so.12"};
    void *cupti = NULL;
    for (unsigned i = 0; !cupti && i < sizeof names / sizeof names[0]; i++)
        cupti = dlopen(names[i], RTLD_NOW);
    if (!cupti) {
        fprintf(stderr, "%s\n", dlerror());
        return 0;
    }
    int (*subscribe)(void **, void (*)(void *, uint32_t, uint32_t, const CallbackData *), void *) =
        (int (*)(void **, void (*)(void *, uint32_t, uint32_t, const CallbackData *), void *))dlsym(cupti, "cuptiSubscribe");
    int (*enable)(uint32_t, void *, uint32_t) = (int (*)(uint32_t, void *, uint32_t))dlsym(cupti, "cuptiEnableDomain");
    void *subscriber = NULL;
    if (!subscribe || !enable || subscribe(&subscriber, on_call, NULL) != 0 || enable(1, subscriber, DRIVER_API) != 0)
        return 0;
    atexit(print_counts);
    return 1;
}
