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
  // y = leaky_relu(x * scale + shift), each pixel factor x factor times; bits = signs of x * scale + shift, as above.
  m.def(
      "affine_leaky_relu(Tensor x, Tensor? scale, Tensor? shift, float slope, int factor, bool channels_last) -> "
      "(Tensor y, Tensor bits)");
  // With gz = m * (g summed over each pixel's copies): dx = gz * scale + x * x_scale + shift if `write`; dshift and
  // dscale = sums of gz and of gz * x over all dimensions but 1 if `sums`; empty where not asked for.
  m.def(
      "affine_leaky_relu_backward(Tensor g, Tensor bits, Tensor? x, Tensor? scale, Tensor? x_scale, Tensor? shift, "
      "float slope, int factor, bool channels_last, bool write, bool sums) -> "
      "(Tensor dx, Tensor dshift, Tensor dscale)");
  // Mean and biased variance over all dimensions but 1: [C], [C].
  m.def("channel_moments(Tensor x, bool channels_last) -> (Tensor mean, Tensor var)");
  // Of each sample: a: [N, *], sums over all dimensions but the first.
  m.def("squared_norm(Tensor g) -> Tensor");
  m.def("row_dot(Tensor a, Tensor b) -> Tensor");
  // alpha[n] * a[n] + beta[n] * b[n]; no alpha or beta: 1; no b: the first term alone.
  m.def("row_combine(Tensor a, Tensor? alpha, Tensor? b, Tensor? beta) -> Tensor");
  m.def("row_combine_(Tensor(a!) out, Tensor a, Tensor? alpha, Tensor? b, Tensor? beta) -> ()");
}
