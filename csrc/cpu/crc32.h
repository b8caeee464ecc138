// CRC-32 as zip, PNG and zlib have it: the reflected polynomial 0xEDB88320, all bits inverted before and after.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bigan {

std::uint32_t crc32(const unsigned char* data, std::size_t size);

}  // namespace bigan
