#include <torch/csrc/stable/library.h>

#include <algorithm>
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
  void (*forward)(const T* x, const A* bias, A slope, Extent e, T* y, uint8_t* bits, int64_t first, int64_t last);
};

#define BIGAN_KERNELS "bias_leaky_relu_kernels.inc"
#include "for_each_isa.inc"

// Bytes of bits (eight elements each) below which a thread is not worth waking.
constexpr int64_t kGrain = 4096;

std::tuple<Tensor, Tensor> bias_leaky_relu_cpu(const Tensor& x_any, const std::optional<Tensor>& bias_any, double slope,
                                               bool channels_last) {
  const Tensor x = laid_out(x_any, channels_last);
  check_bias(bias_any, x);
  const std::optional<Tensor> bias = contiguous(bias_any);
  Tensor y = torch::stable::empty_like(x);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return {y, bits};
  const Extent e = extent_of(x, channels_last);
  BIGAN_DISPATCH(x.scalar_type(), "bias_leaky_relu", [&] {
    using A = accumulate_t<scalar_t>;
    const auto forward = chosen_kernels<scalar_t>().forward;
    const auto* from = x.const_data_ptr<scalar_t>();
    const A* add = data_or_null<A>(bias);
    auto* to = y.mutable_data_ptr<scalar_t>();
    auto* signs = bits.mutable_data_ptr<uint8_t>();
    torch::stable::parallel_for(0, bytes_of_bits(x), kGrain, [&](int64_t first, int64_t last) {
      forward(from, add, static_cast<A>(slope), e, to, signs, first, last);
    });
  });
  return {y, bits};
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) { m.impl("bias_leaky_relu", TORCH_BOX(&bigan::bias_leaky_relu_cpu)); }
