// Eight elements in the accumulation type, for three instruction sets with one interface. Eight, because a byte of sign
// bits is then one vector. All three round alike, operation by operation, so that results are equal bit for bit.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>

#include "../bias_leaky_relu.h"
#include "capability.h"

#if BIGAN_X86
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12 of its own AVX-512 header
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

// BIGAN_UNROLL: the loop after it runs over vectors that are to stay in registers.
// BIGAN_TARGET: compile what lies between for more than the baseline; the callers are chosen at run time.
#define BIGAN_STRING(text) #text
#if defined(__clang__)
#define BIGAN_TARGET_BEGIN(features) \
  _Pragma(BIGAN_STRING(clang attribute push(__attribute__((target(features))), apply_to = function)))
#define BIGAN_TARGET_END _Pragma("clang attribute pop")
#define BIGAN_UNROLL _Pragma("unroll")
#else
#define BIGAN_TARGET_BEGIN(features) _Pragma("GCC push_options") _Pragma(BIGAN_STRING(GCC target(features)))
#define BIGAN_TARGET_END _Pragma("GCC pop_options")
#define BIGAN_UNROLL _Pragma("GCC unroll 16")
#endif
// For the body of a loop that is called a second time for what is left over, and for what takes such bodies: inlined,
// their captures are registers; otherwise memory, read again after every store of a vector.
#define BIGAN_INLINE __attribute__((always_inline))
#define BIGAN_AVX2 "avx2,f16c"
#define BIGAN_AVX512 "avx2,f16c,avx512f,avx512vl,avx512bw,avx512dq"

namespace bigan {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

namespace portable {

template <typename A>
struct Vec8 {
  static constexpr int kLanes = 8;
  using Bits = uint8_t;  // one a lane
  A lane[8];

  template <typename T>
  static Vec8 load(const T* p) {
    Vec8 r;
    for (int k = 0; k < 8; ++k) r.lane[k] = static_cast<A>(p[k]);
    return r;
  }
  static Vec8 fill(A a) {
    Vec8 r;
    for (int k = 0; k < 8; ++k) r.lane[k] = a;
    return r;
  }
  template <typename T>
  void store(T* p) const {
    for (int k = 0; k < 8; ++k) p[k] = static_cast<T>(lane[k]);
  }
  template <typename T>
  void stream(T* p) const {
    store(p);
  }
  // Two vectors side by side; kStream: past the caches, where p must be aligned to the sixteen elements.
  template <bool kStream, typename T>
  static void store_pair(Vec8 a, Vec8 b, T* p) {
    a.store(p);
    b.store(p + 8);
  }
  Vec8 plus(Vec8 other) const {
    for (int k = 0; k < 8; ++k) other.lane[k] = lane[k] + other.lane[k];
    return other;
  }
  Vec8 minus(Vec8 other) const {
    for (int k = 0; k < 8; ++k) other.lane[k] = lane[k] - other.lane[k];
    return other;
  }
  Vec8 times(Vec8 other) const {
    for (int k = 0; k < 8; ++k) other.lane[k] = lane[k] * other.lane[k];
    return other;
  }
  // Every lane twice: lanes 0 to 3 in low, 4 to 7 in high.
  void doubled(Vec8& low, Vec8& high) const {
    for (int k = 0; k < 8; ++k) (k < 4 ? low : high).lane[k % 4 * 2] = lane[k];
    for (int k = 0; k < 8; ++k) (k < 4 ? low : high).lane[k % 4 * 2 + 1] = lane[k];
  }
  // The opposite: sums of neighbours, those of low in lanes 0 to 3, those of high in 4 to 7.
  static Vec8 pair_sums(Vec8 low, Vec8 high) {
    Vec8 r;
    for (int k = 0; k < 8; ++k)
      r.lane[k] = (k < 4 ? low : high).lane[k % 4 * 2] + (k < 4 ? low : high).lane[k % 4 * 2 + 1];
    return r;
  }
  // Leaky ReLU of every lane; bit k of signs: lane k > 0.
  Vec8 activated(Vec8 slope, uint8_t& signs) const {
    unsigned bits = 0;
    for (int k = 0; k < 8; ++k) bits |= static_cast<unsigned>(positive(lane[k])) << k;
    signs = static_cast<uint8_t>(bits);
    return masked_by(signs, slope);
  }
  // masked() of every lane with its bit.
  Vec8 masked_by(uint8_t bits, Vec8 slope) const {
    Vec8 r;
    for (int k = 0; k < 8; ++k) r.lane[k] = masked(lane[k], (bits >> k & 1) != 0, slope.lane[k]);
    return r;
  }
};

}  // namespace portable

#if BIGAN_X86

BIGAN_TARGET_BEGIN(BIGAN_AVX2)
namespace avx2 {

inline __m128i load_halves(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

inline __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 load8(const Half* p) { return _mm256_cvtph_ps(load_halves(p)); }
inline __m256 load8(const BFloat16* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_halves(p)), 16));
}

inline __m128i to_halves(Half*, __m256 v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
inline __m128i to_halves(BFloat16*, __m256 v) {
  // To nearest even; a NaN becomes the quiet NaN 0x7fc0, as in c10. (AVX-512's own conversion flushes denormals.)
  const __m256i u = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7fc0), nan);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0xd8));
}

inline void store8(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
template <typename T>
void store8(T* p, __m256 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_halves(p, v));
}

