#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "../upsample_tensors.h"
#include "capability.h"
#include "chunks.h"
#include "parallel.h"
#include "vec16.h"

namespace bigan {
namespace {

// y = up(leaky_relu(x * scale + shift)), and the signs of x * scale + shift.
template <typename T>
struct Forward {
  using A = accumulate_t<T>;
  const T* x;
  const A *scale, *shift;
  A slope;
  Upsample up;
  T* y;
  bool stream;
  uint8_t* bits;
};

// dx = gz * scale + x * x_scale + shift, where gz = m * (g summed over the copies); what is null is left out.
template <typename T>
struct Backward {
  using A = accumulate_t<T>;
  const T* g;
  const uint8_t* bits;
  int64_t bytes;
  const T* x;
  const A *scale, *x_scale, *shift;
  A slope;
  Upsample up;
  T* dx;
};

template <typename T>
struct Kernels {
  using A = accumulate_t<T>;
  void (*forward)(const Forward<T>& f, int64_t first, int64_t last);
  void (*backward)(const Backward<T>& b, const Chunk& chunk, A* dshift, A* dscale);
};

#define BIGAN_KERNELS "affine_leaky_relu_kernels.inc"
#include "for_each_isa.inc"

// Threads take whole bytes of bits: single runs where these are, eight runs where not.
template <typename T>
void run_forward(const Forward<T>& f) {
  const auto kernel = chosen_kernels<T>().forward;
  const int64_t runs = f.up.runs(), group = f.up.length % 8 == 0 ? 1 : 8;
  const int64_t elements = group * f.up.length * f.up.factor * f.up.factor;
  torch::stable::parallel_for(0, ceil_div(runs, group), grain(elements), [&](int64_t first, int64_t last) {
    kernel(f, first * group, std::min(last * group, runs));
  });
}

std::tuple<Tensor, Tensor> affine_leaky_relu_cpu(const Tensor& x_any, const std::optional<Tensor>& scale_any,
                                                 const std::optional<Tensor>& shift_any, double slope, int64_t factor,
                                                 bool channels_last) {
  const Tensor x = laid_out(x_any, channels_last);
  check_factor(factor, x);
  check_bias(scale_any, x);
  check_bias(shift_any, x);
  const std::optional<Tensor> scale = contiguous(scale_any), shift = contiguous(shift_any);
  Tensor y = resized(x, factor, 1, channels_last);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return {y, bits};
  BIGAN_DISPATCH(x.scalar_type(), "affine_leaky_relu", [&] {
    using A = accumulate_t<scalar_t>;
    const Upsample up = upsample_of(x, factor, channels_last);
    auto* to = y.mutable_data_ptr<scalar_t>();
    run_forward<scalar_t>({x.const_data_ptr<scalar_t>(), data_or_null<A>(scale), data_or_null<A>(shift),
                           static_cast<A>(slope), up, to, up.length % 16 == 0 && worth_streaming(to, y.numel()),
                           bits.mutable_data_ptr<uint8_t>()});
  });
  return {y, bits};
}

template <typename T>
void run_backward(const BackwardCall& call, double slope) {
  using A = accumulate_t<T>;
  const bool write = call.dx.numel() != 0, sums = call.dshift.numel() != 0;
  const Backward<T> b{call.g.const_data_ptr<T>(),
                      call.bits.const_data_ptr<uint8_t>(),
                      call.bits.size(0),
                      data_or_null<T>(call.x),
                      data_or_null<A>(call.scale),
                      data_or_null<A>(call.x_scale),
                      data_or_null<A>(call.shift),
                      static_cast<A>(slope),
                      call.up,
                      write ? call.dx.mutable_data_ptr<T>() : nullptr};
  const auto kernel = chosen_kernels<T>().backward;
  const Chunks chunks(call.up);
  const int64_t channels = call.up.channels, stride = (call.x ? 2 : 1) * channels;
  Tensor partials = torch::stable::new_empty(call.g, {sums ? chunks.count * stride : 0}, accumulation_type(call.g));
  A* partial = sums ? partials.mutable_data_ptr<A>() : nullptr;
  torch::stable::parallel_for(0, chunks.count, 2, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      A* dshift = sums ? partial + k * stride : nullptr;
      if (sums) std::fill_n(dshift, stride, A(0));
      kernel(b, chunks[k], dshift, sums && call.x ? dshift + channels : nullptr);
    }
  });
  if (!sums) return;
  sum_chunks(partial, chunks.count, stride, channels, call.dshift.mutable_data_ptr<A>());
  if (call.x) sum_chunks(partial + channels, chunks.count, stride, channels, call.dscale.mutable_data_ptr<A>());
}

std::tuple<Tensor, Tensor, Tensor> affine_leaky_relu_backward_cpu(
    const Tensor& g, const Tensor& bits, const std::optional<Tensor>& x, const std::optional<Tensor>& scale,
    const std::optional<Tensor>& x_scale, const std::optional<Tensor>& shift, double slope, int64_t factor,
    bool channels_last, bool write, bool sums) {
  const BackwardCall call = prepare_backward(g, bits, x, scale, x_scale, shift, factor, channels_last, write, sums);
  if (g.numel() == 0) return call.outputs();
  BIGAN_DISPATCH(g.scalar_type(), "affine_leaky_relu_backward", [&] { run_backward<scalar_t>(call, slope); });
  return call.outputs();
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) {
  m.impl("affine_leaky_relu", TORCH_BOX(&bigan::affine_leaky_relu_cpu));
  m.impl("affine_leaky_relu_backward", TORCH_BOX(&bigan::affine_leaky_relu_backward_cpu));
}
