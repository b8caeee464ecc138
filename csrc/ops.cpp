// Every operator's schema. Kernels: cpu/ and cuda/. Derivatives, fakes and plain PyTorch twins: bigan/ops/.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(bigan, m) {
  // y = leaky_relu(x + bias); bits = signs of x + bias, 8 elements a byte in the memory order of y, lowest bit first.
  m.def("bias_leaky_relu(Tensor x, Tensor? bias, float slope, bool channels_last) -> (Tensor y, Tensor bits)");
  // The same with y written over x, which must lie as channels_last says.
  m.def("bias_leaky_relu_(Tensor(a!) x, Tensor? bias, float slope, bool channels_last) -> Tensor bits");
  // y = m * (g + rows[n, c]), m = 1 where the bit is set and slope elsewhere; sums[n, c] = sum of y over the pixels,
  // or empty. The first g.numel() bits are g's.
  m.def(
      "mask_multiply(Tensor g, Tensor? rows, Tensor bits, float slope, bool channels_last, bool sums) -> "
      "(Tensor y, Tensor sums)");
  // Of each sample: a: [N, *], sums over all dimensions but the first.
  m.def("squared_norm(Tensor g) -> Tensor");
  m.def("row_dot(Tensor a, Tensor b) -> Tensor");
  // alpha[n] * a[n] + beta[n] * b[n]; no alpha or beta: 1; no b: the first term alone.
  m.def("row_combine(Tensor a, Tensor? alpha, Tensor? b, Tensor? beta) -> Tensor");
  m.def("row_combine_(Tensor(a!) out, Tensor a, Tensor? alpha, Tensor? b, Tensor? beta) -> ()");
}
