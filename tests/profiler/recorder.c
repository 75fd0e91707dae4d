// A profiler's library, as far as ranges go: writes what it is told to the file that RECORDER_FILE names.
//
//   cc -shared -fPIC -o recorder.so tests/profiler/recorder.c
//   RECORDER_FILE=ranges NVTX_INJECTION64_PATH=$PWD/recorder.so gst-launch-1.0 …
//
// Types and numbers are those of NVTX 3: nvToolsExt.h and nvtxDetail/nvtxTypes.h.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CALLBACKS = 1, VERSION_INFO = 3 };
enum { CORE = 1, SYNC = 6, CORE2 = 5 };
enum { RANGE_PUSH = 4, RANGE_POP = 5, DOMAIN_CREATE = 12 };
enum { UNSIGNED_64 = 1, ASCII = 1 };

typedef void (*Function)(void);

typedef struct {
    size_t size;
    int (*module_functions)(int module, Function ***table, unsigned int *size);
} Callbacks;

typedef struct {
    size_t size;
    uint32_t version;
    uint32_t reserved;
    void (*set_profiler_version)(uint32_t version);
} VersionInfo;

typedef struct {
    uint16_t version, size;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const char *message;
} EventAttributes;

static FILE *file;
static char domain[64];

static void *create_domain(const char *name)
{
    snprintf(domain, sizeof domain, "%s", name);
    return domain;
}

static int push(void *in, const EventAttributes *event)
{
    int known = event->version == 3 && event->size == sizeof *event && event->message_type == ASCII;
    int has_number = event->payload_type == UNSIGNED_64;
    fprintf(file, "%ld push %s %s %lld\n", syscall(SYS_gettid), in == domain ? domain : "?", known ? event->message : "?",
            has_number ? (long long)event->payload : -1);
    return 0;
}

static int pop(void *in)
{
    fprintf(file, "%ld pop %s\n", syscall(SYS_gettid), in == domain ? domain : "?");
    return 0;
}

int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t))
{
    static const unsigned int sizes[] = {0, 16, 9, 15, 7, 16, 7};
    const Callbacks *callbacks = export_table(CALLBACKS);
    const VersionInfo *version = export_table(VERSION_INFO);
    const char *path = getenv("RECORDER_FILE");
    Function **table = NULL;
    unsigned int size = 0;
    if (!path || callbacks->size != sizeof *callbacks || version->size != sizeof *version || version->version != 3)
        return 0;
    if (export_table(7) || callbacks->module_functions(0, &table, &size) || callbacks->module_functions(7, &table, &size))
        return 0;
    version->set_profiler_version(3);
    // Profilers write to all of them.
    for (int module = CORE; module <= SYNC; module++) {
        if (!callbacks->module_functions(module, &table, &size) || size != sizes[module] || table[0] || table[size])
            return 0;
        for (unsigned int function = 1; function < size; function++)
            *table[function] = NULL;
    }
    if (!callbacks->module_functions(CORE2, &table, NULL) || !(file = fopen(path, "w")))
        return 0;
    setvbuf(file, NULL, _IOLBF, 0);
    *table[DOMAIN_CREATE] = (Function)create_domain;
    *table[RANGE_PUSH] = (Function)push;
    *table[RANGE_POP] = (Function)pop;
    return 1;
}
