// What a pass found, as dicts.
#pragma once

#include <pybind11/pybind11.h>

#include "trace/flags.h"
#include "trace/probe.h"

namespace loopos::bind {

namespace py = pybind11;

py::dict birth_to_dict(const Birth& birth);
/// Shares are of the elements that were looked at; min, max and rms are None where none is finite.
py::dict frame_to_dict(const Frame& frame);
py::dict raised_to_dict(const Raised& raised);
/// Calls tap(place, shape, first, elements), which must live as long, with each piece of each tensor.
Tap tap_to(const py::object& tap);

}  // namespace loopos::bind
