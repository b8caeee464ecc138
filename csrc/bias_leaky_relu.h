// The arithmetic of one element, compiled by the host and the device compiler alike, and the words both share.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define BIGAN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define BIGAN_HOST_DEVICE inline
#endif

namespace bigan {

// The type in which elements are computed and sums are kept.
template <typename T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <typename T>
using accumulate_t = typename Accumulate<T>::type;

// A tensor [N, C, *] as it lies in memory: [outer, channels, inner]. Contiguous: outer = N, inner = number of pixels;
// channels_last: outer = N * pixels, inner = 1.
struct Extent {
  int64_t outer, channels, inner;
  BIGAN_HOST_DEVICE int64_t numel() const { return outer * channels * inner; }
};

template <typename A>
BIGAN_HOST_DEVICE bool positive(A z) {
  return z > A(0);
}

// g where the sign bit is set, slope * g where it is not: the derivative's m * g, and, with g = z, leaky ReLU itself.
template <typename A>
BIGAN_HOST_DEVICE A masked(A g, bool bit, A slope) {
  return bit ? g : g * slope;
}

// The sign bits of the eight elements from element i on, where i need not be a multiple of 8; past the end:
// unspecified.
BIGAN_HOST_DEVICE uint8_t bits_at(const uint8_t* bits, int64_t i, int64_t bytes) {
  const int64_t byte = i >> 3;
  const int shift = static_cast<int>(i & 7);
  unsigned word = bits[byte];
  if (shift != 0 && byte + 1 < bytes) word |= static_cast<unsigned>(bits[byte + 1]) << 8;
  return static_cast<uint8_t>(word >> shift);
}

BIGAN_HOST_DEVICE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace bigan
