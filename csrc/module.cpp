// bigan._C, seen from Python: the description of this build, and the reading of shards. The operators are not here;
// they are in torch.ops.bigan.
#include <pybind11/pybind11.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/version.h>

#include <string>

#include "cpu/capability.h"
#include "cpu/read_checked.h"

// setup.py says what it builds beside this library: empty without CUDA.
#ifndef BIGAN_CUDA_ARCHES
#define BIGAN_CUDA_ARCHES ""
#endif
#ifndef BIGAN_CUDA_COMPILER
#define BIGAN_CUDA_COMPILER ""
#endif

namespace {

std::string host_compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["torch"] = TORCH_VERSION;
  info["compiler"] = host_compiler();
  info["cuda_compiler"] = BIGAN_CUDA_COMPILER;
  info["cuda_arches"] = BIGAN_CUDA_ARCHES;
  info["cpu_capability"] = bigan::name_of(bigan::capability());
  info["threads"] = torch::stable::get_num_threads();
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled CPU operators of bigan, and the description of this build.";
  m.def("build_info", &build_info,
        "Return what this build is: the torch it was compiled against, the compilers, the CUDA architectures (empty:\n"
        "none), the instruction set chosen for this processor and the number of threads.");
  m.def("read_checked", &bigan::read_checked, pybind11::arg("descriptors"), pybind11::arg("members"),
        pybind11::arg("lengths"),
        "Read samples from open files, and check them, without the interpreter's lock.\n\n"
        "Of each sample: the file's descriptor; its members in the order in which they lie, a tuple of (offset, size, "
        "CRC-32)\n"
        "each; and the bytes from the first one's beginning to the last one's end. Returns a list of bytes, None where "
        "a\n"
        "sample cannot be read whole or a CRC-32 is another. ValueError for a sample without members or bytes.");
}
