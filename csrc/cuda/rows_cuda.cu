#include <torch/csrc/stable/library.h>

#include "../rows.h"
#include "launch.h"
#include "rows.cuh"

namespace bigan::cuda {
namespace {

template <typename T>
void launch_dot(const T* a, const T* b, int64_t samples, int64_t length, accumulate_t<T>* partial,
                accumulate_t<T>* sums, cudaStream_t stream) {
  const int64_t pieces = row_pieces(length);
  const auto kernel = length % 8 == 0 && aligned({a, b}) ? &dot<true, T> : &dot<false, T>;
  kernel<<<blocks(samples * pieces), kThreads, 0, stream>>>(a, b, length, partial);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  if (partial == sums) return;
  sum_partials<<<blocks(sum_grid(samples, 1)), kThreads, 0, stream>>>(partial, pieces, 1, sums);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
void launch_combine(const T* a, const accumulate_t<T>* alpha, const T* b, const accumulate_t<T>* beta, int64_t samples,
                    int64_t length, T* y, cudaStream_t stream) {
  const auto kernel = aligned({a, b, y}) ? &combine<true, T> : &combine<false, T>;
  const unsigned grid = blocks(elementwise_grid(samples * length));
  kernel<<<grid, kThreads, 0, stream>>>(a, alpha, b, beta, samples, length, y);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// b null: the squared norms of a's samples.
Tensor dots(const Tensor& a, const Tensor* b) {
  if (a.numel() == 0) return torch::stable::new_zeros(a, {a.size(0)}, accumulation_type(a));
  Tensor sums = torch::stable::new_empty(a, {a.size(0)}, accumulation_type(a));
  const int64_t samples = a.size(0), length = row_length(a), pieces = row_pieces(length);
  // One partial sum is the sum.
  Tensor partial = pieces == 1 ? sums : torch::stable::new_empty(a, {samples, pieces}, accumulation_type(a));
  BIGAN_DISPATCH(a.scalar_type(), "row_dot", [&] {
    using A = accumulate_t<scalar_t>;
    const auto* right = b == nullptr ? nullptr : b->const_data_ptr<scalar_t>();
    launch_dot(a.const_data_ptr<scalar_t>(), right, samples, length, partial.mutable_data_ptr<A>(),
               sums.mutable_data_ptr<A>(), current_stream(a));
  });
  return sums;
}

Tensor squared_norm_cuda(const Tensor& g) {
  const torch::stable::accelerator::DeviceGuard guard(g.get_device_index());
  check_rows_of(g);
  return dots(copied_unless_it_lies(g, lies_channels_last(g)), nullptr);
}

Tensor row_dot_cuda(const Tensor& a, const Tensor& b) {
  const torch::stable::accelerator::DeviceGuard guard(a.get_device_index());
  check_rows_of(a);
  check_like(b, a, "b");
  const bool channels_last = lies_channels_last(a);
  const Tensor right = copied_unless_it_lies(b, channels_last);
  return dots(copied_unless_it_lies(a, channels_last), &right);
}

void combine_into(const Combination& terms, Tensor& out) {
  if (out.numel() == 0) return;
  BIGAN_DISPATCH(out.scalar_type(), "row_combine", [&] {
    using A = accumulate_t<scalar_t>;
    launch_combine(terms.a.const_data_ptr<scalar_t>(), data_or_null<A>(terms.alpha), data_or_null<scalar_t>(terms.b),
                   data_or_null<A>(terms.beta), out.size(0), row_length(out), out.mutable_data_ptr<scalar_t>(),
                   current_stream(out));
  });
}

Tensor row_combine_cuda(const Tensor& a, const std::optional<Tensor>& alpha, const std::optional<Tensor>& b,
                        const std::optional<Tensor>& beta) {
  const torch::stable::accelerator::DeviceGuard guard(a.get_device_index());
  check_rows_of(a);
  const Combination terms(a, alpha, b, beta, lies_channels_last(a));
  Tensor y = torch::stable::empty_like(terms.a);
  combine_into(terms, y);
  return y;
}

void row_combine_cuda_(Tensor out, const Tensor& a, const std::optional<Tensor>& alpha, const std::optional<Tensor>& b,
                       const std::optional<Tensor>& beta) {
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  combine_into(Combination(a, alpha, b, beta, check_out(out, a)), out);
}

}  // namespace
}  // namespace bigan::cuda

STABLE_TORCH_LIBRARY_IMPL(bigan, CUDA, m) {
  m.impl("squared_norm", TORCH_BOX(&bigan::cuda::squared_norm_cuda));
  m.impl("row_dot", TORCH_BOX(&bigan::cuda::row_dot_cuda));
  m.impl("row_combine", TORCH_BOX(&bigan::cuda::row_combine_cuda));
  m.impl("row_combine_", TORCH_BOX(&bigan::cuda::row_combine_cuda_));
}
