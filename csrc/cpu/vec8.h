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
  Vec8 plus(Vec8 other) const {
    for (int k = 0; k < 8; ++k) other.lane[k] = lane[k] + other.lane[k];
    return other;
  }
  Vec8 times(Vec8 other) const {
    for (int k = 0; k < 8; ++k) other.lane[k] = lane[k] * other.lane[k];
    return other;
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
  Float8 plus(Float8 other) const { return {_mm256_add_ps(v, other.v)}; }
  Float8 times(Float8 other) const { return {_mm256_mul_ps(v, other.v)}; }
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
  Float8 plus(Float8 other) const { return {_mm256_add_ps(v, other.v)}; }
  Float8 times(Float8 other) const { return {_mm256_mul_ps(v, other.v)}; }
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
