/* What libgstrsdetectnet.so gives to other languages: the detections of a buffer, its pixels where they lie, and
 * a way of GPU memory into a buffer. Link with the plugin, or open it with dlopen. Functions may be called from
 * any thread, after gst_init. */
#ifndef RSDETECTNET_H
#define RSDETECTNET_H

#include <gst/gst.h>
#include <stdint.h>

G_BEGIN_DECLS

typedef struct RsDetectNetDetection {
  const char *label; /* UTF-8 that is never freed */
  uint32_t class_id; /* the number of the label in the model's labels, from 0 */
  float confidence;  /* 0 to 1 */
  float x;           /* of the left edge, in pixels of the frame */
  float y;           /* of the upper edge */
  float width;
  float height;
  int64_t object_id; /* the identity that a tracker gave; -1 where the object is not tracked */
  uint32_t batch_id; /* the frame of a buffer of nvstreammux; 0 in all others */
  uint32_t hash_size; /* bytes of the hash; 0 without hash-size */
  const uint8_t *hash; /* the grey thumbnail, row by row; freed with the buffer's metadata */
  uint32_t predicted; /* 1 where a tracker expects the object in a frame that was not inspected, else 0 */
  uint32_t reserved;
} RsDetectNetDetection;

/* Writes up to CAPACITY detections, best first, and returns how many the buffer has. DETECTIONS may be NULL. */
size_t rsdetectnet_detections (const GstBuffer *buffer, RsDetectNetDetection *detections, size_t capacity);

typedef struct RsDetectNetPlane {
  uint64_t address; /* a pointer, or a CUdeviceptr of the GPU's primary context */
  uint64_t stride;  /* bytes from one row to the next */
} RsDetectNetPlane;

typedef struct RsDetectNetFrame {
  const char *format; /* GStreamer's name, such as "NV12"; never freed */
  uint32_t width;     /* in pixels */
  uint32_t height;
  int32_t gpu_id;     /* the CUDA ordinal; -1 for system memory */
  uint32_t plane_count;
  RsDetectNetPlane planes[3]; /* in the order of the format; of YV12 in that of I420 */
} RsDetectNetFrame;

typedef struct RsDetectNetMapping RsDetectNetMapping;

/* Maps a buffer for reading and describes its frame: system memory, memory:CUDAMemory or memory:NVMM. It copies
 * nothing, and waits until a frame that a GPU is still writing is finished. CAPS may be NULL for buffers with a
 * GstVideoMeta that are not memory:NVMM. BATCH_ID is 0, or the frame of a buffer of nvstreammux. The planes stay
 * where they are until the mapping is given back to rsdetectnet_unmap; it holds a reference of the buffer.
 * Returns NULL, with a sentence in ERROR, where the buffer cannot be mapped. */
RsDetectNetMapping *rsdetectnet_map (GstBuffer *buffer, GstCaps *caps, uint32_t batch_id, RsDetectNetFrame *frame,
                                     char *error, size_t error_size);

void rsdetectnet_unmap (RsDetectNetMapping *mapping);

/* A plane as a DLManagedTensor of DLPack 0.8: rows x columns x channels, or rows x columns where there is one
 * channel. It holds the buffer until its deleter is called, on any thread; the mapping may be given back before.
 * Returns NULL, with a sentence in ERROR, where that cannot be. */
struct DLManagedTensor *rsdetectnet_dlpack (RsDetectNetMapping *mapping, uint32_t plane, char *error,
                                            size_t error_size);

/* A PyObject with such a tensor, which it takes over: the capsule that __dlpack__ returns. Called from Python, with its
 * lock held; NULL where Python has raised an exception. */
void *rsdetectnet_dlpack_capsule (struct DLManagedTensor *tensor);

/* Copies planes of GPU memory into a new buffer of memory:CUDAMemory, on the GPU, and sets it as the buffer of
 * SAMPLE, whose caps say what the planes hold and which has one reference only. The copy follows what was queued
 * on STREAM (a CUstream; NULL for the default stream) and is done when the function returns. PTS and DURATION may
 * be GST_CLOCK_TIME_NONE.
 * Returns FALSE, with a sentence in ERROR, where that cannot be. */
gboolean rsdetectnet_copy_to_cuda (GstSample *sample, const RsDetectNetPlane *planes, uint32_t plane_count,
                                   void *stream, GstClockTime pts, GstClockTime duration, char *error,
                                   size_t error_size);

G_END_DECLS

#endif
