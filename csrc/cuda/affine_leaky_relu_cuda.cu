#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../upsample_tensors.h"
#include "affine_leaky_relu.cuh"
#include "launch.h"

namespace bigan::cuda {
namespace {

template <typename T>
void launch_forward(const Tensor& x, const std::optional<Tensor>& scale, const std::optional<Tensor>& shift,
                    double slope, const Upsample& up, Tensor& y, Tensor& bits) {
  using A = accumulate_t<T>;
  const T* from = x.const_data_ptr<T>();
  T* to = y.mutable_data_ptr<T>();
  const auto kernel = aligned({from, to}) && forward_aligns(up) ? affine_forward<true, T> : affine_forward<false, T>;
  kernel<<<blocks(elementwise_grid(up.numel())), kThreads, 0, current_stream(x)>>>(
      from, data_or_null<A>(scale), data_or_null<A>(shift), static_cast<A>(slope), up, to,
      bits.mutable_data_ptr<uint8_t>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor> affine_leaky_relu_cuda(const Tensor& x_any, const std::optional<Tensor>& scale,
                                                  const std::optional<Tensor>& shift, double slope, int64_t factor,
                                                  bool channels_last) {
  const torch::stable::accelerator::DeviceGuard guard(x_any.get_device_index());
  const Tensor x = laid_out(x_any, channels_last);
  check_factor(factor, x);
  check_bias(scale, x);
  check_bias(shift, x);
  Tensor y = resized(x, factor, 1, channels_last);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return {y, bits};
  BIGAN_DISPATCH(x.scalar_type(), "affine_leaky_relu", [&] {
    launch_forward<scalar_t>(x, contiguous(scale), contiguous(shift), slope, upsample_of(x, factor, channels_last), y,
                             bits);
  });
  return {y, bits};
}

template <typename T>
void launch_backward(const BackwardCall& call, double slope) {
  using A = accumulate_t<T>;
  const bool write = call.dx.numel() != 0, sums = call.dshift.numel() != 0;
  const Upsample up = call.up;
  const AffineBackward<T> b{call.g.const_data_ptr<T>(),
                            call.bits.const_data_ptr<uint8_t>(),
                            call.bits.size(0),
                            data_or_null<T>(call.x),
                            data_or_null<A>(call.scale),
                            data_or_null<A>(call.x_scale),
                            data_or_null<A>(call.shift),
                            static_cast<A>(slope),
                            up,
                            write ? call.dx.mutable_data_ptr<T>() : nullptr};
  const bool vector = aligned({b.g, b.x, b.dx}) && backward_aligns(up);
  const auto kernel = up.by_pixel ? (vector ? affine_backward_pixels<true, T> : affine_backward_pixels<false, T>)
                                  : (vector ? affine_backward_lines<true, T> : affine_backward_lines<false, T>);
  const int64_t count = sums ? backward_partials(up) : 0;
  Tensor partials = torch::stable::new_empty(call.g, {2, count, up.channels}, accumulation_type(call.g));
  A* dshift = sums ? partials.mutable_data_ptr<A>() : nullptr;
  A* dscale = sums && call.x ? dshift + count * up.channels : nullptr;
  const cudaStream_t stream = current_stream(call.g);
  kernel<<<blocks(backward_grid(up)), kThreads, 0, stream>>>(b, dshift, dscale);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  const auto finish = [&](const A* partial, const Tensor& out) {
    if (partial == nullptr) return;
    sum_partials<<<blocks(sum_grid(1, up.channels)), kThreads, 0, stream>>>(partial, count, up.channels,
                                                                            out.mutable_data_ptr<A>());
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  finish(dshift, call.dshift);
  finish(dscale, call.dscale);
}

std::tuple<Tensor, Tensor, Tensor> affine_leaky_relu_backward_cuda(
    const Tensor& g, const Tensor& bits, const std::optional<Tensor>& x, const std::optional<Tensor>& scale,
    const std::optional<Tensor>& x_scale, const std::optional<Tensor>& shift, double slope, int64_t factor,
    bool channels_last, bool write, bool sums) {
  const torch::stable::accelerator::DeviceGuard guard(g.get_device_index());
  const BackwardCall call = prepare_backward(g, bits, x, scale, x_scale, shift, factor, channels_last, write, sums);
  if (g.numel() == 0) return call.outputs();
  BIGAN_DISPATCH(g.scalar_type(), "affine_leaky_relu_backward", [&] { launch_backward<scalar_t>(call, slope); });
  return call.outputs();
}

}  // namespace
}  // namespace bigan::cuda

STABLE_TORCH_LIBRARY_IMPL(bigan, CUDA, m) {
  m.impl("affine_leaky_relu", TORCH_BOX(&bigan::cuda::affine_leaky_relu_cuda));
  m.impl("affine_leaky_relu_backward", TORCH_BOX(&bigan::cuda::affine_leaky_relu_backward_cuda));
}
