#include <torch/csrc/stable/library.h>
#include <torch/headeronly/core/Dispatch_v2.h>

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "../bias_leaky_relu.h"
#include "../tensors.h"
#include "capability.h"
#include "vec8.h"

namespace bigan {
namespace {

// How the bias gradient's first stage is cut: `rows` of `outer`, times `pieces` of kPiece of `inner`. It depends on the
// shape alone, and the second stage adds in order, so the sum does not depend on the number of threads.
struct Chunks {
  static constexpr int64_t kElements = 16384;  // about an L1 cache of work; bounds the length of an fp32 sum
  static constexpr int64_t kPiece = 4096;
  int64_t rows, pieces, count;

  explicit Chunks(Extent e)
      : rows(std::max(ceil_div(16, e.inner), kElements / (e.channels * e.inner))),  // 16: keep the partial sums few
        pieces(ceil_div(e.inner, kPiece)),
        count(ceil_div(e.outer, rows) * pieces) {}
};

template <typename T>
struct Kernels {
  using A = accumulate_t<T>;
  void (*forward)(const T* x, const A* bias, A slope, Extent e, T* y, uint8_t* bits, int64_t first, int64_t last);
  void (*multiply)(const T* g, const uint8_t* bits, A slope, int64_t numel, T* dx, int64_t first, int64_t last);
  void (*multiply_and_sum)(const T* g, const uint8_t* bits, A slope, Extent e, Chunks chunks, int64_t chunk, T* dx,
                           A* partial);
};

namespace isa_default {
using Float8 = portable::Vec8<float>;
#include "bias_leaky_relu_kernels.inc"
}  // namespace isa_default

#if BIGAN_X86
BIGAN_TARGET_BEGIN(BIGAN_AVX2)
namespace isa_avx2 {
using avx2::Float8;
#include "bias_leaky_relu_kernels.inc"
}  // namespace isa_avx2
BIGAN_TARGET_END

BIGAN_TARGET_BEGIN(BIGAN_AVX512)
namespace isa_avx512 {
using avx512::Float8;
#include "bias_leaky_relu_kernels.inc"
}  // namespace isa_avx512
BIGAN_TARGET_END
#endif

template <typename T>
Kernels<T> chosen_kernels() {
#if BIGAN_X86
  if (capability() == Capability::kAvx512) return isa_avx512::kernels<T>();
  if (capability() == Capability::kAvx2) return isa_avx2::kernels<T>();
#endif
  return isa_default::kernels<T>();
}

// Bytes of bits (eight elements each) below which a thread is not worth waking.
constexpr int64_t kGrain = 4096;

#define BIGAN_DISPATCH(type, name, ...)                                                                      \
  THO_DISPATCH_V2(type, name, AT_WRAP(__VA_ARGS__), ScalarType::Float, ScalarType::Double, ScalarType::Half, \
                  ScalarType::BFloat16)

std::tuple<Tensor, Tensor> bias_leaky_relu_cpu(const Tensor& x_any, const std::optional<Tensor>& bias_any, double slope,
                                               bool channels_last) {
  const Tensor x = laid_out(x_any, channels_last);
  check_bias(bias_any, x);
  const std::optional<Tensor> bias = bias_any ? std::optional(torch::stable::contiguous(*bias_any)) : std::nullopt;
  Tensor y = torch::stable::empty_like(x);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return {y, bits};
  const Extent e = extent_of(x, channels_last);
  BIGAN_DISPATCH(x.scalar_type(), "bias_leaky_relu", [&] {
    using A = accumulate_t<scalar_t>;
    const auto forward = chosen_kernels<scalar_t>().forward;
    const auto* from = x.const_data_ptr<scalar_t>();
    const A* add = bias ? bias->const_data_ptr<A>() : nullptr;
    auto* to = y.mutable_data_ptr<scalar_t>();
    auto* signs = bits.mutable_data_ptr<uint8_t>();
    torch::stable::parallel_for(0, bytes_of_bits(x), kGrain, [&](int64_t first, int64_t last) {
      forward(from, add, static_cast<A>(slope), e, to, signs, first, last);
    });
  });
  return {y, bits};
}

// out[c] = the sum of partial[k][c] over k in order, in double.
template <typename A>
void sum_partials(const A* partial, int64_t count, int64_t channels, A* out) {
  constexpr int64_t kBlock = 64;
  torch::stable::parallel_for(0, ceil_div(channels, kBlock), 16, [&](int64_t first, int64_t last) {
    for (int64_t c0 = first * kBlock; c0 < std::min(last * kBlock, channels); c0 += kBlock) {
      const int64_t n = std::min(kBlock, channels - c0);
      double sum[kBlock] = {};
      for (int64_t k = 0; k < count; ++k) {
        for (int64_t c = 0; c < n; ++c) sum[c] += static_cast<double>(partial[k * channels + c0 + c]);
      }
      for (int64_t c = 0; c < n; ++c) out[c0 + c] = static_cast<A>(sum[c]);
    }
  });
}

std::tuple<Tensor, Tensor> mask_multiply_cpu(const Tensor& g_any, const Tensor& bits, double slope, bool channels_last,
                                             bool sum_bias) {
  const Tensor g = laid_out(g_any, channels_last);
  check_bits(bits, g);
  Tensor dx = torch::stable::empty_like(g);
  Tensor db = empty_sums(g, sum_bias);
  if (g.numel() == 0) return {dx, db};
  const Extent e = extent_of(g, channels_last);
  BIGAN_DISPATCH(g.scalar_type(), "mask_multiply", [&] {
    using A = accumulate_t<scalar_t>;
    const Kernels<scalar_t> kernels = chosen_kernels<scalar_t>();
    const A factor = static_cast<A>(slope);
    const auto* from = g.const_data_ptr<scalar_t>();
    const auto* signs = bits.const_data_ptr<uint8_t>();
    auto* to = dx.mutable_data_ptr<scalar_t>();
    if (!sum_bias) {
      torch::stable::parallel_for(0, bytes_of_bits(g), kGrain, [&](int64_t first, int64_t last) {
        kernels.multiply(from, signs, factor, e.numel(), to, first, last);
      });
      return;
    }
    const Chunks chunks(e);
    Tensor partials = torch::stable::new_empty(g, {chunks.count, e.channels}, accumulation_type(g));
    A* partial = partials.mutable_data_ptr<A>();
    torch::stable::parallel_for(0, chunks.count, 2, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; ++k) {
        kernels.multiply_and_sum(from, signs, factor, e, chunks, k, to, partial + k * e.channels);
      }
    });
    sum_partials(partial, chunks.count, e.channels, db.mutable_data_ptr<A>());
  });
  return {dx, db};
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) {
  m.impl("bias_leaky_relu", TORCH_BOX(&bigan::bias_leaky_relu_cpu));
  m.impl("mask_multiply", TORCH_BOX(&bigan::mask_multiply_cpu));
}
