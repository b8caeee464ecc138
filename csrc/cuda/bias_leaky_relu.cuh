// The kernel body of bias_leaky_relu. Launches: bias_leaky_relu_cuda.cu.
#pragma once

#include "../bias_leaky_relu.h"
#include "device.cuh"

namespace bigan::cuda {

// One thread a byte of bits. kVector asks for aligned pointers; a last, partial eight goes element by element.
template <bool kVector, typename T>
__global__ void forward(const T* x, const accumulate_t<T>* bias, accumulate_t<T> slope, Extent e, T* y, uint8_t* bits) {
  using A = accumulate_t<T>;
  const int64_t numel = e.numel();
  const int64_t byte = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t i = byte * 8;
  if (i >= numel) return;
  const int n = at_most_8(numel - i);
  A z[8];
  load8<kVector>(x + i, n, z);
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
  store8<kVector>(y + i, n, z);
}

}  // namespace bigan::cuda
