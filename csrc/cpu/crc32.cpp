#include "crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bigan {
namespace {

constexpr std::uint32_t kPolynomial = 0xEDB88320u;
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b]: what the byte b adds to the remainder when k more bytes follow it ("slicing by 8", Kounavis and Berry,
// 2005).
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ (rest & 1 ? kPolynomial : 0);
    tables[0][byte] = rest;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t rest = tables[k - 1][byte];
      tables[k][byte] = (rest >> 8) ^ tables[0][rest & 255];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

// The remainder after more bytes; neither it nor the result is inverted.
std::uint32_t by_tables(std::uint32_t rest, const unsigned char* data, std::size_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    std::uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    low ^= rest;
    rest = kTables[7][low & 255] ^ kTables[6][(low >> 8) & 255] ^ kTables[5][(low >> 16) & 255] ^
           kTables[4][low >> 24] ^ kTables[3][high & 255] ^ kTables[2][(high >> 8) & 255] ^
           kTables[1][(high >> 16) & 255] ^ kTables[0][high >> 24];
  }
  for (; size > 0; ++data, --size) rest = (rest >> 8) ^ kTables[0][(rest ^ *data) & 255];
  return rest;
}

#if defined(__x86_64__)

// x^n modulo the polynomial, reflected in 33 bits, as a carry-less product of two reflected words wants it.
constexpr std::uint64_t power(int n) {
  std::uint32_t rest = 0x80000000u;  // x^0
  for (int i = 0; i < n; ++i) rest = (rest >> 1) ^ (rest & 1 ? kPolynomial : 0);
  return static_cast<std::uint64_t>(rest) << 1;
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i fold(__m128i state, __m128i factors, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(state, factors, 0x00);
  const __m128i high = _mm_clmulepi64_si128(state, factors, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// Four words of 128 bits side by side, each folded over the 512 bits to its successor (Gopal et al., "Fast CRC
// Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009); what is left of them goes through the
// tables.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t by_products(const unsigned char* data, std::size_t size) {
  const auto load = [](const unsigned char* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
  constexpr std::uint64_t far_low = power(512 + 32), far_high = power(512 - 32);
  constexpr std::uint64_t near_low = power(128 + 32), near_high = power(128 - 32);
  const __m128i far = _mm_set_epi64x(static_cast<long long>(far_high), static_cast<long long>(far_low));
  const __m128i near = _mm_set_epi64x(static_cast<long long>(near_high), static_cast<long long>(near_low));
  __m128i a = _mm_xor_si128(load(data), _mm_cvtsi32_si128(-1));  // the remainder before the first byte: all ones
  __m128i b = load(data + 16), c = load(data + 32), d = load(data + 48);
  for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
    a = fold(a, far, load(data));
    b = fold(b, far, load(data + 16));
    c = fold(c, far, load(data + 32));
    d = fold(d, far, load(data + 48));
  }
  const __m128i word = fold(fold(fold(a, near, b), near, c), near, d);
  unsigned char left[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(left), word);
  return by_tables(by_tables(0, left, 16), data, size);
}

#endif

}  // namespace

std::uint32_t crc32(const unsigned char* data, std::size_t size) {
#if defined(__x86_64__)
  static const bool fast = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (fast && size >= 64) return ~by_products(data, size);
#endif
  return ~by_tables(~0u, data, size);
}

}  // namespace bigan
