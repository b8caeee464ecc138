// The second stage of every sum over pixels.
#pragma once

#include "device.cuh"

namespace bigan::cuda {

// out[n][c] = the sum of partial[n][k][c] over k < count. A block takes 32 channels of a sample; 8
// threads a channel take every eighth k, and their sums are added in order.
constexpr int kColumns = 32, kStrands = kThreads / kColumns;

template <typename A>
__global__ void sum_partials(const A* partial, int64_t count, int64_t channels, A* out) {
  __shared__ A shared[kStrands][kColumns];
  const int column = threadIdx.x % kColumns, strand = threadIdx.x / kColumns;
  const int64_t column_blocks = ceil_div(channels, kColumns);
  const int64_t n = blockIdx.x / column_blocks;
  const int64_t c = blockIdx.x % column_blocks * kColumns + column;
  A sum = 0;
  if (c < channels) {
    for (int64_t k = strand; k < count; k += kStrands) sum += partial[(n * count + k) * channels + c];
  }
  shared[strand][column] = sum;
  __syncthreads();
  if (strand == 0 && c < channels) {
    for (int s = 1; s < kStrands; ++s) sum += shared[s][column];
    out[n * channels + c] = sum;
  }
}

// Blocks for one sample.
inline int64_t sum_grid(int64_t channels) { return ceil_div(channels, kColumns); }

}  // namespace bigan::cuda
