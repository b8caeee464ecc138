#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bias_leaky_relu.cuh"
#include "launch.h"

namespace bigan::cuda {
namespace {

template <typename T>
void launch_forward(const T* x, const accumulate_t<T>* bias, double slope, Extent e, T* y, uint8_t* bits,
                    cudaStream_t stream) {
  const auto factor = static_cast<accumulate_t<T>>(slope);
  const unsigned grid = blocks(elementwise_grid(e.numel()));
  if (aligned({x, y})) {
    forward<true><<<grid, kThreads, 0, stream>>>(x, bias, factor, e, y, bits);
  } else {
    forward<false><<<grid, kThreads, 0, stream>>>(x, bias, factor, e, y, bits);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// x and y lie as channels_last says; returns the bits.
Tensor activate(const Tensor& x, const std::optional<Tensor>& bias_any, double slope, bool channels_last, Tensor& y) {
  check_bias(bias_any, x);
  const std::optional<Tensor> bias = contiguous(bias_any);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return bits;
  BIGAN_DISPATCH(x.scalar_type(), "bias_leaky_relu", [&] {
    using A = accumulate_t<scalar_t>;
    launch_forward(x.const_data_ptr<scalar_t>(), data_or_null<A>(bias), slope, extent_of(x, channels_last),
                   y.mutable_data_ptr<scalar_t>(), bits.mutable_data_ptr<uint8_t>(), current_stream(x));
  });
  return bits;
}

std::tuple<Tensor, Tensor> bias_leaky_relu_cuda(const Tensor& x_any, const std::optional<Tensor>& bias, double slope,
                                                bool channels_last) {
  const torch::stable::accelerator::DeviceGuard guard(x_any.get_device_index());
  const Tensor x = laid_out(x_any, channels_last);
  Tensor y = torch::stable::empty_like(x);
  return {y, activate(x, bias, slope, channels_last, y)};
}

Tensor bias_leaky_relu_cuda_(Tensor x, const std::optional<Tensor>& bias, double slope, bool channels_last) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  check_lies(x, channels_last);
  return activate(x, bias, slope, channels_last, x);
}

}  // namespace
}  // namespace bigan::cuda

STABLE_TORCH_LIBRARY_IMPL(bigan, CUDA, m) {
  m.impl("bias_leaky_relu", TORCH_BOX(&bigan::cuda::bias_leaky_relu_cuda));
  m.impl("bias_leaky_relu_", TORCH_BOX(&bigan::cuda::bias_leaky_relu_cuda_));
}
