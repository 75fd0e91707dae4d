// The two names of the CUDA runtime that TensorRT's headers need; both are opaque handles. With these
// the shim compiles where there is no CUDA toolkit, and cannot call into the CUDA runtime by accident.
#pragma once

typedef struct CUevent_st *cudaEvent_t;
typedef struct CUstream_st *cudaStream_t;
