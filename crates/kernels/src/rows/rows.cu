// Chosen rows of a matrix, a block a row, in pieces of 16 bytes.
//
// Compiled with THREADS.

/// `pieces` are in a row. A row that is not there leaves its result as it was.
extern "C" __global__ void __launch_bounds__(THREADS)
    rows(const uint4* matrix, const int* ids, uint4* y, int count, int pieces) {
  const int id = ids[blockIdx.x];
  if (id < 0 || id >= count) return;
  matrix += (unsigned long long)id * pieces, y += (unsigned long long)blockIdx.x * pieces;
  for (int i = threadIdx.x; i < pieces; i += THREADS) y[i] = matrix[i];
}
