// The arithmetic of one element, compiled by the host and the device compiler alike.
#pragma once

#include <cstdint>

#include "element.h"

namespace bigan {

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

}  // namespace bigan
