// The kernel bodies of the operators on samples for tests/ops/test_cuda_on_host.py.
#include <torch/headeronly/util/BFloat16.h>

#include "cuda_on_host.h"
//
#include "cuda/rows.cuh"

namespace {

using bigan::accumulate_t;
namespace cuda = bigan::cuda;

template <typename T>
void dot(const T* a, const T* b, int64_t samples, int64_t length, bool vector, accumulate_t<T>* out) {
  const int64_t pieces = cuda::row_pieces(length);
  std::vector<accumulate_t<T>> partial(samples * pieces);
  const auto kernel = vector ? &cuda::dot<true, T> : &cuda::dot<false, T>;
  launch(samples * pieces, [&] { kernel(a, b, length, partial.data()); });
  launch(cuda::sum_grid(samples, 1), [&] { cuda::sum_partials(partial.data(), pieces, 1, out); });
}

template <typename T>
void combine(const T* a, const accumulate_t<T>* alpha, const T* b, const accumulate_t<T>* beta, int64_t samples,
             int64_t length, bool vector, T* y) {
  const auto kernel = vector ? &cuda::combine<true, T> : &cuda::combine<false, T>;
  launch(cuda::elementwise_grid(samples * length), [&] { kernel(a, alpha, b, beta, samples, length, y); });
}

}  // namespace

#define EXPORT(name, T)                                                                                             \
  extern "C" void dot_##name(const T* a, const T* b, int64_t samples, int64_t length, bool vector,                  \
                             accumulate_t<T>* out) {                                                                \
    dot(a, b, samples, length, vector, out);                                                                        \
  }                                                                                                                 \
  extern "C" void combine_##name(const T* a, const accumulate_t<T>* alpha, const T* b, const accumulate_t<T>* beta, \
                                 int64_t samples, int64_t length, bool vector, T* y) {                              \
    combine(a, alpha, b, beta, samples, length, vector, y);                                                         \
  }
EXPORT(float32, float)
EXPORT(float64, double)
EXPORT(bfloat16, torch::headeronly::BFloat16)
