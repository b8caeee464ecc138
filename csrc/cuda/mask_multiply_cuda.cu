#include <torch/csrc/stable/library.h>

#include <tuple>

#include "launch.h"
#include "mask_multiply.cuh"

namespace bigan::cuda {
namespace {

template <typename T>
struct Arguments {
  using A = accumulate_t<T>;
  const T* g;
  const A* rows;
  const uint8_t* bits;
  A slope;
  int64_t samples;
  Extent sample;
  T* y;
};

template <typename T>
void launch_multiply(const Arguments<T>& a, cudaStream_t stream) {
  const unsigned grid = blocks(elementwise_grid(a.samples * a.sample.numel()));
  const auto kernel = aligned({a.g, a.y}) ? multiply<true, T> : multiply<false, T>;
  kernel<<<grid, kThreads, 0, stream>>>(a.g, a.rows, a.bits, a.slope, a.samples, a.sample, a.y);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
void launch_multiply_and_sum(const Arguments<T>& a, accumulate_t<T>* partial, accumulate_t<T>* sums,
                             cudaStream_t stream) {
  const bool vector = aligned({a.g, a.y}) && sums_align(a.sample);
  const auto kernel = a.sample.inner == 1
                          ? (vector ? multiply_and_sum_pixels<true, T> : multiply_and_sum_pixels<false, T>)
                          : (vector ? multiply_and_sum_planes<true, T> : multiply_and_sum_planes<false, T>);
  const unsigned grid = blocks(a.samples * multiply_and_sum_grid(a.sample));
  kernel<<<grid, kThreads, 0, stream>>>(a.g, a.rows, a.bits, a.slope, a.samples, a.sample, a.y, partial);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  if (partial == sums) return;
  sum_partials<<<blocks(sum_grid(a.samples, a.sample.channels)), kThreads, 0, stream>>>(
      partial, partial_count(a.sample), a.sample.channels, sums);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor> mask_multiply_cuda(const Tensor& g_any, const std::optional<Tensor>& rows_any,
                                              const Tensor& bits, double slope, bool channels_last, bool with_sums) {
  const torch::stable::accelerator::DeviceGuard guard(g_any.get_device_index());
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
    // Parentheses: the macro around would take a comma between braces for its own.
    const Arguments<scalar_t> arguments(g.const_data_ptr<scalar_t>(), data_or_null<A>(rows),
                                        bits.const_data_ptr<uint8_t>(), static_cast<A>(slope), g.size(0), sample,
                                        y.mutable_data_ptr<scalar_t>());
    if (!with_sums) {
      launch_multiply(arguments, current_stream(g));
      return;
    }
    const int64_t count = partial_count(sample);
    // One partial sum is the sum.
    Tensor partial =
        count == 1 ? sums : torch::stable::new_empty(g, {g.size(0), count, sample.channels}, accumulation_type(g));
    launch_multiply_and_sum(arguments, partial.mutable_data_ptr<A>(), sums.mutable_data_ptr<A>(), current_stream(g));
  });
  return {y, sums};
}

}  // namespace
}  // namespace bigan::cuda

STABLE_TORCH_LIBRARY_IMPL(bigan, CUDA, m) { m.impl("mask_multiply", TORCH_BOX(&bigan::cuda::mask_multiply_cuda)); }
