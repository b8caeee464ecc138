#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>

#include "../bias_leaky_relu.h"
#include "../tensors.h"
#include "capability.h"
#include "parallel.h"
#include "vec16.h"

namespace bigan {
namespace {

template <typename T>
struct Kernels {
  using A = accumulate_t<T>;
  using Pixels = void(const T* g, const A* rows, const uint8_t* bits, int64_t bytes, A slope, int64_t channels,
                      int64_t i, int64_t end, T* y, A* sums);
  using Plane = A(const T* g, const A* row, const uint8_t* bits, int64_t bytes, A slope, int64_t i, int64_t end, T* y);
  Pixels *multiply_pixels, *multiply_pixels_streaming;
  Plane *multiply_plane, *multiply_plane_streaming;
};

#define BIGAN_KERNELS "mask_multiply_kernels.inc"
#include "for_each_isa.inc"

// out[n][c] = the sum of partial[n][k][c] over k in order, in double.
template <typename A>
void sum_partials(const A* partial, int64_t samples, int64_t count, int64_t channels, A* out) {
  constexpr int64_t kBlock = 64;
  const int64_t blocks = ceil_div(channels, kBlock);
  torch::stable::parallel_for(0, samples * blocks, grain(kBlock * count), [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t n = block / blocks, c0 = block % blocks * kBlock;
      const int64_t width = std::min(kBlock, channels - c0);
      double sum[kBlock] = {};
      for (int64_t k = 0; k < count; ++k) {
        const A* from = partial + (n * count + k) * channels + c0;
        for (int64_t c = 0; c < width; ++c) sum[c] += static_cast<double>(from[c]);
      }
      for (int64_t c = 0; c < width; ++c) out[n * channels + c0 + c] = static_cast<A>(sum[c]);
    }
  });
}

// The sums' first stage is cut by the shape alone and the second adds in order, so that they do not depend on the
// number of threads.
template <typename T, typename A = accumulate_t<T>>
void multiply_pixels(const T* g, const A* rows, const uint8_t* bits, A slope, int64_t samples, Extent sample, T* y,
                     A* sums) {
  constexpr int64_t kElements = 16384;          // about an L1 cache of work
  constexpr int64_t kFewest = 16, kMost = 512;  // few partial sums; fp32 sums that are not too long
  const Kernels<T> kernels = chosen_kernels<T>();
  // 64: the kernel's columns, 8 vectors or fewer at once, fill whole cache lines, as streamed stores must.
  const bool stream = sample.channels % 64 == 0 && worth_streaming(y, samples * sample.numel());
  const auto kernel = stream ? kernels.multiply_pixels_streaming : kernels.multiply_pixels;
  const int64_t channels = sample.channels, bytes = ceil_div(samples * sample.numel(), 8);
  const int64_t pixels = std::clamp(kElements / channels, kFewest, kMost), count = ceil_div(sample.outer, pixels);
  const std::unique_ptr<A[]> partial(count > 1 ? new A[samples * count * channels] : nullptr);
  A* to = count > 1 ? partial.get() : sums;
  torch::stable::parallel_for(0, samples * count, grain(pixels * channels), [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t n = chunk / count, pixel = chunk % count * pixels;
      const int64_t start = n * sample.numel();
      kernel(g, rows == nullptr ? nullptr : rows + n * channels, bits, bytes, slope, channels, start + pixel * channels,
             start + std::min(pixel + pixels, sample.outer) * channels, y, to + chunk * channels);
    }
    if (stream) stream_fence();
  });
  if (count > 1) sum_partials(to, samples, count, channels, sums);
}

// Also for a run of memory that is no plane: then without rows and sums, which may be null.
template <typename T, typename A = accumulate_t<T>>
void multiply_planes(const T* g, const A* rows, const uint8_t* bits, A slope, int64_t numel, int64_t plane, T* y,
                     A* sums) {
  const Kernels<T> kernels = chosen_kernels<T>();
  const bool stream = plane % 16 == 0 && worth_streaming(y, numel);
  const auto kernel = stream ? kernels.multiply_plane_streaming : kernels.multiply_plane;
  torch::stable::parallel_for(0, ceil_div(numel, plane), grain(plane), [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      const int64_t end = std::min((p + 1) * plane, numel);
      const A sum = kernel(g, rows == nullptr ? nullptr : rows + p, bits, ceil_div(numel, 8), slope, p * plane, end, y);
      if (sums != nullptr) sums[p] = sum;
    }
    if (stream) stream_fence();
  });
}

std::tuple<Tensor, Tensor> mask_multiply_cpu(const Tensor& g_any, const std::optional<Tensor>& rows_any,
                                             const Tensor& bits, double slope, bool channels_last, bool with_sums) {
  const Tensor g = laid_out(g_any, channels_last);
  check_rows(rows_any, g);
  check_bits(bits, g);
  const std::optional<Tensor> rows = contiguous(rows_any);
  Tensor y = torch::stable::empty_like(g);
  Tensor sums = empty_sums(g, with_sums);
  if (g.numel() == 0) return {y, sums};
  const Extent sample = sample_extent_of(g, channels_last);
  BIGAN_DISPATCH(g.scalar_type(), "mask_multiply", [&] {
    using A = accumulate_t<scalar_t>;
    const A factor = static_cast<A>(slope);
    const auto* from = g.const_data_ptr<scalar_t>();
    const A* add = data_or_null<A>(rows);
    const auto* signs = bits.const_data_ptr<uint8_t>();
    auto* to = y.mutable_data_ptr<scalar_t>();
    A* sum = with_sums ? sums.mutable_data_ptr<A>() : nullptr;
    if (add == nullptr && !with_sums) {
      constexpr int64_t kBlock = 4096;
      multiply_planes<scalar_t>(from, add, signs, factor, g.numel(), kBlock, to, sum);
    } else if (sample.inner != 1) {
      multiply_planes(from, add, signs, factor, g.numel(), sample.inner, to, sum);
    } else {
      // Sums cost next to nothing beside the pass over memory: rows without them take the same way.
      const std::unique_ptr<A[]> unused(with_sums ? nullptr : new A[g.size(0) * g.size(1)]);
      multiply_pixels(from, add, signs, factor, g.size(0), sample, to, with_sums ? sum : unused.get());
    }
  });
  return {y, sums};
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) { m.impl("mask_multiply", TORCH_BOX(&bigan::mask_multiply_cpu)); }
