// Sixteen fp32 elements in one AVX-512 register, with the interface of vec8.h and, lane by lane, the same bits: where
// 16-bit elements are rounded the arithmetic is what takes the time, and this is twice as much of it an instruction.
#pragma once

#include "vec8.h"

#if BIGAN_X86
namespace bigan {

BIGAN_TARGET_BEGIN(BIGAN_AVX512)
namespace avx512 {

inline __m256i load_halves(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m512 load16(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 load16(const Half* p) { return _mm512_cvtph_ps(load_halves(p)); }
inline __m512 load16(const BFloat16* p) {  // every half into the upper half of its lane: one instruction
  const __m512i upper = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 5, 0, 4, 0,
                                         3, 0, 2, 0, 1, 0, 0, 0);
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, upper, _mm512_castsi256_si512(load_halves(p))));
}

inline __m256i to_halves(Half*, __m512 v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
inline __m256i to_halves(BFloat16*, __m512 v) {  // as avx2::to_halves, in fewer instructions
  const __m512i u = _mm512_castps_si512(v);
  const __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(1 << 16));
  __m512i r = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
  r = _mm512_mask_add_epi32(r, odd, r, _mm512_set1_epi32(1));
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
  const __m512i upper = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23, 21, 19, 17,
                                         15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper, r));
}

inline void store16(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
template <typename T>
void store16(T* p, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_halves(p, v));
}

// Past the caches; p must be aligned to the sixteen elements.
inline void stream16(float* p, __m512 v) { _mm512_stream_ps(p, v); }
template <typename T>
void stream16(T* p, __m512 v) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_halves(p, v));
}

struct Float16 {
  static constexpr int kLanes = 16;
  using Bits = uint16_t;
  __m512 v;

  template <typename T>
  static Float16 load(const T* p) {
    return {load16(p)};
  }
  static Float16 fill(float a) { return {_mm512_set1_ps(a)}; }
  template <typename T>
  void store(T* p) const {
    store16(p, v);
  }
  template <typename T>
  void stream(T* p) const {
    stream16(p, v);
  }
  Float16 plus(Float16 other) const { return {_mm512_add_ps(v, other.v)}; }
  Float16 times(Float16 other) const { return {_mm512_mul_ps(v, other.v)}; }
  Float16 activated(Float16 slope, Bits& signs) const {
    const __mmask16 clear = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NGT_UQ);
    signs = static_cast<Bits>(~clear);
    return {_mm512_mask_mul_ps(v, clear, v, slope.v)};
  }
  Float16 masked_by(Bits bits, Float16 slope) const {
    return {_mm512_mask_mul_ps(v, static_cast<__mmask16>(~bits), v, slope.v)};
  }
};

}  // namespace avx512
BIGAN_TARGET_END

}  // namespace bigan
#endif  // BIGAN_X86
