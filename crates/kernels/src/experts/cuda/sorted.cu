// Pairs of tokens and experts by expert, and the tiles in which they are multiplied: one block.
//
// Which pair of an expert comes first is by chance, and changes no bit: a row's sums are the same anywhere in a
// tile. Compiled behind number.cuh and route.cuh with THREADS and ROWS (pairs of a tile).

/// `order` has the `pairs` by expert; of `tiles` there are `most`, each an expert, its first place in `order`, and
/// how many there are, which is 0 behind the last.
extern "C" __global__ void __launch_bounds__(THREADS)
    sorted(const int* chosen, int* order, int* tiles, int pairs, int most) {
  __shared__ int places[EXPERTS], made;
  for (int e = threadIdx.x; e < EXPERTS; e += THREADS) places[e] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < pairs; i += THREADS) atomicAdd(&places[chosen[i]], 1);
  __syncthreads();
  if (threadIdx.x < 32) {
    // A lane has EACH neighbouring experts.
    const int lane = threadIdx.x;
    int own_pairs = 0, own_tiles = 0;
    for (int e = lane * EACH; e < min((lane + 1) * EACH, EXPERTS); e++) {
      own_pairs += places[e];
      own_tiles += (places[e] + ROWS - 1) / ROWS;
    }
    int up_to = own_pairs, tiles_up_to = own_tiles;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int before = __shfl_up_sync(~0u, up_to, d), tiles_before = __shfl_up_sync(~0u, tiles_up_to, d);
      if (lane >= d) up_to += before, tiles_up_to += tiles_before;
    }
    int place = up_to - own_pairs, tile = tiles_up_to - own_tiles;
    for (int e = lane * EACH; e < min((lane + 1) * EACH, EXPERTS); e++) {
      const int count = places[e];
      places[e] = place;
      for (int i = 0; i < count; i += ROWS, tile++) {
        tiles[tile * 3] = e;
        tiles[tile * 3 + 1] = place + i;
        tiles[tile * 3 + 2] = min(count - i, ROWS);
      }
      place += count;
    }
    if (lane == 31) made = tile;
  }
  __syncthreads();
  for (int i = made * 3 + threadIdx.x; i < most * 3; i += THREADS) tiles[i] = 0;
  for (int i = threadIdx.x; i < pairs; i += THREADS) order[atomicAdd(&places[chosen[i]], 1)] = i;
}
