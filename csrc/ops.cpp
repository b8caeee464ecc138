// Every operator's schema. Kernels: cpu/ and cuda/. Derivatives, fakes and plain PyTorch twins: bigan/ops/.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(bigan, m) {
  // y = leaky_relu(x + bias); bits = signs of x + bias, 8 elements a byte in the memory order of y, lowest bit first.
  m.def("bias_leaky_relu(Tensor x, Tensor? bias, float slope, bool channels_last) -> (Tensor y, Tensor bits)");
  // dx = g * m, m = 1 where the bit is set and slope elsewhere; db = sum of dx over all dimensions but 1, or empty.
  m.def(
      "mask_multiply(Tensor g, Tensor bits, float slope, bool channels_last, bool sum_bias) -> (Tensor dx, Tensor db)");
}