// Past the caches; p must be aligned to the eight elements.
inline void stream8(float* p, __m256 v) { _mm256_stream_ps(p, v); }
template <typename T>
void stream8(T* p, __m256 v) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), to_halves(p, v));
}

template <bool kStream>
void store16(float* p, __m256 a, __m256 b) {
  kStream ? _mm256_stream_ps(p, a) : _mm256_storeu_ps(p, a);
  kStream ? _mm256_stream_ps(p + 8, b) : _mm256_storeu_ps(p + 8, b);
}
template <bool kStream, typename T>
void store16(T* p, __m256 a, __m256 b) {
  // One wide store: streamed in narrow ones, bf16 would take twice as long.
  const __m256i both = _mm256_set_m128i(to_halves(p, b), to_halves(p, a));
  auto* to = reinterpret_cast<__m256i*>(p);
  kStream ? _mm256_stream_si256(to, both) : _mm256_storeu_si256(to, both);
}

inline void doubled(__m256 v, __m256& low, __m256& high) {
  const __m256 left = _mm256_unpacklo_ps(v, v), right = _mm256_unpackhi_ps(v, v);
  low = _mm256_permute2f128_ps(left, right, 0x20);
  high = _mm256_permute2f128_ps(left, right, 0x31);
}

inline __m256 pair_sums(__m256 low, __m256 high) {
  const __m256 sums = _mm256_add_ps(_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xdd));
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sums), 0xd8));
}

struct Float8 {
  static constexpr int kLanes = 8;
  using Bits = uint8_t;
  __m256 v;

  template <typename T>
  static Float8 load(const T* p) {
    return {load8(p)};
  }
  static Float8 fill(float a) { return {_mm256_set1_ps(a)}; }
  template <typename T>
  void store(T* p) const {
    store8(p, v);
  }
  template <typename T>
  void stream(T* p) const {
    avx2::stream8(p, v);
  }
  template <bool kStream, typename T>
  static void store_pair(Float8 a, Float8 b, T* p) {
    avx2::store16<kStream>(p, a.v, b.v);
  }
  Float8 plus(Float8 other) const { return {_mm256_add_ps(v, other.v)}; }
  Float8 minus(Float8 other) const { return {_mm256_sub_ps(v, other.v)}; }
  Float8 times(Float8 other) const { return {_mm256_mul_ps(v, other.v)}; }
  void doubled(Float8& low, Float8& high) const { avx2::doubled(v, low.v, high.v); }
  static Float8 pair_sums(Float8 low, Float8 high) { return {avx2::pair_sums(low.v, high.v)}; }
  Float8 activated(Float8 slope, uint8_t& signs) const {
    const __m256 set = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ);
    signs = static_cast<uint8_t>(_mm256_movemask_ps(set));
    return {_mm256_blendv_ps(_mm256_mul_ps(v, slope.v), v, set)};
  }
  Float8 masked_by(uint8_t bits, Float8 slope) const {
    const __m256i one_bit_a_lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i picked = _mm256_and_si256(_mm256_set1_epi32(bits), one_bit_a_lane);
    const __m256 set = _mm256_castsi256_ps(_mm256_cmpeq_epi32(picked, one_bit_a_lane));
    return {_mm256_blendv_ps(_mm256_mul_ps(v, slope.v), v, set)};
  }
};

}  // namespace avx2
BIGAN_TARGET_END

BIGAN_TARGET_BEGIN(BIGAN_AVX512)
namespace avx512 {

// AVX-512VL on 256 bits: a byte of signs is a mask register. For twice as many lanes see vec16.h.
struct Float8 {
  static constexpr int kLanes = 8;
  using Bits = uint8_t;
  __m256 v;

  template <typename T>
  static Float8 load(const T* p) {
    return {avx2::load8(p)};
  }
  static Float8 fill(float a) { return {_mm256_set1_ps(a)}; }
  template <typename T>
  void store(T* p) const {
    avx2::store8(p, v);
  }
  template <typename T>
  void stream(T* p) const {
    avx2::stream8(p, v);
  }
  template <bool kStream, typename T>
  static void store_pair(Float8 a, Float8 b, T* p) {
    avx2::store16<kStream>(p, a.v, b.v);
  }
  Float8 plus(Float8 other) const { return {_mm256_add_ps(v, other.v)}; }
  Float8 minus(Float8 other) const { return {_mm256_sub_ps(v, other.v)}; }
  Float8 times(Float8 other) const { return {_mm256_mul_ps(v, other.v)}; }
  void doubled(Float8& low, Float8& high) const { avx2::doubled(v, low.v, high.v); }
  static Float8 pair_sums(Float8 low, Float8 high) { return {avx2::pair_sums(low.v, high.v)}; }
  Float8 activated(Float8 slope, uint8_t& signs) const {
    const __mmask8 clear = _mm256_cmp_ps_mask(v, _mm256_setzero_ps(), _CMP_NGT_UQ);
    signs = static_cast<uint8_t>(~clear);
    return {_mm256_mask_mul_ps(v, clear, v, slope.v)};
  }
  Float8 masked_by(uint8_t bits, Float8 slope) const {
    return {_mm256_mask_mul_ps(v, static_cast<__mmask8>(~bits), v, slope.v)};
  }
};

}  // namespace avx512
BIGAN_TARGET_END

#endif  // BIGAN_X86

// After streamed stores, before another thread may read them.
inline void stream_fence() {
#if BIGAN_X86
  _mm_sfence();
#endif
}

}  // namespace bigan
