#include "capability.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace bigan {
namespace {

Capability offered() {
#if BIGAN_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (avx2) return avx512 ? Capability::kAvx512 : Capability::kAvx2;
#endif
  return Capability::kDefault;
}

Capability wanted() {
  const char* value = std::getenv("BIGAN_CPU_CAPABILITY");
  if (value == nullptr || *value == '\0') return Capability::kAvx512;
  for (const Capability c : {Capability::kDefault, Capability::kAvx2, Capability::kAvx512}) {
    if (name_of(c) == std::string(value)) return c;
  }
  throw std::invalid_argument("BIGAN_CPU_CAPABILITY must be default, avx2 or avx512, got " + std::string(value));
}

}  // namespace

Capability capability() {
  static const Capability chosen = std::min(offered(), wanted());
  return chosen;
}

const char* name_of(Capability capability) {
  switch (capability) {
    case Capability::kAvx2:
      return "avx2";
    case Capability::kAvx512:
      return "avx512";
    default:
      return "default";
  }
}

}  // namespace bigan
