// How a sum over everything but the channels is cut into chunks, and how their sums are added up.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

#include "../affine_leaky_relu.h"

namespace bigan {

// The lines [line0, line1) of the samples [sample0, sample1).
struct Chunk {
  int64_t sample0, sample1, line0, line1;
};

// A chunk is about 16384 elements, an L1 cache of work, and at most 512 lines, which bounds the length of an fp32 sum.
// The cut depends on the shape alone and the chunks' sums are added in order, so that no sum depends on the number of
// threads.
class Chunks {
 public:
  int64_t count;

  explicit Chunks(const Upsample& up)
      : up_(up), line_(up.length * (up.by_pixel ? 1 : up.channels)), lines_(std::min(up.lines, most(line_))) {
    pieces_ = ceil_div(up.lines, lines_);
    samples_ = pieces_ > 1 ? 1 : most(line_ * up.lines);
    count = ceil_div(up.samples, samples_) * pieces_;
  }

  Chunk operator[](int64_t k) const {
    const int64_t sample = k / pieces_ * samples_, line = k % pieces_ * lines_;
    return {sample, std::min(sample + samples_, up_.samples), line, std::min(line + lines_, up_.lines)};
  }

 private:
  static int64_t most(int64_t elements) { return std::clamp<int64_t>(16384 / elements, 1, 512); }

  Upsample up_;
  int64_t line_;  // elements of a line of all channels
  int64_t lines_, pieces_, samples_;
};

constexpr int64_t kChannelBlock = 64;

// Calls f(c0, c1) for blocks of at most kChannelBlock channels.
template <typename F>
void for_channel_blocks(int64_t channels, const F& f) {
  torch::stable::parallel_for(0, ceil_div(channels, kChannelBlock), 16, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      f(block * kChannelBlock, std::min((block + 1) * kChannelBlock, channels));
    }
  });
}

// out[c] = the sum of partial[k * stride + c] over k < count in order, in double.
template <typename A>
void sum_chunks(const A* partial, int64_t count, int64_t stride, int64_t channels, A* out) {
  for_channel_blocks(channels, [&](int64_t c0, int64_t c1) {
    double sum[kChannelBlock] = {};
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t c = c0; c < c1; ++c) sum[c - c0] += static_cast<double>(partial[k * stride + c]);
    }
    for (int64_t c = c0; c < c1; ++c) out[c] = static_cast<A>(sum[c - c0]);
  });
}

}  // namespace bigan
