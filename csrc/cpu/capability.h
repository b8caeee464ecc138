// Which instruction set the CPU kernels use in this process.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define BIGAN_X86 1
#else
#define BIGAN_X86 0
#endif

namespace bigan {

enum class Capability { kDefault, kAvx2, kAvx512 };

// What the processor offers, lowered by BIGAN_CPU_CAPABILITY=default|avx2|avx512; decided at the first call.
// Throws std::invalid_argument for another value.
Capability capability();

const char* name_of(Capability capability);

}  // namespace bigan
