#include "findings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cfenv>
#include <cmath>
#include <vector>

namespace loopos::bind {
namespace {

template <class X>
py::dict place_to_dict(const X& x) {
  py::dict d;
  d["phase"] = x.phase;
  d["layer"] = x.layer < 0 ? py::object(py::none()) : py::object(py::int_(x.layer));
  d["op"] = x.op;
  d["tensor"] = x.tensor;
  return d;
}

py::tuple shape_to_tuple(const Extents& shape) {
  return py::tuple(
      py::cast(std::vector<Index>(shape.n.begin(), shape.n.begin() + static_cast<std::ptrdiff_t>(shape.rank))));
}

py::tuple flag_names(int raised) {
  py::list names;
  for (const auto& [flag, name] :
       {std::pair{FE_INVALID, "invalid"}, {FE_DIVBYZERO, "divide"}, {FE_OVERFLOW, "overflow"}})
    if (raised & flag) names.append(name);
  return py::tuple(names);
}

}  // namespace

py::dict birth_to_dict(const Birth& birth) {
  py::dict d = place_to_dict(birth), operands;
  d["index"] = py::tuple(py::cast(birth.index));
  d["value"] = birth.value;
  for (const auto& [name, value] : birth.numbers) operands[name] = value;
  for (const auto& [name, values] : birth.vectors)
    operands[name] = py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
  d["operands"] = operands;
  return d;
}

py::dict frame_to_dict(const Frame& frame) {
  py::dict d = place_to_dict(frame);
  const Index finite = frame.seen - frame.nonfinite;
  const auto number = [&](double value) { return finite ? py::object(py::float_(value)) : py::object(py::none()); };
  const auto share = [&](Index n) {
    return frame.seen ? static_cast<double>(n) / static_cast<double>(frame.seen) : 0.0;
  };
  d["shape"] = shape_to_tuple(frame.shape);
  d["min"] = number(frame.min);
  d["max"] = number(frame.max);
  d["rms"] =
      number(static_cast<double>(std::sqrt(frame.squares / static_cast<long double>(std::max<Index>(1, finite)))));
  d["zeros"] = share(frame.zeros);
  d["nonfinite"] = share(frame.nonfinite);
  d["flags"] = flag_names(frame.flags);
  if (frame.eps_rows >= 0) d["eps_rows"] = frame.eps_rows;
  return d;
}

py::dict raised_to_dict(const Raised& raised) {
  py::dict d = place_to_dict(raised);
  d["flags"] = flag_names(raised.flags);
  d["finite"] = raised.finite;
  return d;
}

Tap tap_to(const py::object& tap) {
  return [&tap](const Frame& frame, const void* elements, bool is_double, Index first, Index count) {
    const py::gil_scoped_acquire locked;
    const auto copy = [&](auto type) -> py::array {
      return py::array_t<decltype(type)>(static_cast<py::ssize_t>(count), static_cast<const decltype(type)*>(elements));
    };
    tap(place_to_dict(frame), shape_to_tuple(frame.shape), first, is_double ? copy(double{}) : copy(float{}));
  };
}

}  // namespace loopos::bind
