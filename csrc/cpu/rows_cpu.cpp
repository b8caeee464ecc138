#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <memory>
#include <type_traits>

#include "../rows.h"
#include "capability.h"
#include "parallel.h"
#include "vec16.h"

namespace bigan {
namespace {

template <typename T>
struct Kernels {
  using A = accumulate_t<T>;
  double (*dot)(const T* a, const T* b, int64_t i, int64_t end);
  using Combine = void(const T* a, A alpha, const T* b, A beta, T* y, int64_t i, int64_t end);
  Combine *combine, *combine_streaming;
};

#define BIGAN_KERNELS "rows_kernels.inc"
#include "for_each_isa.inc"

// A sample is cut into pieces by its length alone, so that no sum depends on the number of threads.
constexpr int64_t kPiece = 16384;

// Calls task(n, piece, i, end) for every piece of every sample: the elements [i, end).
template <typename Task>
void for_each_piece(int64_t samples, int64_t length, Task&& task) {
  const int64_t pieces = ceil_div(length, kPiece);
  torch::stable::parallel_for(0, samples * pieces, grain(std::min(length, kPiece)), [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const int64_t n = k / pieces, piece = k % pieces;
      task(n, piece, n * length + piece * kPiece, n * length + std::min((piece + 1) * kPiece, length));
    }
  });
}

// b null: the squared norms of a's samples.
Tensor dots(const Tensor& a, const Tensor* b) {
  if (a.numel() == 0) return torch::stable::new_zeros(a, {a.size(0)}, accumulation_type(a));
  Tensor sums = torch::stable::new_empty(a, {a.size(0)}, accumulation_type(a));
  const int64_t samples = a.size(0), length = row_length(a), pieces = ceil_div(length, kPiece);
  BIGAN_DISPATCH(a.scalar_type(), "row_dot", [&] {
    const auto dot = chosen_kernels<scalar_t>().dot;
    const auto* left = a.const_data_ptr<scalar_t>();
    const auto* right = b == nullptr ? nullptr : b->const_data_ptr<scalar_t>();
    const std::unique_ptr<double[]> partial(new double[samples * pieces]);
    for_each_piece(samples, length, [&](int64_t n, int64_t piece, int64_t i, int64_t end) {
      partial[n * pieces + piece] = dot(left, right, i, end);
    });
    auto* out = sums.mutable_data_ptr<accumulate_t<scalar_t>>();
    for (int64_t n = 0; n < samples; ++n) {
      double sum = 0;
      for (int64_t piece = 0; piece < pieces; ++piece) sum += partial[n * pieces + piece];
      out[n] = static_cast<accumulate_t<scalar_t>>(sum);
    }
  });
  return sums;
}

Tensor squared_norm_cpu(const Tensor& g) {
  check_rows_of(g);
  return dots(copied_unless_it_lies(g, lies_channels_last(g)), nullptr);
}

Tensor row_dot_cpu(const Tensor& a, const Tensor& b) {
  check_rows_of(a);
  check_like(b, a, "b");
  const bool channels_last = lies_channels_last(a);
  const Tensor right = copied_unless_it_lies(b, channels_last);
  return dots(copied_unless_it_lies(a, channels_last), &right);
}

void combine(const Combination& terms, Tensor& out) {
  if (out.numel() == 0) return;
  const int64_t length = row_length(out);
  BIGAN_DISPATCH(out.scalar_type(), "row_combine", [&] {
    using A = accumulate_t<scalar_t>;
    const auto* a = terms.a.const_data_ptr<scalar_t>();
    const auto* b = data_or_null<scalar_t>(terms.b);
    const A* alpha = data_or_null<A>(terms.alpha);
    const A* beta = data_or_null<A>(terms.beta);
    auto* y = out.mutable_data_ptr<scalar_t>();
    const bool stream = y != a && y != b && length % 16 == 0 && worth_streaming(y, out.numel());
    const Kernels<scalar_t> kernels = chosen_kernels<scalar_t>();
    const auto kernel = stream ? kernels.combine_streaming : kernels.combine;
    for_each_piece(out.size(0), length, [&](int64_t n, int64_t, int64_t i, int64_t end) {
      kernel(a, alpha == nullptr ? A(1) : alpha[n], b, beta == nullptr ? A(1) : beta[n], y, i, end);
      if (stream) stream_fence();
    });
  });
}

Tensor row_combine_cpu(const Tensor& a, const std::optional<Tensor>& alpha, const std::optional<Tensor>& b,
                       const std::optional<Tensor>& beta) {
  check_rows_of(a);
  const Combination terms(a, alpha, b, beta, lies_channels_last(a));
  Tensor y = torch::stable::empty_like(terms.a);
  combine(terms, y);
  return y;
}

void row_combine_cpu_(Tensor out, const Tensor& a, const std::optional<Tensor>& alpha, const std::optional<Tensor>& b,
                      const std::optional<Tensor>& beta) {
  combine(Combination(a, alpha, b, beta, check_out(out, a)), out);
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) {
  m.impl("squared_norm", TORCH_BOX(&bigan::squared_norm_cpu));
  m.impl("row_dot", TORCH_BOX(&bigan::row_dot_cpu));
  m.impl("row_combine", TORCH_BOX(&bigan::row_combine_cpu));
  m.impl("row_combine_", TORCH_BOX(&bigan::row_combine_cpu_));
}
