// Arrays whose bytes lie in a GPU's own memory.
#pragma once

#include "mlx/array.h"

namespace mlxb {

// Whether `upload` serves this dtype on the device that MLX allocates for now.
bool can_upload(mlx::core::Dtype dtype);

// A copy of the row-major elements at data, in the memory of the GPU. It is made before this
// returns.
mlx::core::array upload(const void* data, mlx::core::Shape shape, mlx::core::Dtype dtype);

} // namespace mlxb
