#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <type_traits>

#include "../bias_leaky_relu.h"
#include "../tensors.h"
#include "capability.h"
#include "vec8.h"

namespace bigan {
namespace {

template <typename T>
struct Kernels {
  using A = accumulate_t<T>;
  void (*multiply)(const T* g, const uint8_t* bits, A slope, int64_t numel, T* y, int64_t first, int64_t last);
  void (*multiply_pixels)(const T* g, const A* rows, const uint8_t* bits, int64_t bytes, A slope, int64_t channels,
                          int64_t i, int64_t end, T* y, A* sums);
  A (*multiply_plane)(const T* g, const A* row, const uint8_t* bits, int64_t bytes, A slope, int64_t i, int64_t end,
                      T* y);
};

#define BIGAN_KERNELS "mask_multiply_kernels.inc"
#include "for_each_isa.inc"

// Elements below which a thread is not worth waking.
constexpr int64_t kGrain = 32768;

int64_t grain(int64_t elements_a_task) { return std::max<int64_t>(1, kGrain / elements_a_task); }

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
  const auto kernel = chosen_kernels<T>().multiply_pixels;
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
  });
  if (count > 1) sum_partials(to, samples, count, channels, sums);
}

template <typename T, typename A = accumulate_t<T>>
void multiply_planes(const T* g, const A* rows, const uint8_t* bits, A slope, int64_t planes, int64_t inner, T* y,
                     A* sums) {
  const auto kernel = chosen_kernels<T>().multiply_plane;
  const int64_t bytes = ceil_div(planes * inner, 8);
  torch::stable::parallel_for(0, planes, grain(inner), [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      sums[p] = kernel(g, rows == nullptr ? nullptr : rows + p, bits, bytes, slope, p * inner, (p + 1) * inner, y);
    }
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
    if (add == nullptr && !with_sums) {
      const auto kernel = chosen_kernels<scalar_t>().multiply;
      torch::stable::parallel_for(0, bytes_of_bits(g), kGrain / 8, [&](int64_t first, int64_t last) {
        kernel(from, signs, factor, g.numel(), to, first, last);
      });
      return;
    }
    // Sums cost next to nothing beside the pass over memory: rows without them take the same way.
    const int64_t planes = g.size(0) * g.size(1);
    const std::unique_ptr<A[]> unused(with_sums ? nullptr : new A[planes]);
    A* sum = with_sums ? sums.mutable_data_ptr<A>() : unused.get();
    if (sample.inner == 1) {
      multiply_pixels(from, add, signs, factor, g.size(0), sample, to, sum);
    } else {
      multiply_planes(from, add, signs, factor, planes, sample.inner, to, sum);
    }
  });
  return {y, sums};
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) { m.impl("mask_multiply", TORCH_BOX(&bigan::mask_multiply_cpu)); }
