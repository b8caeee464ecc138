// What the launches of every operator share.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <initializer_list>
#include <limits>

#include "../tensors.h"

namespace bigan::cuda {

inline cudaStream_t current_stream(const Tensor& x) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return true;
}

inline unsigned blocks(int64_t count) {
  STD_TORCH_CHECK(count <= std::numeric_limits<int>::max(), "bigan: tensor too large for one CUDA grid");
  return static_cast<unsigned>(count);
}

}  // namespace bigan::cuda
