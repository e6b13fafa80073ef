// The project's own C functions on top of MLX: what mlx-c lacks.
//
// They follow mlx-c's conventions. A function that can fail returns 0 or, after the error handler
// installed with mlx_set_error_handler was called on the same thread, another number. No C++
// exception leaves any of them.
#ifndef MLXB_H
#define MLXB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever a declaration in this file changes; the loader refuses a library whose
// mlxb_abi_version() differs from the one it was compiled with.
#define MLXB_ABI_VERSION 4
int mlxb_abi_version(void);

// What the library was built for: "cpu", "cuda" or "metal".
const char* mlxb_backend(void);

// The address of an evaluated array's first element, whatever its dtype.
int mlxb_array_data(const void** result, const mlx_array array);

// ---- Lent memory --------------------------------------------------------------------------------

// An array over memory that MLX did not allocate: row-major elements at data, valid and unchanged
// until payload_free, which may be null, is called with payload. That happens exactly once, from
// any thread, also if this call fails.
//
// The memory is used as it is where the allocator can: on Metal if it is whole pages, on the CPU if
// it is aligned to 8 bytes and at least 8 bytes before it (headroom is their number) may be read.
// MLX then never writes to it, and payload_free is called by the first mlxb_release_unused or
// mlxb_array_over after MLX's last use. Elsewhere it is copied, and payload_free called, at once;
// on CUDA, the copy is in the GPU's own memory.
int mlxb_array_over(
    mlx_array* result,
    void* data,
    size_t headroom,
    const int* shape,
    size_t ndim,
    mlx_dtype dtype,
    void* payload,
    void (*payload_free)(void*));

// Frees the payloads of lent memory that MLX no longer uses.
int mlxb_release_unused(void);

// ---- Host primitives ---------------------------------------------------------------------------
//
// A node of MLX's graph whose work is done by a C function on the CPU stream's thread.

// An array as the function sees it: inputs as they lie in memory, outputs fresh and row-contiguous.
typedef struct mlxb_view_ {
  void* data;             // the first element
  const int* shape;       // ndim sizes
  const int64_t* strides; // ndim strides, in elements; 0 where the array is broadcast
  size_t ndim;
  size_t size; // elements, the product of the shape
  mlx_dtype dtype;
  bool row_contiguous;
} mlxb_view;

// Does the work. Returns 0, or another number after writing a NUL-terminated UTF-8 message of at
// most message_size bytes; whoever waits for an output then gets that message as an error. The
// views are valid during the call only. It must not call MLX and must not unwind.
typedef int (*mlxb_host_function)(
    void* payload,
    const mlxb_view* inputs,
    size_t n_inputs,
    const mlxb_view* outputs,
    size_t n_outputs,
    char* message,
    size_t message_size);

typedef struct mlxb_output_ {
  const int* shape;
  size_t ndim;
  mlx_dtype dtype;
} mlxb_output;

// Makes the outputs of a new host primitive.
//
// outputs gets one lazy array for each of the n_outputs specs. payload_free, which may be null, is
// called with payload exactly once, from any thread, when nothing can call the function any more;
// also if this call fails. The function may run more than once, but never twice at a time.
//
// donate names an input whose buffer the first output may take over, or is -1. MLX allows it only
// where nothing else uses that buffer; the input must be row-contiguous and as large as the output.
// The function then sees the same address in both views.
int mlxb_host_op(
    mlx_vector_array* outputs,
    const char* name,
    const mlx_vector_array inputs,
    const mlxb_output* specs,
    size_t n_outputs,
    mlxb_host_function function,
    void* payload,
    void (*payload_free)(void*),
    int donate,
    const mlx_stream stream);

// ---- CUDA kernels ------------------------------------------------------------------------------
//
// A node of MLX's graph whose work is a kernel that was compiled for this GPU.

typedef enum mlxb_scalar_kind_ {
  MLXB_SCALAR_BOOL,
  MLXB_SCALAR_INT,
  MLXB_SCALAR_FLOAT
} mlxb_scalar_kind;

typedef union mlxb_scalar_value_ {
  bool b;
  int i;
  float f;
} mlxb_scalar_value;

// An argument passed by value.
typedef struct mlxb_scalar_ {
  mlxb_scalar_kind kind;
  mlxb_scalar_value value;
} mlxb_scalar;

typedef struct mlxb_launch_ {
  uint32_t grid[3];       // blocks
  uint32_t block[3];      // threads of a block
  uint32_t shared_memory; // bytes of dynamic shared memory
  bool copy_strided;      // give the kernel a copy of each input that is not row-contiguous
} mlxb_launch;

// Makes the outputs of the kernel `name`, an extern "C" function of image (a cubin or PTX, of
// image_size bytes).
//
// The kernel gets the address of each input's first element, then of each output's, then the
// scalars. Fails on a library without CUDA and on a stream of the CPU; an image that cannot be
// loaded or does not have the kernel fails when an output is evaluated.
int mlxb_cuda_kernel(
    mlx_vector_array* outputs,
    const char* name,
    const void* image,
    size_t image_size,
    const mlx_vector_array inputs,
    const mlxb_output* specs,
    size_t n_outputs,
    const mlxb_scalar* scalars,
    size_t n_scalars,
    const mlxb_launch* launch,
    const mlx_stream stream);

#ifdef __cplusplus
}
#endif

#endif
