// The kernel bodies of affine_leaky_relu and its backward. Launches: affine_leaky_relu_cuda.cu.
#pragma once

#include "../affine_leaky_relu.h"
#include "device.cuh"

namespace bigan::cuda {

// [C] values of the channel c, or the neutral one.
template <typename A>
__device__ A value_or(const A* values, int64_t c, A neutral) {
  return values == nullptr ? neutral : values[c];
}

// Where in y the first copy of element i of x lies.
__device__ inline int64_t copy_of(const Upsample& up, int64_t i) {
  if (up.factor == 1) return i;
  const int64_t run = i / up.length, k = i % up.length;
  return RunCursor(up, run).at + (up.by_pixel ? k : 2 * k);
}

// kVector with factor 2: the n = 8 elements from i on lie in one run.
template <bool kVector, typename T, typename A>
__device__ void spread8(const A (&v)[8], T* y, const Upsample& up, int64_t i, int n) {
  if (up.factor == 1) {
    n == 8 ? store8<kVector>(y + i, n, v) : store8<false>(y + i, n, v);
  } else if (!kVector) {
    for (int k = 0; k < 8 && k < n; ++k) {
      T* p = y + copy_of(up, i + k);
      p[0] = p[up.right()] = p[up.below()] = p[up.below() + up.right()] = static_cast<T>(v[k]);
    }
  } else if (up.by_pixel) {
    T* p = y + copy_of(up, i);
    for (const int64_t to : {int64_t(0), up.right(), up.below(), up.below() + up.right()}) store8<true>(p + to, 8, v);
  } else {
    T* p = y + copy_of(up, i);
    A low[8], high[8];
    for (int k = 0; k < 8; ++k) {
      low[k] = v[k / 2];
      high[k] = v[4 + k / 2];
    }
    for (const int64_t to : {int64_t(0), up.below()}) {
      store8<true>(p + to, 8, low);
      store8<true>(p + to + 8, 8, high);
    }
  }
}

// The sums of the copies, above to below, then left to right; zero from n on.
template <bool kVector, typename T, typename A>
__device__ void gather8(const T* g, const Upsample& up, int64_t i, int n, A (&out)[8]) {
  if (up.factor == 1) {
    n == 8 ? load8<kVector>(g + i, n, out) : load8<false>(g + i, n, out);
  } else if (!kVector) {
    for (int k = 0; k < 8; ++k) {
      out[k] = 0;
      if (k >= n) continue;
      const T* p = g + copy_of(up, i + k);
      const A left = static_cast<A>(p[0]) + static_cast<A>(p[up.below()]);
      out[k] = left + (static_cast<A>(p[up.right()]) + static_cast<A>(p[up.below() + up.right()]));
    }
  } else {
    const T* p = g + copy_of(up, i);
    const int64_t right = up.by_pixel ? up.right() : 8;
    A column[2][8], below[8];
    for (int side = 0; side < 2; ++side) {
      load8<true>(p + side * right, 8, column[side]);
      load8<true>(p + side * right + up.below(), 8, below);
      for (int k = 0; k < 8; ++k) column[side][k] += below[k];
    }
    for (int k = 0; k < 8; ++k) {
      out[k] = up.by_pixel ? column[0][k] + column[1][k] : column[k / 4][k % 4 * 2] + column[k / 4][k % 4 * 2 + 1];
    }
  }
}

// One thread a byte of bits. kVector asks for aligned pointers and, for factor 2, runs of whole eights.
template <bool kVector, typename T>
__global__ void affine_forward(const T* x, const accumulate_t<T>* scale, const accumulate_t<T>* shift,
                               accumulate_t<T> slope, Upsample up, T* y, uint8_t* bits) {
  using A = accumulate_t<T>;
  const int64_t byte = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x, i = byte * 8;
  if (i >= up.numel()) return;
  const int n = at_most_8(up.numel() - i);
  A z[8];
  n == 8 ? load8<kVector>(x + i, n, z) : load8<false>(x + i, n, z);
  unsigned signs = 0;
  for (int k = 0; k < n; ++k) {
    const int64_t run = (i + k) / up.length;
    const int64_t c = up.by_pixel ? (i + k) % up.length : run / up.lines % up.channels;
    // Not contracted to one rounding: the sign and the value are those of the CPU.
    z[k] = rounded_product(z[k], value_or(scale, c, A(1))) + value_or(shift, c, A(-0.0));
    const bool bit = positive(z[k]);
    signs |= static_cast<unsigned>(bit) << k;
    z[k] = masked(z[k], bit, slope);
  }
  bits[byte] = static_cast<uint8_t>(signs);
  spread8<kVector>(z, y, up, i, n);
}

// What affine_leaky_relu_backward reads and writes; what is null is left out.
template <typename T>
struct AffineBackward {
  using A = accumulate_t<T>;
  const T* g;
  const uint8_t* bits;
  int64_t bytes;
  const T* x;
  const A *scale, *x_scale, *shift;
  A slope;
  Upsample up;
  T* dx;
};

// dx of the n <= 8 elements from i on; gz and x before rounding, zero from n on. c: the channel of the first of them,
// and step 1 where the next has the next channel, 0 where all have this one.
template <bool kVector, typename T, typename A = accumulate_t<T>>
__device__ void backward8(const AffineBackward<T>& b, int64_t i, int n, int64_t c, int step, A (&gz)[8], A (&x)[8]) {
  gather8<kVector>(b.g, b.up, i, n, gz);
  const uint8_t byte = bits_at(b.bits, i, b.bytes);
  for (int k = 0; k < 8; ++k) {
    gz[k] = masked(gz[k], (byte >> k & 1) != 0, b.slope);
    x[k] = 0;
  }
  if (b.x != nullptr) n == 8 ? load8<kVector>(b.x + i, n, x) : load8<false>(b.x + i, n, x);
  if (b.dx == nullptr) return;
  A dx[8];
  for (int k = 0; k < 8; ++k) {
    const int64_t channel = k < n ? c + k * step : c;
    dx[k] = rounded_product(gz[k], value_or(b.scale, channel, A(1)));
    if (b.x_scale != nullptr) dx[k] += rounded_product(x[k], b.x_scale[channel]);
    if (b.shift != nullptr) dx[k] += b.shift[channel];
  }
  n == 8 ? store8<kVector>(b.dx + i, n, dx) : store8<false>(b.dx + i, n, dx);
}

// Runs that are pixels. A block takes kRuns of them and 64 channels: 8 threads side by side hold 8 channels each, 32
// walk down the runs. dshift, dscale: [run blocks, C] sums of gz and of gz * x, or null.
constexpr int kRuns = 256, kColumnThreads = 8, kRowThreads = kThreads / kColumnThreads;

template <bool kVector, typename T>
__global__ void affine_backward_pixels(AffineBackward<T> b, accumulate_t<T>* dshift, accumulate_t<T>* dscale) {
  using A = accumulate_t<T>;
  __shared__ A shared[kRowThreads][kColumnThreads * 8];
  const int across = threadIdx.x % kColumnThreads, down = threadIdx.x / kColumnThreads;
  const int64_t channels = b.up.channels, column_blocks = ceil_div(channels, kColumnThreads * 8);
  const int64_t block = blockIdx.x / column_blocks, c0 = blockIdx.x % column_blocks * (kColumnThreads * 8);
  const int64_t c = c0 + across * 8, runs = b.up.runs();
  const int64_t last = (block + 1) * kRuns < runs ? (block + 1) * kRuns : runs;
  A sum[2][8] = {};
  if (c < channels) {
    for (int64_t run = block * kRuns + down; run < last; run += kRowThreads) {
      A gz[8], x[8];
      backward8<kVector>(b, run * channels + c, at_most_8(channels - c), c, 1, gz, x);
      for (int k = 0; k < 8; ++k) {
        sum[0][k] += gz[k];
        sum[1][k] += gz[k] * x[k];
      }
    }
  }
  A* const outputs[2] = {dshift, dscale};
  for (int s = 0; s < 2; ++s) {
    if (outputs[s] == nullptr) continue;
    __syncthreads();  // the last sums have been read
    for (int k = 0; k < 8; ++k) shared[down][across * 8 + k] = sum[s][k];
    __syncthreads();
    const int column = threadIdx.x;
    if (column < kColumnThreads * 8 && c0 + column < channels) {
      A total = 0;
      for (int d = 0; d < kRowThreads; ++d) total += shared[d][column];
      outputs[s][block * channels + c0 + column] = total;
    }
  }
}

// Runs that are lines. A block takes kPiecePixels pixels of one plane. dshift, dscale: [N * pieces, C].
constexpr int64_t kPiecePixels = 4 * kThreads * 8;

template <bool kVector, typename T>
__global__ void affine_backward_lines(AffineBackward<T> b, accumulate_t<T>* dshift, accumulate_t<T>* dscale) {
  using A = accumulate_t<T>;
  __shared__ A shared[kThreads];
  const int64_t pixels = b.up.lines * b.up.length, pieces = ceil_div(pixels, kPiecePixels);
  const int64_t plane = blockIdx.x / pieces, piece = blockIdx.x % pieces;  // plane = n * channels + c
  const int64_t n = plane / b.up.channels, c = plane % b.up.channels;
  const int64_t last = (piece + 1) * kPiecePixels < pixels ? (piece + 1) * kPiecePixels : pixels;
  A sum[2] = {};
  for (int64_t pixel = piece * kPiecePixels + threadIdx.x * 8; pixel < last; pixel += kThreads * 8) {
    A gz[8], x[8];
    backward8<kVector>(b, plane * pixels + pixel, at_most_8(last - pixel), c, 0, gz, x);
    for (int k = 0; k < 8; ++k) {
      sum[0] += gz[k];
      sum[1] += gz[k] * x[k];
    }
  }
  A* const outputs[2] = {dshift, dscale};
  for (int s = 0; s < 2; ++s) {
    if (outputs[s] == nullptr) continue;
    __syncthreads();
    shared[threadIdx.x] = sum[s];
    add_up(shared);
    if (threadIdx.x == 0) outputs[s][(n * pieces + piece) * b.up.channels + c] = shared[0];
  }
}

// How many partial sums a channel the backward leaves, and its blocks.
inline int64_t backward_partials(const Upsample& up) {
  return up.by_pixel ? ceil_div(up.runs(), kRuns) : up.samples * ceil_div(up.lines * up.length, kPiecePixels);
}
inline int64_t backward_grid(const Upsample& up) {
  return backward_partials(up) * (up.by_pixel ? ceil_div(up.channels, kColumnThreads * 8) : up.channels);
}

// Whether 16-byte accesses are possible, given aligned pointers: forward, and backward, where every run, or plane of
// factor 1, begins at a multiple of 8 elements.
inline bool forward_aligns(const Upsample& up) { return up.factor == 1 || up.length % 8 == 0; }
inline bool backward_aligns(const Upsample& up) {
  return (up.by_pixel || up.factor == 2 ? up.length : up.lines * up.length) % 8 == 0;
}

}  // namespace bigan::cuda
