// The kernel bodies of channel_moments. Launches: channel_moments_cuda.cu. Sums of x - pivot and of its square lose
// nothing to cancellation where the pivot is a value of x; every block takes its own.
#pragma once

#include "../affine_leaky_relu.h"
#include "device.cuh"

namespace bigan::cuda {

// Leaves the mean and the sum of squared differences from it of `count` values where the block's moments go.
template <typename A>
__device__ void write_moments(int64_t count, A pivot, A sum, A squares, A* mean, A* m2) {
  const A shift = sum / static_cast<A>(count);
  *mean = pivot + shift;
  *m2 = squares > sum * shift ? squares - sum * shift : A(0);
}

// Runs that are pixels. A block takes kMomentRuns of them and 64 channels: 8 threads side by side hold 8 channels each,
// 32 walk down the runs. mean, m2: [run blocks, C].
constexpr int kMomentRuns = 256, kMomentColumns = 8, kMomentRows = kThreads / kMomentColumns;

template <bool kVector, typename T>
__global__ void moments_of_pixels(const T* x, Upsample up, accumulate_t<T>* mean, accumulate_t<T>* m2) {
  using A = accumulate_t<T>;
  __shared__ A shared[2][kMomentRows][kMomentColumns * 8];
  const int across = threadIdx.x % kMomentColumns, down = threadIdx.x / kMomentColumns;
  const int64_t channels = up.channels, column_blocks = ceil_div(channels, kMomentColumns * 8), runs = up.runs();
  const int64_t block = blockIdx.x / column_blocks, c0 = blockIdx.x % column_blocks * (kMomentColumns * 8);
  const int64_t first = block * kMomentRuns, last = first + kMomentRuns < runs ? first + kMomentRuns : runs;
  const int64_t c = c0 + across * 8;
  A sum[8] = {}, squares[8] = {};
  if (c < channels) {
    const int n = at_most_8(channels - c);
    A pivot[8], v[8];
    load8<kVector>(x + first * channels + c, n, pivot);
    for (int64_t run = first + down; run < last; run += kMomentRows) {
      load8<kVector>(x + run * channels + c, n, v);
      for (int k = 0; k < 8; ++k) {
        sum[k] += v[k] - pivot[k];
        squares[k] += (v[k] - pivot[k]) * (v[k] - pivot[k]);
      }
    }
  }
  for (int k = 0; k < 8; ++k) {
    shared[0][down][across * 8 + k] = sum[k];
    shared[1][down][across * 8 + k] = squares[k];
  }
  __syncthreads();
  const int64_t column = c0 + threadIdx.x;
  if (threadIdx.x < kMomentColumns * 8 && column < channels) {
    A total[2] = {};
    for (int d = 0; d < kMomentRows; ++d) {
      for (int s = 0; s < 2; ++s) total[s] += shared[s][d][threadIdx.x];
    }
    const int64_t to = block * channels + column;
    write_moments(last - first, static_cast<A>(x[first * channels + column]), total[0], total[1], mean + to, m2 + to);
  }
}

// Runs that are lines. A block takes kMomentPiece pixels of one plane. mean, m2: [N * pieces, C].
constexpr int64_t kMomentPiece = 4 * kThreads * 8;

template <bool kVector, typename T>
__global__ void moments_of_lines(const T* x, Upsample up, accumulate_t<T>* mean, accumulate_t<T>* m2) {
  using A = accumulate_t<T>;
  __shared__ A shared[2][kThreads];
  const int64_t pixels = up.lines * up.length, pieces = ceil_div(pixels, kMomentPiece);
  const int64_t plane = blockIdx.x / pieces, first = blockIdx.x % pieces * kMomentPiece;  // plane = n * channels + c
  const int64_t last = first + kMomentPiece < pixels ? first + kMomentPiece : pixels;
  const T* p = x + plane * pixels;
  const A pivot = static_cast<A>(p[first]);
  A sum = 0, squares = 0;
  for (int64_t i = first + threadIdx.x * 8; i < last; i += kThreads * 8) {
    const int n = at_most_8(last - i);
    A v[8];
    n == 8 ? load8<kVector>(p + i, n, v) : load8<false>(p + i, n, v);
    for (int k = 0; k < n; ++k) {
      sum += v[k] - pivot;
      squares += (v[k] - pivot) * (v[k] - pivot);
    }
  }
  shared[0][threadIdx.x] = sum;
  shared[1][threadIdx.x] = squares;
  add_up(shared[0]);
  add_up(shared[1]);
  const int64_t to = (plane / up.channels * pieces + blockIdx.x % pieces) * up.channels + plane % up.channels;
  if (threadIdx.x == 0) write_moments(last - first, pivot, shared[0][0], shared[1][0], mean + to, m2 + to);
}

// How many blocks' moments a channel has, the blocks, and how many values the k-th block of a channel took.
inline int64_t moment_count(const Upsample& up) {
  return up.by_pixel ? ceil_div(up.runs(), kMomentRuns) : up.samples * ceil_div(up.lines * up.length, kMomentPiece);
}
inline int64_t moment_grid(const Upsample& up) {
  return moment_count(up) * (up.by_pixel ? ceil_div(up.channels, kMomentColumns * 8) : up.channels);
}
__device__ inline int64_t values_of_block(const Upsample& up, int64_t k) {
  const int64_t all = up.by_pixel ? up.runs() : up.lines * up.length, size = up.by_pixel ? kMomentRuns : kMomentPiece;
  const int64_t first = (up.by_pixel ? k : k % ceil_div(all, size)) * size;
  return first + size < all ? size : all - first;
}
inline bool moments_align(const Upsample& up) { return (up.by_pixel ? up.length : up.lines * up.length) % 8 == 0; }

// The moments of all blocks together (Chan et al., 1983), in double. One thread a channel.
template <typename A>
__global__ void combine_moments(const A* means, const A* m2s, int64_t count, Upsample up, A* mean, A* var) {
  const int64_t c = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (c >= up.channels) return;
  double total = 0, sum = 0, squares = 0;
  for (int64_t k = 0; k < count; ++k) {
    const double n = static_cast<double>(values_of_block(up, k));
    total += n;
    sum += n * static_cast<double>(means[k * up.channels + c]);
  }
  for (int64_t k = 0; k < count; ++k) {
    const double d = static_cast<double>(means[k * up.channels + c]) - sum / total;
    squares += static_cast<double>(m2s[k * up.channels + c]) + static_cast<double>(values_of_block(up, k)) * d * d;
  }
  mean[c] = static_cast<A>(sum / total);
  var[c] = static_cast<A>(squares / total);
}

}  // namespace bigan::cuda
