// What the host side of affine_leaky_relu and its backward does with its tensors before a kernel sees pointers.
#pragma once

#include <tuple>

#include "affine_leaky_relu.h"
#include "tensors.h"

namespace bigan {

inline void check_factor(int64_t factor, const Tensor& x) {
  STD_TORCH_CHECK(factor == 1 || (factor == 2 && x.dim() == 4), "factor must be 1, or 2 for x [N, C, H, W], got ",
                  factor, " for ", x.dim(), " dimensions");
}

// Lines of factor 1 are whole planes, unless those are so long that threads and sums need them cut.
inline Upsample upsample_of(const Tensor& x, int64_t factor, bool channels_last) {
  constexpr int64_t kLongest = 4096;
  int64_t pixels = 1;
  for (int64_t d = 2; d < x.dim(); ++d) pixels *= x.size(d);
  const int64_t channels = x.size(1), width = x.dim() > 2 ? x.size(x.dim() - 1) : 1;
  if (channels != 1 && (channels_last || (pixels == 1 && factor == 1))) {
    return {x.size(0), channels, pixels, channels, true, factor, width};
  }
  const int64_t length = factor == 1 && pixels <= kLongest ? pixels : width;
  return {x.size(0), channels, length == 0 ? 0 : pixels / length, length, false, factor, width};
}

// An empty [N, C, numerator * H / denominator, …] in the memory format.
inline Tensor resized(const Tensor& x, int64_t numerator, int64_t denominator, bool channels_last) {
  if (numerator == denominator) return torch::stable::empty_like(x);
  return torch::stable::empty(
      {x.size(0), x.size(1), x.size(2) * numerator / denominator, x.size(3) * numerator / denominator}, x.scalar_type(),
      std::nullopt, x.device(), std::nullopt, channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

// The arguments of affine_leaky_relu_backward, checked and laid out, and its outputs, empty where not asked for.
struct BackwardCall {
  Tensor g, bits;
  std::optional<Tensor> x, scale, x_scale, shift;
  Upsample up;
  Tensor dx, dshift, dscale;
  std::tuple<Tensor, Tensor, Tensor> outputs() const { return {dx, dshift, dscale}; }
};

inline BackwardCall prepare_backward(const Tensor& g_any, const Tensor& bits, const std::optional<Tensor>& x_any,
                                     const std::optional<Tensor>& scale, const std::optional<Tensor>& x_scale,
                                     const std::optional<Tensor>& shift, int64_t factor, bool channels_last, bool write,
                                     bool sums) {
  const Tensor g = laid_out(g_any, channels_last);
  check_factor(factor, g);
  STD_TORCH_CHECK(factor == 1 || (g.size(2) % 2 == 0 && g.size(3) % 2 == 0), "g must be [N, C, 2 H, 2 W]");
  Tensor dx = resized(g, 1, factor, channels_last);
  check_bits(bits, dx);
  std::optional<Tensor> x;
  if (x_any) {
    STD_TORCH_CHECK(x_any->scalar_type() == g.scalar_type() && x_any->device() == g.device(),
                    "x must have the type and the device of g");
    STD_TORCH_CHECK(x_any->sizes() == dx.sizes(), "x must be g's shape before the upsampling");
    x = laid_out(*x_any, channels_last);
  }
  STD_TORCH_CHECK(x || !x_scale, "x_scale needs x");
  for (const auto& values : {scale, x_scale, shift}) check_bias(values, dx);
  const auto empty_sums = [&](bool asked) {
    const int64_t channels = asked ? g.size(1) : 0;
    if (g.numel() == 0) return torch::stable::new_zeros(g, {channels}, accumulation_type(g));
    return torch::stable::new_empty(g, {channels}, accumulation_type(g));
  };
  const Upsample up = upsample_of(dx, factor, channels_last);
  if (!write) dx = torch::stable::new_empty(g, {0});
  return {g,
          bits,
          x,
          contiguous(scale),
          contiguous(x_scale),
          contiguous(shift),
          up,
          dx,
          empty_sums(sums),
          empty_sums(sums && x.has_value())};
}

// Where channel_moments writes: [C] and [C]; zeros where there is nothing to take moments of.
inline std::tuple<Tensor, Tensor> empty_moments(const Tensor& x) {
  const auto empty = [&] {
    if (x.numel() == 0) return torch::stable::new_zeros(x, {x.size(1)}, accumulation_type(x));
    return torch::stable::new_empty(x, {x.size(1)}, accumulation_type(x));
  };
  return {empty(), empty()};
}

}  // namespace bigan
