// What the operators on the samples of a batch, [N, *], do with their tensors before a kernel sees [N, length].
#pragma once

#include "tensors.h"

namespace bigan {

// Contiguous and channels_last alike, a sample is one run of memory. Whether x is the second and not the first.
inline bool lies_channels_last(const Tensor& x) {
  return (x.dim() == 4 || x.dim() == 5) && !lies(x, false) && lies(x, true);
}

inline int64_t row_length(const Tensor& x) { return x.size(0) == 0 ? 0 : x.numel() / x.size(0); }

inline void check_rows_of(const Tensor& a) { STD_TORCH_CHECK(a.dim() >= 1, "a must be [N, *], got a scalar"); }

inline void check_like(const Tensor& b, const Tensor& a, const char* name) {
  bool same = b.dim() == a.dim();
  for (int64_t d = 0; same && d < a.dim(); ++d) same = b.size(d) == a.size(d);
  STD_TORCH_CHECK(same && b.scalar_type() == a.scalar_type() && b.device() == a.device(), name,
                  " must have a's shape, type and device");
}

inline void check_factor(const std::optional<Tensor>& factor, const Tensor& a, const char* name) {
  if (!factor) return;
  STD_TORCH_CHECK(factor->dim() == 1 && factor->size(0) == a.size(0), name, " must be [", a.size(0), "]");
  STD_TORCH_CHECK(factor->scalar_type() == accumulation_type(a), name, " must be fp32 (fp64 for an fp64 a)");
  STD_TORCH_CHECK(factor->device() == a.device(), name, " must lie on the device of a");
}

// The arguments of row_combine, checked, and lying alike.
struct Combination {
  Tensor a;
  std::optional<Tensor> alpha, b, beta;

  Combination(const Tensor& a_any, const std::optional<Tensor>& alpha_any, const std::optional<Tensor>& b_any,
              const std::optional<Tensor>& beta_any, bool channels_last)
      : a(copied_unless_it_lies(a_any, channels_last)), alpha(contiguous(alpha_any)), beta(contiguous(beta_any)) {
    check_factor(alpha, a, "alpha");
    check_factor(beta, a, "beta");
    STD_TORCH_CHECK(b_any || !beta, "beta needs b");
    if (!b_any) return;
    check_like(*b_any, a, "b");
    b = copied_unless_it_lies(*b_any, channels_last);
  }
};

// Whether out, which is written over, lies channels_last; it must lie in one of the two formats.
inline bool check_out(const Tensor& out, const Tensor& a) {
  check_rows_of(a);
  check_like(out, a, "out");
  const bool channels_last = lies_channels_last(out);
  STD_TORCH_CHECK(out.numel() == 0 || channels_last || lies(out, false), "out must be contiguous or channels_last");
  return channels_last;
}

}  // namespace bigan
