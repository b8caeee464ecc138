// The kernel bodies of mask_multiply. Launches: mask_multiply_cuda.cu.
#pragma once

#include "../bias_leaky_relu.h"
#include "device.cuh"

namespace bigan::cuda {

// Added to a number, leaves it as it is: +0 would turn -0 into 0.
template <typename A>
__device__ constexpr A nothing() {
  return -A(0);
}

// y of the n <= 8 elements from i on, and m * (g + addend) before rounding in `product` (zero from n on).
template <bool kVector, typename T, typename A>
__device__ void multiply8(const T* g, const A (&addend)[8], const uint8_t* bits, int64_t bytes, A slope, int64_t i,
                          int n, T* y, A (&product)[8]) {
  const uint8_t byte = bits_at(bits, i, bytes);
  load8<kVector>(g + i, n, product);
  for (int k = 0; k < 8; ++k) {
    product[k] = k < n ? masked(product[k] + addend[k], (byte >> k & 1) != 0, slope) : A(0);
  }
  store8<kVector>(y + i, n, product);
}

// Without sums: one thread a byte of bits. rows: [N, C] or null.
template <bool kVector, typename T>
__global__ void multiply(const T* g, const accumulate_t<T>* rows, const uint8_t* bits, accumulate_t<T> slope,
                         int64_t samples, Extent sample, T* y) {
  using A = accumulate_t<T>;
  const int64_t numel = samples * sample.numel();
  const int64_t i = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  if (i >= numel) return;
  const int n = at_most_8(numel - i);
  A addend[8];
  for (int k = 0; k < 8; ++k) {
    const int64_t row = (i + k) / sample.numel() * sample.channels + (i + k) / sample.inner % sample.channels;
    addend[k] = rows != nullptr && k < n ? rows[row] : nothing<A>();
  }
  A product[8];
  multiply8<kVector>(g, addend, bits, ceil_div(numel, 8), slope, i, n, y, product);
}

// Sums, first stage, for inner = 1 (channels_last, or two dimensions). A block takes kPixels pixels of one sample and
// 64 channels: 8 threads side by side hold 8 channels each, 32 walk down the pixels. partial: [N, pixel blocks, C].
constexpr int kPixels = 256, kAcross = 8, kDown = kThreads / kAcross;

template <bool kVector, typename T>
__global__ void multiply_and_sum_pixels(const T* g, const accumulate_t<T>* rows, const uint8_t* bits,
                                        accumulate_t<T> slope, int64_t samples, Extent sample, T* y,
                                        accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  __shared__ A shared[kDown][kAcross * 8];
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;
  const int64_t column_blocks = ceil_div(sample.channels, kAcross * 8);
  const int64_t pixel_blocks = ceil_div(sample.outer, kPixels);
  const int64_t pixel_block = blockIdx.x / column_blocks;  // over all samples
  const int64_t sample_index = pixel_block / pixel_blocks;
  const int64_t c0 = blockIdx.x % column_blocks * (kAcross * 8);
  const int64_t c = c0 + across * 8;
  const int64_t pixel0 = pixel_block % pixel_blocks * kPixels;
  const int64_t pixel1 = pixel0 + kPixels < sample.outer ? pixel0 + kPixels : sample.outer;
  const int64_t bytes = ceil_div(samples * sample.numel(), 8);
  A sum[8] = {};
  if (c < sample.channels) {
    const int n = at_most_8(sample.channels - c);
    A addend[8];
    for (int k = 0; k < 8; ++k) {
      addend[k] = rows != nullptr && k < n ? rows[sample_index * sample.channels + c + k] : nothing<A>();
    }
    for (int64_t pixel = pixel0 + down; pixel < pixel1; pixel += kDown) {
      A product[8];
      const int64_t i = sample_index * sample.numel() + pixel * sample.channels + c;
      multiply8<kVector>(g, addend, bits, bytes, slope, i, n, y, product);
      for (int k = 0; k < 8; ++k) sum[k] += product[k];
    }
  }
  for (int k = 0; k < 8; ++k) shared[down][across * 8 + k] = sum[k];
  __syncthreads();
  const int column = threadIdx.x;
  if (column < kAcross * 8 && c0 + column < sample.channels) {
    A total = 0;
    for (int d = 0; d < kDown; ++d) total += shared[d][column];
    partial[pixel_block * sample.channels + c0 + column] = total;
  }
}

// Sums, first stage, for inner > 1 (contiguous). A block takes kPiece pixels of one plane. partial: [N, pieces, C].
constexpr int64_t kPiece = 4 * kThreads * 8;

template <bool kVector, typename T>
__global__ void multiply_and_sum_planes(const T* g, const accumulate_t<T>* rows, const uint8_t* bits,
                                        accumulate_t<T> slope, int64_t samples, Extent sample, T* y,
                                        accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  __shared__ A shared[kThreads];
  const int64_t pieces = ceil_div(sample.inner, kPiece);
  const int64_t plane = blockIdx.x / pieces, piece = blockIdx.x % pieces;  // plane = n * channels + c
  const int64_t start = plane * sample.inner;
  const int64_t pixel1 = (piece + 1) * kPiece < sample.inner ? (piece + 1) * kPiece : sample.inner;
  const int64_t bytes = ceil_div(samples * sample.numel(), 8);
  A addend[8];
  for (int k = 0; k < 8; ++k) addend[k] = rows == nullptr ? nothing<A>() : rows[plane];
  A sum = 0;
  for (int64_t pixel = piece * kPiece + threadIdx.x * 8; pixel < pixel1; pixel += kThreads * 8) {
    A product[8];
    multiply8<kVector>(g, addend, bits, bytes, slope, start + pixel, at_most_8(pixel1 - pixel), y, product);
    for (int k = 0; k < 8; ++k) sum += product[k];
  }
  shared[threadIdx.x] = sum;
  add_up(shared);
  const int64_t n = plane / sample.channels, c = plane % sample.channels;
  if (threadIdx.x == 0) partial[(n * pieces + piece) * sample.channels + c] = shared[0];
}

// How many partial sums a channel of a sample the first stage leaves, and the blocks of each kernel for one sample.
inline int64_t partial_count(Extent sample) {
  return sample.inner == 1 ? ceil_div(sample.outer, kPixels) : ceil_div(sample.inner, kPiece);
}
inline int64_t multiply_and_sum_grid(Extent sample) {
  return partial_count(sample) * (sample.inner == 1 ? ceil_div(sample.channels, kAcross * 8) : sample.channels);
}

// Whether the sums' first stage may use 16-byte accesses, given aligned pointers: every pixel, or plane, begins at a
// multiple of 8 elements.
inline bool sums_align(Extent sample) { return (sample.inner == 1 ? sample.channels : sample.inner) % 8 == 0; }

}  // namespace bigan::cuda
