// What one element is to every operator, on the host and on the device.
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
// channels_last: outer = N * pixels, inner = 1. Of a single sample: the same with N = 1.
struct Extent {
  int64_t outer, channels, inner;
  BIGAN_HOST_DEVICE int64_t numel() const { return outer * channels * inner; }
};

BIGAN_HOST_DEVICE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace bigan
