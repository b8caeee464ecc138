// Reading the samples of a batch from their shards without the interpreter's lock.
#pragma once

#include <pybind11/pybind11.h>

namespace bigan {

pybind11::list read_checked(const pybind11::list& descriptors, const pybind11::list& members,
                            const pybind11::list& lengths);

}  // namespace bigan
