#include "read_checked.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "crc32.h"

namespace py = pybind11;

namespace bigan {
namespace {

struct Member {
  std::int64_t offset, size;
  std::uint32_t crc;
};

struct Sample {
  int descriptor;
  std::size_t length;
  unsigned char* content;   // of a bytes object that nobody else has yet
  std::size_t first, last;  // its members
  bool whole;
};

bool read_whole(const Sample& sample, std::int64_t offset) {
  std::size_t done = 0;
  while (done < sample.length) {
    const ssize_t count = ::pread(sample.descriptor, sample.content + done, sample.length - done, offset + done);
    if (count > 0)
      done += static_cast<std::size_t>(count);
    else if (count == 0 || errno != EINTR)
      return false;
  }
  return true;
}

bool is_whole(const Sample& sample, const std::vector<Member>& members) {
  const std::int64_t start = members[sample.first].offset;
  if (!read_whole(sample, start)) return false;
  for (std::size_t i = sample.first; i < sample.last; ++i) {
    const Member& member = members[i];
    const std::int64_t at = member.offset - start;
    if (at < 0 || member.size < 0 || at + member.size > static_cast<std::int64_t>(sample.length)) return false;
    if (crc32(sample.content + at, static_cast<std::size_t>(member.size)) != member.crc) return false;
  }
  return true;
}

}  // namespace

py::list read_checked(const py::list& descriptors, const py::list& members, const py::list& lengths) {
  const std::size_t count = descriptors.size();
  if (members.size() != count || lengths.size() != count) throw py::value_error("lists of different lengths");
  std::vector<Sample> samples;
  std::vector<Member> all;
  std::vector<py::object> contents;
  samples.reserve(count);
  contents.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto length = lengths[i].cast<Py_ssize_t>();
    const std::size_t first = all.size();
    for (const py::handle row : members[i].cast<py::tuple>()) {
      const auto span = row.cast<py::tuple>();
      all.push_back({span[0].cast<std::int64_t>(), span[1].cast<std::int64_t>(), span[2].cast<std::uint32_t>()});
    }
    if (length <= 0 || all.size() == first) throw py::value_error("a sample without bytes");
    contents.push_back(py::reinterpret_steal<py::object>(PyBytes_FromStringAndSize(nullptr, length)));
    if (!contents.back()) throw py::error_already_set();
    auto* content = reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(contents.back().ptr()));
    samples.push_back(
        {descriptors[i].cast<int>(), static_cast<std::size_t>(length), content, first, all.size(), false});
  }
  {
    const py::gil_scoped_release unlocked;
    for (Sample& sample : samples) sample.whole = is_whole(sample, all);
  }
  py::list found;
  for (std::size_t i = 0; i < count; ++i) found.append(samples[i].whole ? contents[i] : py::none());
  return found;
}

}  // namespace bigan
