// The kernel bodies of bias_leaky_relu and mask_multiply for tests/ops/test_cuda_on_host.py.
#include <torch/headeronly/util/BFloat16.h>

#include "cuda_on_host.h"
//
#include "cuda/bias_leaky_relu.cuh"
#include "cuda/mask_multiply.cuh"

namespace {

using bigan::accumulate_t;
using bigan::Extent;
namespace cuda = bigan::cuda;

template <bool kVector, typename T>
void forward(const T* x, const accumulate_t<T>* bias, Extent e, double slope, T* y, uint8_t* bits) {
  launch(cuda::elementwise_grid(e.numel()),
         [&] { cuda::forward<kVector>(x, bias, static_cast<accumulate_t<T>>(slope), e, y, bits); });
}

template <bool kVector, typename T>
void multiply(const T* g, const accumulate_t<T>* rows, const uint8_t* bits, int64_t samples, Extent sample,
              double slope, T* y, T* y_summed, accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  const A factor = static_cast<A>(slope);
  launch(cuda::elementwise_grid(samples * sample.numel()),
         [&] { cuda::multiply<kVector>(g, rows, bits, factor, samples, sample, y); });
  const int64_t count = cuda::partial_count(sample);
  std::vector<A> partial(samples * count * sample.channels, A(-1e30));
  const bool align = kVector && cuda::sums_align(sample);
  const auto kernel =
      sample.inner == 1 ? (align ? cuda::multiply_and_sum_pixels<kVector, T> : cuda::multiply_and_sum_pixels<false, T>)
                        : (align ? cuda::multiply_and_sum_planes<kVector, T> : cuda::multiply_and_sum_planes<false, T>);
  launch(samples * cuda::multiply_and_sum_grid(sample),
         [&] { kernel(g, rows, bits, factor, samples, sample, y_summed, partial.data()); });
  launch(cuda::sum_grid(samples, sample.channels),
         [&] { cuda::sum_partials(partial.data(), count, sample.channels, sums); });
}

}  // namespace

#define EXPORT(name, T)                                                                                            \
  extern "C" void forward_##name(const T* x, const accumulate_t<T>* bias, int64_t outer, int64_t channels,         \
                                 int64_t inner, double slope, bool vector, T* y, uint8_t* bits) {                  \
    vector ? forward<true>(x, bias, {outer, channels, inner}, slope, y, bits)                                      \
           : forward<false>(x, bias, {outer, channels, inner}, slope, y, bits);                                    \
  }                                                                                                                \
  extern "C" void multiply_##name(const T* g, const accumulate_t<T>* rows, const uint8_t* bits, int64_t samples,   \
                                  int64_t outer, int64_t channels, int64_t inner, double slope, bool vector, T* y, \
                                  T* y_summed, accumulate_t<T>* sums) {                                            \
    vector ? multiply<true>(g, rows, bits, samples, {outer, channels, inner}, slope, y, y_summed, sums)            \
           : multiply<false>(g, rows, bits, samples, {outer, channels, inner}, slope, y, y_summed, sums);          \
  }
EXPORT(float32, float)
EXPORT(float64, double)
EXPORT(bfloat16, torch::headeronly::BFloat16)
