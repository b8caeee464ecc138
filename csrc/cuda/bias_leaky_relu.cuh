// The kernel bodies: plain loops over threadIdx and blockIdx with __syncthreads, no warp intrinsics, so that a host
// compiler with stand-ins for those words can run them too (tests/ops/). Launches: bias_leaky_relu_cuda.cu.
#pragma once

#include <cstdint>
#include <cstring>

#include "../bias_leaky_relu.h"

namespace bigan::cuda {

constexpr int kThreads = 256;

// Elements [p, p + n) with n <= 8; kVector: n = 8 and p is aligned to 16 bytes, and they travel 16 bytes at a time.
template <bool kVector, typename T, typename A>
__device__ void load8(const T* p, int n, A (&out)[8]) {
  if constexpr (kVector) {
    constexpr int kWords = 8 * sizeof(T) / sizeof(uint4);
    uint4 words[kWords];
    for (int w = 0; w < kWords; ++w) words[w] = reinterpret_cast<const uint4*>(p)[w];
    T eight[8];
    memcpy(eight, words, sizeof(eight));
    for (int k = 0; k < 8; ++k) out[k] = static_cast<A>(eight[k]);
  } else {
    for (int k = 0; k < 8; ++k) out[k] = k < n ? static_cast<A>(p[k]) : A(0);
  }
}

template <bool kVector, typename T, typename A>
__device__ void store8(T* p, int n, const A (&in)[8]) {
  if constexpr (kVector) {
    constexpr int kWords = 8 * sizeof(T) / sizeof(uint4);
    T eight[8];
    for (int k = 0; k < 8; ++k) eight[k] = static_cast<T>(in[k]);
    uint4 words[kWords];
    memcpy(words, eight, sizeof(eight));
    for (int w = 0; w < kWords; ++w) reinterpret_cast<uint4*>(p)[w] = words[w];
  } else {
    for (int k = 0; k < 8 && k < n; ++k) p[k] = static_cast<T>(in[k]);
  }
}

__device__ inline int at_most_8(int64_t n) { return n < 8 ? static_cast<int>(n) : 8; }

// One thread a byte of bits. kVector asks for aligned pointers; a last, partial eight goes element by element.
template <bool kVector, typename T>
__global__ void forward(const T* x, const accumulate_t<T>* bias, accumulate_t<T> slope, Extent e, T* y, uint8_t* bits) {
  using A = accumulate_t<T>;
  const int64_t numel = e.numel();
  const int64_t byte = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t i = byte * 8;
  if (i >= numel) return;
  const int n = at_most_8(numel - i);
  const bool whole = n == 8;
  A z[8];
  if (whole) {
    load8<kVector>(x + i, n, z);
  } else {
    load8<false>(x + i, n, z);
  }
  if (bias != nullptr) {
    int64_t pixel = i % e.inner, c = i / e.inner % e.channels;
    for (int k = 0; k < n; ++k) {
      z[k] += bias[c];
      if (++pixel == e.inner) {
        pixel = 0;
        if (++c == e.channels) c = 0;
      }
    }
  }
  unsigned signs = 0;
  for (int k = 0; k < n; ++k) {
    const bool bit = positive(z[k]);
    signs |= static_cast<unsigned>(bit) << k;
    z[k] = masked(z[k], bit, slope);
  }
  bits[byte] = static_cast<uint8_t>(signs);
  if (whole) {
    store8<kVector>(y + i, n, z);
  } else {
    store8<false>(y + i, n, z);
  }
}

// dx of the n <= 8 elements from i on, and g * m before rounding in `product` (zero from n on).
template <bool kVector, typename T, typename A>
__device__ void multiply8(const T* g, const uint8_t* bits, int64_t bytes, A slope, int64_t i, int n, T* dx,
                          A (&product)[8]) {
  const uint8_t byte = bits_at(bits, i, bytes);
  const bool whole = n == 8;
  if (whole) {
    load8<kVector>(g + i, n, product);
  } else {
    load8<false>(g + i, n, product);
  }
  for (int k = 0; k < 8; ++k) product[k] = masked(product[k], (byte >> k & 1) != 0, slope);
  if (whole) {
    store8<kVector>(dx + i, n, product);
  } else {
    store8<false>(dx + i, n, product);
  }
}

// One thread a byte of bits.
template <bool kVector, typename T>
__global__ void multiply(const T* g, const uint8_t* bits, accumulate_t<T> slope, int64_t numel, T* dx) {
  const int64_t i = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  if (i >= numel) return;
  accumulate_t<T> product[8];
  multiply8<kVector>(g, bits, ceil_div(numel, 8), slope, i, at_most_8(numel - i), dx, product);
}

// First stage for inner = 1 (channels_last, or two dimensions). A block takes kRows rows of 64 channels: 8 threads side
// by side hold 8 channels each, 32 walk down the rows. partial: [row blocks, channels].
constexpr int kRows = 256, kAcross = 8, kDown = kThreads / kAcross;

template <bool kVector, typename T>
__global__ void multiply_and_sum_rows(const T* g, const uint8_t* bits, accumulate_t<T> slope, Extent e, T* dx,
                                      accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  __shared__ A shared[kDown][kAcross * 8];
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;
  const int64_t column_blocks = ceil_div(e.channels, kAcross * 8);
  const int64_t row_block = blockIdx.x / column_blocks;
  const int64_t c0 = blockIdx.x % column_blocks * (kAcross * 8);
  const int64_t c = c0 + across * 8;
  const int64_t row0 = row_block * kRows, row1 = row0 + kRows < e.outer ? row0 + kRows : e.outer;
  A sum[8] = {};
  if (c < e.channels) {
    for (int64_t row = row0 + down; row < row1; row += kDown) {
      A product[8];
      multiply8<kVector>(g, bits, ceil_div(e.numel(), 8), slope, row * e.channels + c, at_most_8(e.channels - c), dx,
                         product);
      for (int k = 0; k < 8; ++k) sum[k] += product[k];
    }
  }
  for (int k = 0; k < 8; ++k) shared[down][across * 8 + k] = sum[k];
  __syncthreads();
  const int column = threadIdx.x;
  if (column < kAcross * 8 && c0 + column < e.channels) {
    A total = 0;
    for (int d = 0; d < kDown; ++d) total += shared[d][column];
    partial[row_block * e.channels + c0 + column] = total;
  }
}

// First stage for inner > 1 (contiguous). A block takes kPiece pixels of one plane. partial: [outer * pieces,
// channels].
constexpr int64_t kPiece = 4 * kThreads * 8;

template <bool kVector, typename T>
__global__ void multiply_and_sum_planes(const T* g, const uint8_t* bits, accumulate_t<T> slope, Extent e, T* dx,
                                        accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  __shared__ A shared[kThreads];
  const int64_t pieces = ceil_div(e.inner, kPiece);
  const int64_t plane = blockIdx.x / pieces, piece = blockIdx.x % pieces;  // plane = n * channels + c
  const int64_t start = plane * e.inner;
  const int64_t pixel1 = (piece + 1) * kPiece < e.inner ? (piece + 1) * kPiece : e.inner;
  A sum = 0;
  for (int64_t pixel = piece * kPiece + threadIdx.x * 8; pixel < pixel1; pixel += kThreads * 8) {
    A product[8];
    multiply8<kVector>(g, bits, ceil_div(e.numel(), 8), slope, start + pixel, at_most_8(pixel1 - pixel), dx, product);
    for (int k = 0; k < 8; ++k) sum += product[k];
  }
  shared[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < static_cast<unsigned>(half)) shared[threadIdx.x] += shared[threadIdx.x + half];
    __syncthreads();
  }
  const int64_t n = plane / e.channels, c = plane % e.channels;
  if (threadIdx.x == 0) partial[(n * pieces + piece) * e.channels + c] = shared[0];
}

