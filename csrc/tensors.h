// What the host side of every operator does with its tensors before a kernel sees pointers.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <optional>

#include "bias_leaky_relu.h"

namespace bigan {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Whether x: [N, C, *] lies in memory without gaps, in the order that channels_last says.
inline bool lies(const Tensor& x, bool channels_last) {
  const int64_t dims = x.dim();
  int64_t stride = 1;
  for (int64_t k = 0; k < dims; ++k) {
    int64_t d = dims - 1 - k;  // from the innermost dimension to the outermost: C, W, H, N where channels_last
    if (channels_last && k == 0) d = 1;
    if (channels_last && k > 0 && k < dims - 1) d = dims - k;
    if (x.size(d) != 1 && x.stride(d) != stride) return false;
    stride *= std::max<int64_t>(x.size(d), 1);
  }
  return true;
}

inline Tensor copied_unless_it_lies(const Tensor& x, bool channels_last) {
  if (lies(x, channels_last)) return x;  // asking torch costs as much as a small layer
  if (!channels_last) return torch::stable::contiguous(x);
  return torch::stable::contiguous(x, x.dim() == 4 ? MemoryFormat::ChannelsLast : MemoryFormat::ChannelsLast3d);
}

// x itself if it lies in the format asked for (so that its strides survive), else a copy that does.
inline Tensor laid_out(const Tensor& x, bool channels_last) {
  STD_TORCH_CHECK(x.dim() >= 2, "x must be [N, C, *], got ", x.dim(), " dimension(s)");
  STD_TORCH_CHECK(!channels_last || x.dim() == 4 || x.dim() == 5, "channels_last needs 4 or 5 dimensions, got ",
                  x.dim());
  return copied_unless_it_lies(x, channels_last);
}

// For operators that write over x: no copy could take its place.
inline void check_lies(const Tensor& x, bool channels_last) {
  STD_TORCH_CHECK(x.dim() >= 2, "x must be [N, C, *], got ", x.dim(), " dimension(s)");
  STD_TORCH_CHECK((!channels_last || x.dim() == 4 || x.dim() == 5) && (x.numel() == 0 || lies(x, channels_last)),
                  "x must be dense in the memory format ", channels_last ? "channels_last" : "contiguous");
}

inline Extent extent_of(const Tensor& x, bool channels_last) {
  int64_t pixels = 1;
  for (int64_t d = 2; d < x.dim(); ++d) pixels *= x.size(d);
  // One channel: a single long plane, which is the faster case and lies the same in both formats.
  if (x.size(1) == 1) return {1, 1, x.numel()};
  if (channels_last) return {x.size(0) * pixels, x.size(1), 1};
  return {x.size(0), x.size(1), pixels};
}

// One sample of x: what extent_of says of x[:1], but with the channels of a plane kept apart where C = 1.
inline Extent sample_extent_of(const Tensor& x, bool channels_last) {
  const int64_t numel = x.size(0) == 0 ? 0 : x.numel() / x.size(0), channels = x.size(1);
  const int64_t pixels = channels == 0 ? 0 : numel / channels;
  if (channels_last && channels != 1) return {pixels, channels, 1};
  return {1, channels, pixels};
}

inline ScalarType accumulation_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline int64_t bytes_of_bits(const Tensor& x) { return ceil_div(x.numel(), 8); }

// Where mask_multiply writes its sums: [N, C], or nothing. Zeros where no kernel will write.
inline Tensor empty_sums(const Tensor& g, bool sums) {
  if (!sums) return torch::stable::new_empty(g, {0}, accumulation_type(g));
  if (g.numel() == 0) return torch::stable::new_zeros(g, {g.size(0), g.size(1)}, accumulation_type(g));
  return torch::stable::new_empty(g, {g.size(0), g.size(1)}, accumulation_type(g));
}

inline void check_bias(const std::optional<Tensor>& bias, const Tensor& x) {
  if (!bias) return;
  STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == x.size(1), "bias must be [", x.size(1), "]");
  STD_TORCH_CHECK(bias->scalar_type() == accumulation_type(x), "bias must be fp32 (fp64 for an fp64 x)");
  STD_TORCH_CHECK(bias->device() == x.device(), "bias must lie on the device of x");
}

inline void check_rows(const std::optional<Tensor>& rows, const Tensor& g) {
  if (!rows) return;
  STD_TORCH_CHECK(rows->dim() == 2 && rows->size(0) == g.size(0) && rows->size(1) == g.size(1), "rows must be [",
                  g.size(0), ", ", g.size(1), "]");
  STD_TORCH_CHECK(rows->scalar_type() == accumulation_type(g), "rows must be fp32 (fp64 for an fp64 g)");
  STD_TORCH_CHECK(rows->device() == g.device(), "rows must lie on the device of g");
}

// More bits than g has elements are no error: g may be the first samples of the batch whose signs they are.
inline void check_bits(const Tensor& bits, const Tensor& g) {
  STD_TORCH_CHECK(bits.scalar_type() == ScalarType::Byte, "bits must be uint8");
  STD_TORCH_CHECK(bits.dim() == 1 && bits.size(0) >= bytes_of_bits(g), "bits must be [", bytes_of_bits(g),
                  "] or longer");
  STD_TORCH_CHECK(bits.is_contiguous() && bits.device() == g.device(), "bits must be dense, on the device of g");
}

inline std::optional<Tensor> contiguous(const std::optional<Tensor>& x) {
  return x ? std::optional(torch::stable::contiguous(*x)) : std::nullopt;
}

template <typename A>
const A* data_or_null(const std::optional<Tensor>& x) {
  return x ? x->const_data_ptr<A>() : nullptr;
}

// Runs a lambda with scalar_t: fp32, fp64, fp16 or bf16.
#define BIGAN_DISPATCH(type, name, ...)                                                                      \
  THO_DISPATCH_V2(type, name, AT_WRAP(__VA_ARGS__), ScalarType::Float, ScalarType::Double, ScalarType::Half, \
                  ScalarType::BFloat16)

}  // namespace bigan
