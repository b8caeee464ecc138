#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../upsample_tensors.h"
#include "capability.h"
#include "chunks.h"
#include "vec16.h"

namespace bigan {
namespace {

template <typename T>
struct Kernels {
  // out: [3, C]: the chunk's means, its sums of squared differences from them, and scratch.
  void (*moments)(const T* x, const Upsample& up, const Chunk& chunk, accumulate_t<T>* out);
};

int64_t count_of(const Chunk& chunk, const Upsample& up) {
  return (chunk.sample1 - chunk.sample0) * (chunk.line1 - chunk.line0) * (up.by_pixel ? 1 : up.length);
}

#define BIGAN_KERNELS "channel_moments_kernels.inc"
#include "for_each_isa.inc"

// The moments of all chunks together (Chan et al., 1983), in order and in double.
template <typename A>
void combine(const A* partial, const Chunks& chunks, const Upsample& up, A* mean, A* var) {
  const int64_t stride = 3 * up.channels;
  for_channel_blocks(up.channels, [&](int64_t c0, int64_t c1) {
    const int64_t n = c1 - c0;
    double total = 0, means[kChannelBlock] = {}, squares[kChannelBlock] = {};
    for (int64_t k = 0; k < chunks.count; ++k) {
      const double count = static_cast<double>(count_of(chunks[k], up));
      total += count;
      for (int64_t c = 0; c < n; ++c) means[c] += count * static_cast<double>(partial[k * stride + c0 + c]);
    }
    for (int64_t c = 0; c < n; ++c) means[c] /= total;
    for (int64_t k = 0; k < chunks.count; ++k) {
      const double count = static_cast<double>(count_of(chunks[k], up));
      for (int64_t c = 0; c < n; ++c) {
        const double d = static_cast<double>(partial[k * stride + c0 + c]) - means[c];
        squares[c] += static_cast<double>(partial[k * stride + up.channels + c0 + c]) + count * d * d;
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      mean[c0 + c] = static_cast<A>(means[c]);
      var[c0 + c] = static_cast<A>(squares[c] / total);
    }
  });
}

template <typename T>
void run(const Tensor& x, bool channels_last, Tensor& mean, Tensor& var) {
  using A = accumulate_t<T>;
  const Upsample up = upsample_of(x, 1, channels_last);
  const Chunks chunks(up);
  Tensor partials = torch::stable::new_empty(x, {chunks.count, 3, up.channels}, accumulation_type(x));
  A* partial = partials.mutable_data_ptr<A>();
  const T* from = x.const_data_ptr<T>();
  const auto kernel = chosen_kernels<T>().moments;
  torch::stable::parallel_for(0, chunks.count, 2, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) kernel(from, up, chunks[k], partial + k * 3 * up.channels);
  });
  combine(partial, chunks, up, mean.mutable_data_ptr<A>(), var.mutable_data_ptr<A>());
}

std::tuple<Tensor, Tensor> channel_moments_cpu(const Tensor& x_any, bool channels_last) {
  const Tensor x = laid_out(x_any, channels_last);
  auto [mean, var] = empty_moments(x);
  if (x.numel() == 0) return {mean, var};
  BIGAN_DISPATCH(x.scalar_type(), "channel_moments", [&] { run<scalar_t>(x, channels_last, mean, var); });
  return {mean, var};
}

}  // namespace
}  // namespace bigan

STABLE_TORCH_LIBRARY_IMPL(bigan, CPU, m) { m.impl("channel_moments", TORCH_BOX(&bigan::channel_moments_cpu)); }
