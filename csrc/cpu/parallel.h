// How the CPU kernels divide their work and where they write it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bigan {

// Tasks of so many elements that waking a thread is worth it.
inline int64_t grain(int64_t elements_a_task) {
  constexpr int64_t kElements = 32768;
  return std::max<int64_t>(1, kElements / elements_a_task);
}

// Whether n elements written to y have left the caches before the first is read again, so that they may as well go past
// them: stores that read no line first. 16 MiB is half of what a core can hope to have of a last-level cache.
template <typename T>
bool worth_streaming(const T* y, int64_t n) {
  constexpr int64_t kBytes = 16 << 20;
  return n * static_cast<int64_t>(sizeof(T)) >= kBytes && reinterpret_cast<uintptr_t>(y) % 64 == 0;
}

}  // namespace bigan
