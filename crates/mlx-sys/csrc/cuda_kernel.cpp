// Kernels of the project's own on an NVIDIA GPU.
//
// MLX runs a compiled kernel as a node of its graph (mlx/fast.h), but mlx-c does not offer it. MLX
// finds the module again by a hash of the whole image, taken at each call, so images should be
// small and launches few.

#include <climits>
#include <exception>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "mlx/fast.h"

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlxb.h"

namespace mx = mlx::core;

namespace {

mx::fast::ScalarArg scalar(const mlxb_scalar& s) {
  switch (s.kind) {
    case MLXB_SCALAR_BOOL:
      return s.value.b;
    case MLXB_SCALAR_INT:
      return s.value.i;
    case MLXB_SCALAR_FLOAT:
      return s.value.f;
    default:
      throw std::invalid_argument("[mlxb_cuda_kernel] A scalar is of no known kind.");
  }
}

// MLX counts a grid in threads and divides it by the block.
int threads(uint32_t blocks, uint32_t block) {
  uint64_t n = static_cast<uint64_t>(blocks) * block;
  if (n == 0 || n > INT_MAX) {
    throw std::invalid_argument("[mlxb_cuda_kernel] The grid is empty or too large.");
  }
  return static_cast<int>(n);
}

std::vector<mx::array> cuda_kernel(
    const char* name,
    std::string image,
    const std::vector<mx::array>& inputs,
    const mlxb_output* specs,
    size_t n_outputs,
    const mlxb_scalar* scalars,
    size_t n_scalars,
    const mlxb_launch& launch,
    mx::Stream stream) {
  if (stream.device != mx::Device::gpu) {
    throw std::invalid_argument("[mlxb_cuda_kernel] A CUDA kernel needs a stream of a GPU.");
  }
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (size_t i = 0; i < n_outputs; i++) {
    shapes.emplace_back(specs[i].shape, specs[i].shape + specs[i].ndim);
    dtypes.push_back(mlx_dtype_to_cpp(specs[i].dtype));
  }
  std::vector<mx::fast::ScalarArg> arguments;
  for (size_t i = 0; i < n_scalars; i++) {
    arguments.push_back(scalar(scalars[i]));
  }
  const auto* block = launch.block;
  return mx::fast::precompiled_cuda_kernel(
      name,
      image,
      inputs,
      shapes,
      dtypes,
      arguments,
      {threads(launch.grid[0], block[0]),
       threads(launch.grid[1], block[1]),
       threads(launch.grid[2], block[2])},
      {static_cast<int>(block[0]), static_cast<int>(block[1]), static_cast<int>(block[2])},
      static_cast<int>(launch.shared_memory),
      std::nullopt,
      launch.copy_strided,
      stream);
}

} // namespace

extern "C" int mlxb_cuda_kernel(
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
    const mlx_stream stream) {
  try {
    mlx_vector_array_set_(
        *outputs,
        cuda_kernel(
            name,
            std::string(static_cast<const char*>(image), image_size),
            mlx_vector_array_get_(inputs),
            specs,
            n_outputs,
            scalars,
            n_scalars,
            *launch,
            mlx_stream_get_(stream)));
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return 1;
  } catch (...) {
    mlx_error("[mlxb_cuda_kernel] Unknown C++ exception.");
    return 1;
  }
  return 0;
}
