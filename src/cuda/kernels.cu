// Everything of rsdetectnet that runs on a GPU. `build-kernels` makes kernels.ptx of it.
#include "kernels/preprocess.cuh"
#include "kernels/decode.cuh"
#include "kernels/suppress.cuh"
#include "kernels/overlay.cuh"
#include "kernels/crop.cuh"
#include "kernels/thumbnail.cuh"
