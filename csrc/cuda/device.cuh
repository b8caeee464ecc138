// What the kernel bodies of every operator share: plain loops over threadIdx and blockIdx with __syncthreads, no warp
// intrinsics, so that a host compiler with stand-ins for those words can run them too (tests/ops/).
#pragma once

#include <cstdint>
#include <cstring>

#include "../element.h"

namespace bigan::cuda {

constexpr int kThreads = 256;

// Elements [p, p + n) with n <= 8. kVector: p is aligned to 16 bytes, and a whole eight travels 16 bytes at a time.
template <bool kVector, typename T, typename A>
__device__ void load8(const T* p, int n, A (&out)[8]) {
  if constexpr (kVector) {
    if (n == 8) {
      constexpr int kWords = 8 * sizeof(T) / sizeof(uint4);
      uint4 words[kWords];
      for (int w = 0; w < kWords; ++w) words[w] = reinterpret_cast<const uint4*>(p)[w];
      T eight[8];
      memcpy(eight, words, sizeof(eight));
      for (int k = 0; k < 8; ++k) out[k] = static_cast<A>(eight[k]);
      return;
    }
  }
  for (int k = 0; k < 8; ++k) out[k] = k < n ? static_cast<A>(p[k]) : A(0);
}

template <bool kVector, typename T, typename A>
__device__ void store8(T* p, int n, const A (&in)[8]) {
  if constexpr (kVector) {
    if (n == 8) {
      constexpr int kWords = 8 * sizeof(T) / sizeof(uint4);
      T eight[8];
      for (int k = 0; k < 8; ++k) eight[k] = static_cast<T>(in[k]);
      uint4 words[kWords];
      memcpy(words, eight, sizeof(eight));
      for (int w = 0; w < kWords; ++w) reinterpret_cast<uint4*>(p)[w] = words[w];
      return;
    }
  }
  for (int k = 0; k < 8 && k < n; ++k) p[k] = static_cast<T>(in[k]);
}

__device__ inline int at_most_8(int64_t n) { return n < 8 ? static_cast<int>(n) : 8; }

// Adds what the threads of a block hold, pairwise, into values[0], which thread 0 may read afterwards.
template <typename A>
__device__ void add_up(A (&values)[kThreads]) {
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < static_cast<unsigned>(half)) values[threadIdx.x] += values[threadIdx.x + half];
  }
}

// The second stage of a sum: out[n][c] = the sum of partial[n][k][c] over k < count. A block takes 32 channels of a
// sample; 8 threads a channel take every eighth k, and their sums are added in order.
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

// Blocks of kThreads threads where a thread takes eight elements.
inline int64_t elementwise_grid(int64_t numel) { return ceil_div(ceil_div(numel, 8), kThreads); }
inline int64_t sum_grid(int64_t samples, int64_t channels) { return samples * ceil_div(channels, kColumns); }

}  // namespace bigan::cuda
