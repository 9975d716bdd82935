// bfloat16 on the wire between processes.
#include "rounding.h"

#include "core/rounding.h"

namespace loopos::bind {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Halves = py::array_t<std::uint16_t, py::array::c_style>;

void same_size(const char* function, py::ssize_t a, py::ssize_t b) {
  require(a == b, function, ": the arrays must have as many numbers, got ", a, " and ", b);
}

void from_halves(const Halves& x, Floats out) {
  same_size("from_bfloat16", x.size(), out.size());
  float* to = out.mutable_data();
  const Computing computing;
  from_bfloat16(x.data(), x.size(), to);
}

bool round_owed(const Floats& x, Floats owed, Halves out) {
  same_size("round_with_owed", x.size(), owed.size());
  same_size("round_with_owed", x.size(), out.size());
  float* left = owed.mutable_data();
  std::uint16_t* to = out.mutable_data();
  const Computing computing;
  return round_with_owed(x.data(), x.size(), left, to);
}

}  // namespace

void bind_rounding(py::module_& m) {
  m.def("round_with_owed", &round_owed, py::arg("x").noconvert(), py::arg("owed").noconvert(),
        py::arg("out").noconvert(),
        "Writes the bits of x + owed (float32) as bfloat16, rounded to the nearest, ties to even, and leaves in `owed` "
        "what that took away. Returns whether all of it is finite.");
  m.def("from_bfloat16", &from_halves, py::arg("x").noconvert(), py::arg("out").noconvert(), "float32 of such bits.");
}

}  // namespace loopos::bind