// Second stage: out[c] = the sum of partial[k][c] over k < count. A block takes 32 channels; 8 threads a channel take
// every eighth k, and their sums are added in order.
constexpr int kColumns = 32, kStrands = kThreads / kColumns;

template <typename A>
__global__ void sum_partials(const A* partial, int64_t count, int64_t channels, A* out) {
  __shared__ A shared[kStrands][kColumns];
  const int column = threadIdx.x % kColumns, strand = threadIdx.x / kColumns;
  const int64_t c = blockIdx.x * static_cast<int64_t>(kColumns) + column;
  A sum = 0;
  if (c < channels) {
    for (int64_t k = strand; k < count; k += kStrands) sum += partial[k * channels + c];
  }
  shared[strand][column] = sum;
  __syncthreads();
  if (strand == 0 && c < channels) {
    for (int s = 1; s < kStrands; ++s) sum += shared[s][column];
    out[c] = sum;
  }
}

// Blocks of kThreads threads for each kernel, and how many partial sums a channel the first stage leaves.
inline int64_t elementwise_grid(int64_t numel) { return ceil_div(ceil_div(numel, 8), kThreads); }
inline int64_t partial_count(Extent e) {
  return e.inner == 1 ? ceil_div(e.outer, kRows) : e.outer * ceil_div(e.inner, kPiece);
}
inline int64_t rows_grid(Extent e) { return partial_count(e) * ceil_div(e.channels, kAcross * 8); }
inline int64_t planes_grid(Extent e) { return partial_count(e) * e.channels; }
inline int64_t sum_grid(Extent e) { return ceil_div(e.channels, kColumns); }

// Whether the sums' first stage may use 16-byte accesses, given aligned pointers: every row, or plane, begins at a
// multiple of 8 elements.
inline bool rows_align(Extent e) { return e.channels % 8 == 0; }
inline bool planes_align(Extent e) { return e.channels == 1 || e.inner % 8 == 0; }

}  // namespace bigan::cuda
