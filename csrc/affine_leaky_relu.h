// How x of affine_leaky_relu lies, and where upsampling puts its elements, for the host and the device alike. The
// arithmetic of an element: bias_leaky_relu.h.
#pragma once

#include <cstdint>

#include "bias_leaky_relu.h"

namespace bigan {

// a * b, not contracted with an addition that follows: the device rounds as the host does.
template <typename A>
BIGAN_HOST_DEVICE A rounded_product(A a, A b) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(A) == sizeof(double)) {
    return __dmul_rn(a, b);
  } else {
    return __fmul_rn(a, b);
  }
#else
  return a * b;
#endif
}

// x [N, C, *] and its nearest upsampling y by `factor` 1 or 2, both in one memory format, cut into runs of neighbouring
// elements whose copies lie alike: the channels of one pixel (channels_last), or a line of pixels of one channel.
struct Upsample {
  int64_t samples, channels, lines;  // lines: runs of one sample and, unless by_pixel, one channel
  int64_t length;                    // elements of a run: C if by_pixel, otherwise pixels
  bool by_pixel;
  int64_t factor;
  int64_t width;  // pixels of a line of x, for factor 2

  BIGAN_HOST_DEVICE int64_t runs() const { return samples * (by_pixel ? 1 : channels) * lines; }
  BIGAN_HOST_DEVICE int64_t numel() const { return runs() * length; }

  // Elements of y from a copy to the one at its right, and to the one below.
  BIGAN_HOST_DEVICE int64_t right() const { return by_pixel ? length : 1; }
  BIGAN_HOST_DEVICE int64_t below() const { return 2 * width * right(); }
};

// Walks the runs in memory order: `at` is where in y the copies of the run begin. (A division a run would cost as much
// as a short run itself.)
struct RunCursor {
  Upsample up;
  int64_t at, w;  // w: the run's pixel in its line, for factor 2
  BIGAN_HOST_DEVICE RunCursor(const Upsample& up, int64_t run) : up(up) {
    const int64_t pixel = up.by_pixel ? run : run * up.width, line = pixel / up.width;
    w = pixel - line * up.width;
    at = up.factor == 1 ? run * up.length : 2 * (pixel + line * up.width) * up.right();
  }
  BIGAN_HOST_DEVICE void next() {
    if (up.factor == 1) {
      at += up.length;
      return;
    }
    at += 2 * up.length;  // both formats: length = pixels of the run * right()
    w += up.by_pixel ? 1 : up.width;
    if (w < up.width) return;
    w = 0;
    at += up.below();
  }
};

}  // namespace bigan
