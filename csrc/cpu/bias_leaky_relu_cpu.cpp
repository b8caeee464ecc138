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
  using Forward = void(const T* x, const A* bias, A slope, Extent e, T* y, uint8_t* bits, int64_t first, int64_t last);
  Forward *forward, *forward_streaming;
};

#define BIGAN_KERNELS "bias_leaky_relu_kernels.inc"
#include "for_each_isa.inc"

// The bias followed by its own beginning, so that a vector of up to 16 channels may begin at any of them.
template <typename A>
class Wrapped {
 public:
  Wrapped(const A* bias, int64_t channels) : bias_(bias) {
    if (bias == nullptr || channels % 16 == 0) return;
    copy_.reset(new A[channels + 15]);
    for (int64_t c = 0; c < channels + 15; ++c) copy_[c] = bias[c % channels];
    bias_ = copy_.get();
  }
  const A* data() const { return bias_; }

 private:
  std::unique_ptr<A[]> copy_;
  const A* bias_;
};

// y may be x.
template <typename T, typename A = accumulate_t<T>>
void activate(const T* x, const A* bias, A slope, Extent e, T* y, uint8_t* bits) {
  constexpr int64_t kBlock = 4096;
  const int64_t numel = e.numel();
  const Wrapped<A> wrapped(bias, e.inner == 1 ? e.channels : 16);
  const bool stream = x != y && (e.inner == 1 || e.inner % 16 == 0) && worth_streaming(y, numel);
  const auto forward = stream ? chosen_kernels<T>().forward_streaming : chosen_kernels<T>().forward;
  torch::stable::parallel_for(0, ceil_div(numel, kBlock), grain(kBlock), [&](int64_t first, int64_t last) {
    forward(x, wrapped.data(), slope, e, y, bits, first * kBlock, std::min(last * kBlock, numel));
    if (stream) stream_fence();
  });
}

// x and y lie as channels_last says; returns the bits.
Tensor activate(const Tensor& x, const std::optional<Tensor>& bias_any, double slope, bool channels_last, Tensor& y) {
  check_bias(bias_any, x);
  const std::optional<Tensor> bias = contiguous(bias_any);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return bits;
  const Extent e = extent_of(x, channels_last);
  BIGAN_DISPATCH(x.scalar_type(), "bias_leaky_relu", [&] {
    using A = accumulate_t<scalar_t>;
    activate(x.const_data_ptr<scalar_t>(), data_or_null<A>(bias), static_cast<A>(slope), e,
             y.mutable_data_ptr<scalar_t>(), bits.mutable_data_ptr<uint8_t>());
  });
  return bits;
}

std::tuple<Tensor, Tensor> bias_leaky_relu_cpu(const Tensor& x_any, const std::optional<Tensor>& bias_any, double slope,
                                               bool channels_last) {
  const Tensor x = laid_out(x_any, channels_last);
  Tensor y = torch::stable::empty_like(x);
  return {y, activate(x, bias_any, slope, channels_last, y)};
}

Tensor bias_leaky_relu_cpu_(Tensor x, const std::optional<Tensor>& bias, double slope, bool channels_last) {
  check_lies(x, channels_last);
  return activate(x, bias, slope, channels_last, x);
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) {
  m.impl("bias_leaky_relu", TORCH_BOX(&bigan::bias_leaky_relu_cpu));
  m.impl("bias_leaky_relu_", TORCH_BOX(&bigan::bias_leaky_relu_cpu_));
}
