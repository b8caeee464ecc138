#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/headeronly/core/Dispatch_v2.h>

#include <initializer_list>
#include <limits>
#include <tuple>

#include "../tensors.h"
#include "bias_leaky_relu.cuh"

namespace bigan::cuda {
namespace {

#define BIGAN_DISPATCH(type, name, ...)                                                                      \
  THO_DISPATCH_V2(type, name, AT_WRAP(__VA_ARGS__), ScalarType::Float, ScalarType::Double, ScalarType::Half, \
                  ScalarType::BFloat16)

cudaStream_t current_stream(const Tensor& x) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return true;
}

unsigned blocks(int64_t count) {
  STD_TORCH_CHECK(count <= std::numeric_limits<int>::max(), "bigan: tensor too large for one CUDA grid");
  return static_cast<unsigned>(count);
}

template <typename T>
void launch_forward(const T* x, const accumulate_t<T>* bias, double slope, Extent e, T* y, uint8_t* bits,
                    cudaStream_t stream) {
  const auto factor = static_cast<accumulate_t<T>>(slope);
  const unsigned grid = blocks(elementwise_grid(e.numel()));
  if (aligned({x, y})) {
    forward<true><<<grid, kThreads, 0, stream>>>(x, bias, factor, e, y, bits);
  } else {
    forward<false><<<grid, kThreads, 0, stream>>>(x, bias, factor, e, y, bits);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
void launch_multiply(const T* g, const uint8_t* bits, double slope, int64_t numel, T* dx, cudaStream_t stream) {
  const auto factor = static_cast<accumulate_t<T>>(slope);
  const unsigned grid = blocks(elementwise_grid(numel));
  if (aligned({g, dx})) {
    multiply<true><<<grid, kThreads, 0, stream>>>(g, bits, factor, numel, dx);
  } else {
    multiply<false><<<grid, kThreads, 0, stream>>>(g, bits, factor, numel, dx);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename T>
void launch_multiply_and_sum(const T* g, const uint8_t* bits, double slope, Extent e, T* dx, accumulate_t<T>* partial,
                             accumulate_t<T>* db, cudaStream_t stream) {
  const auto factor = static_cast<accumulate_t<T>>(slope);
  const bool pointers = aligned({g, dx});
  if (e.inner == 1) {
    const unsigned grid = blocks(rows_grid(e));
    if (pointers && rows_align(e)) {
      multiply_and_sum_rows<true><<<grid, kThreads, 0, stream>>>(g, bits, factor, e, dx, partial);
    } else {
      multiply_and_sum_rows<false><<<grid, kThreads, 0, stream>>>(g, bits, factor, e, dx, partial);
    }
  } else {
    const unsigned grid = blocks(planes_grid(e));
    if (pointers && planes_align(e)) {
      multiply_and_sum_planes<true><<<grid, kThreads, 0, stream>>>(g, bits, factor, e, dx, partial);
    } else {
      multiply_and_sum_planes<false><<<grid, kThreads, 0, stream>>>(g, bits, factor, e, dx, partial);
    }
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  sum_partials<<<blocks(sum_grid(e)), kThreads, 0, stream>>>(partial, partial_count(e), e.channels, db);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor> bias_leaky_relu_cuda(const Tensor& x_any, const std::optional<Tensor>& bias_any,
                                                double slope, bool channels_last) {
  const torch::stable::accelerator::DeviceGuard guard(x_any.get_device_index());
  const Tensor x = laid_out(x_any, channels_last);
  check_bias(bias_any, x);
  const std::optional<Tensor> bias = bias_any ? std::optional(torch::stable::contiguous(*bias_any)) : std::nullopt;
  Tensor y = torch::stable::empty_like(x);
  Tensor bits = torch::stable::new_empty(x, {bytes_of_bits(x)}, ScalarType::Byte);
  if (x.numel() == 0) return {y, bits};
  BIGAN_DISPATCH(x.scalar_type(), "bias_leaky_relu", [&] {
    using A = accumulate_t<scalar_t>;
    launch_forward(x.const_data_ptr<scalar_t>(), bias ? bias->const_data_ptr<A>() : nullptr, slope,
                   extent_of(x, channels_last), y.mutable_data_ptr<scalar_t>(), bits.mutable_data_ptr<uint8_t>(),
                   current_stream(x));
  });
  return {y, bits};
}

std::tuple<Tensor, Tensor> mask_multiply_cuda(const Tensor& g_any, const Tensor& bits, double slope, bool channels_last,
                                              bool sum_bias) {
  const torch::stable::accelerator::DeviceGuard guard(g_any.get_device_index());
  const Tensor g = laid_out(g_any, channels_last);
  check_bits(bits, g);
  Tensor dx = torch::stable::empty_like(g);
  Tensor db = empty_sums(g, sum_bias);
  if (g.numel() == 0) return {dx, db};
  const Extent e = extent_of(g, channels_last);
  BIGAN_DISPATCH(g.scalar_type(), "mask_multiply", [&] {
    using A = accumulate_t<scalar_t>;
    const auto* from = g.const_data_ptr<scalar_t>();
    const auto* signs = bits.const_data_ptr<uint8_t>();
    auto* to = dx.mutable_data_ptr<scalar_t>();
    if (!sum_bias) {
      launch_multiply(from, signs, slope, e.numel(), to, current_stream(g));
      return;
    }
    Tensor partial = torch::stable::new_empty(g, {partial_count(e), e.channels}, accumulation_type(g));
    launch_multiply_and_sum(from, signs, slope, e, to, partial.mutable_data_ptr<A>(), db.mutable_data_ptr<A>(),
                            current_stream(g));
  });
  return {dx, db};
}

}  // namespace
}  // namespace bigan::cuda

STABLE_TORCH_LIBRARY_IMPL(bigan, CUDA, m) {
  m.impl("bias_leaky_relu", TORCH_BOX(&bigan::cuda::bias_leaky_relu_cuda));
  m.impl("mask_multiply", TORCH_BOX(&bigan::cuda::mask_multiply_cuda));
}
