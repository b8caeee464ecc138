// The kernel bodies of the operators on samples, [N, length]. Launches: rows_cuda.cu.
#pragma once

#include "device.cuh"

namespace bigan::cuda {

// Inner products, first stage. A block takes kRowPiece elements of one sample. b null: a. partial: [N, pieces].
constexpr int64_t kRowPiece = 4 * kThreads * 8;

inline int64_t row_pieces(int64_t length) { return ceil_div(length, kRowPiece); }

template <bool kVector, typename T>
__global__ void dot(const T* a, const T* b, int64_t length, accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  __shared__ A shared[kThreads];
  const int64_t pieces = ceil_div(length, kRowPiece);
  const int64_t n = blockIdx.x / pieces, piece = blockIdx.x % pieces;
  const int64_t end = (piece + 1) * kRowPiece < length ? (piece + 1) * kRowPiece : length;
  A sum = 0;
  for (int64_t i = piece * kRowPiece + threadIdx.x * 8; i < end; i += kThreads * 8) {
    A left[8], right[8];
    load8<kVector>(a + n * length + i, at_most_8(end - i), left);
    load8<kVector>((b == nullptr ? a : b) + n * length + i, at_most_8(end - i), right);
    for (int k = 0; k < 8; ++k) sum += left[k] * right[k];
  }
  shared[threadIdx.x] = sum;
  add_up(shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = shared[0];
}

// y = alpha * a + beta * b, eight elements a thread; alpha and beta null: 1; b null: the first term alone. y may be a
// or b.
template <bool kVector, typename T>
__global__ void combine(const T* a, const accumulate_t<T>* alpha, const T* b, const accumulate_t<T>* beta,
                        int64_t samples, int64_t length, T* y) {
  using A = accumulate_t<T>;
  const int64_t i = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * 8;
  if (i >= samples * length) return;
  const int n = at_most_8(samples * length - i);
  A sum[8];
  load8<kVector>(a + i, n, sum);
  int64_t row = i / length, left = (row + 1) * length - i;  // elements of this sample from i on
  A second[8];
  if (b != nullptr) load8<kVector>(b + i, n, second);
  for (int k = 0; k < n; ++k) {
    if (left == 0) {
      ++row;
      left = length;
    }
    --left;
    if (alpha != nullptr) sum[k] *= alpha[row];
    if (b != nullptr) sum[k] += beta == nullptr ? second[k] : beta[row] * second[k];
  }
  store8<kVector>(y + i, n, sum);
}

}  // namespace bigan::cuda
