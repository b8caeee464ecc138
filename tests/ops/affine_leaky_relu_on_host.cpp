// The kernel bodies of affine_leaky_relu, its backward and channel_moments for tests/ops/test_cuda_on_host.py.
#include <torch/headeronly/util/BFloat16.h>

#include "cuda_on_host.h"
//
#include "cuda/affine_leaky_relu.cuh"
#include "cuda/channel_moments.cuh"

namespace {

using bigan::accumulate_t;
using bigan::Upsample;
namespace cuda = bigan::cuda;

template <typename T>
void forward(const T* x, const accumulate_t<T>* scale, const accumulate_t<T>* shift, const Upsample& up, double slope,
             bool vector, T* y, uint8_t* bits) {
  const auto kernel =
      vector && cuda::forward_aligns(up) ? cuda::affine_forward<true, T> : cuda::affine_forward<false, T>;
  launch(cuda::elementwise_grid(up.numel()),
         [&] { kernel(x, scale, shift, static_cast<accumulate_t<T>>(slope), up, y, bits); });
}

template <typename T>
void backward(const cuda::AffineBackward<T>& b, bool vector, accumulate_t<T>* dshift, accumulate_t<T>* dscale) {
  using A = accumulate_t<T>;
  vector = vector && cuda::backward_aligns(b.up);
  const auto kernel = b.up.by_pixel
                          ? (vector ? cuda::affine_backward_pixels<true, T> : cuda::affine_backward_pixels<false, T>)
                          : (vector ? cuda::affine_backward_lines<true, T> : cuda::affine_backward_lines<false, T>);
  const int64_t count = cuda::backward_partials(b.up), channels = b.up.channels;
  std::vector<A> partial(2 * count * channels, A(-1e30));
  A* second = dscale == nullptr ? nullptr : partial.data() + count * channels;
  launch(cuda::backward_grid(b.up), [&] { kernel(b, partial.data(), second); });
  launch(cuda::sum_grid(1, channels), [&] { cuda::sum_partials(partial.data(), count, channels, dshift); });
  if (dscale == nullptr) return;
  launch(cuda::sum_grid(1, channels), [&] { cuda::sum_partials<A>(second, count, channels, dscale); });
}

template <typename T>
void moments(const T* x, const Upsample& up, bool vector, accumulate_t<T>* mean, accumulate_t<T>* var) {
  using A = accumulate_t<T>;
  vector = vector && cuda::moments_align(up);
  const auto kernel = up.by_pixel ? (vector ? cuda::moments_of_pixels<true, T> : cuda::moments_of_pixels<false, T>)
                                  : (vector ? cuda::moments_of_lines<true, T> : cuda::moments_of_lines<false, T>);
  const int64_t count = cuda::moment_count(up);
  std::vector<A> partial(2 * count * up.channels, A(-1e30));
  A *means = partial.data(), *m2s = means + count * up.channels;
  launch(cuda::moment_grid(up), [&] { kernel(x, up, means, m2s); });
  launch(bigan::ceil_div(up.channels, cuda::kThreads),
         [&] { cuda::combine_moments<A>(means, m2s, count, up, mean, var); });
}

}  // namespace

#define EXPORT(name, T)                                                                                               \
  extern "C" void forward_##name(const T* x, const accumulate_t<T>* scale, const accumulate_t<T>* shift,              \
                                 int64_t samples, int64_t channels, int64_t lines, int64_t length, bool by_pixel,     \
                                 int64_t factor, int64_t width, double slope, bool vector, T* y, uint8_t* bits) {     \
    forward<T>(x, scale, shift, {samples, channels, lines, length, by_pixel, factor, width}, slope, vector, y, bits); \
  }                                                                                                                   \
  extern "C" void moments_##name(const T* x, int64_t samples, int64_t channels, int64_t lines, int64_t length,        \
                                 bool by_pixel, int64_t factor, int64_t width, bool vector, accumulate_t<T>* mean,    \
                                 accumulate_t<T>* var) {                                                              \
    moments<T>(x, {samples, channels, lines, length, by_pixel, factor, width}, vector, mean, var);                    \
  }                                                                                                                   \
  extern "C" void backward_##name(const T* g, const uint8_t* bits, const T* x, const accumulate_t<T>* scale,          \
                                  const accumulate_t<T>* x_scale, const accumulate_t<T>* shift, int64_t samples,      \
                                  int64_t channels, int64_t lines, int64_t length, bool by_pixel, int64_t factor,     \
                                  int64_t width, double slope, bool vector, T* dx, accumulate_t<T>* dshift,           \
                                  accumulate_t<T>* dscale) {                                                          \
    const Upsample up{samples, channels, lines, length, by_pixel, factor, width};                                     \
    backward<T>(                                                                                                      \
        {g, bits, (up.numel() + 7) / 8, x, scale, x_scale, shift, static_cast<accumulate_t<T>>(slope), up, dx},       \
        vector, dshift, dscale);                                                                                      \
  }
EXPORT(float32, float)
EXPORT(float64, double)
EXPORT(bfloat16, torch::headeronly::BFloat16)
