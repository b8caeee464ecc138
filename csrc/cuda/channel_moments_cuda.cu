#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../upsample_tensors.h"
#include "channel_moments.cuh"
#include "launch.h"

namespace bigan::cuda {
namespace {

template <typename T>
void launch(const Tensor& x, const Upsample& up, Tensor& mean, Tensor& var) {
  using A = accumulate_t<T>;
  const T* from = x.const_data_ptr<T>();
  const bool vector = aligned({from}) && moments_align(up);
  const auto kernel = up.by_pixel ? (vector ? moments_of_pixels<true, T> : moments_of_pixels<false, T>)
                                  : (vector ? moments_of_lines<true, T> : moments_of_lines<false, T>);
  const int64_t count = moment_count(up);
  Tensor partials = torch::stable::new_empty(x, {2, count, up.channels}, accumulation_type(x));
  A* means = partials.mutable_data_ptr<A>();
  A* m2s = means + count * up.channels;
  const cudaStream_t stream = current_stream(x);
  kernel<<<blocks(moment_grid(up)), kThreads, 0, stream>>>(from, up, means, m2s);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  combine_moments<A><<<blocks(ceil_div(up.channels, kThreads)), kThreads, 0, stream>>>(
      means, m2s, count, up, mean.mutable_data_ptr<A>(), var.mutable_data_ptr<A>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor> channel_moments_cuda(const Tensor& x_any, bool channels_last) {
  const torch::stable::accelerator::DeviceGuard guard(x_any.get_device_index());
  const Tensor x = laid_out(x_any, channels_last);
  auto [mean, var] = empty_moments(x);
  if (x.numel() == 0) return {mean, var};
  const Upsample up = upsample_of(x, 1, channels_last);
  BIGAN_DISPATCH(x.scalar_type(), "channel_moments", [&] { launch<scalar_t>(x, up, mean, var); });
  return {mean, var};
}

}  // namespace
}  // namespace bigan::cuda

STABLE_TORCH_LIBRARY_IMPL(bigan, CUDA, m) { m.impl("channel_moments", TORCH_BOX(&bigan::cuda::channel_moments_cuda)); }
