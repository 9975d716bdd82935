#include "machine.h"

#include "core/memory.h"
#include "kernels/isa/machine.h"
#include "ops.h"
#include "ops/linear.h"

namespace loopos::bind {
namespace {

constexpr double kLongest = 60;  // seconds

double duration(const char* function, const py::object& value) {
  const double seconds = scalar(function, "seconds", value);
  require(seconds > 0 && seconds <= kLongest, function, ": seconds must be above 0 and at most ", kLongest, ", got ",
          seconds);
  return seconds;
}

/// Of linear, alone: linear_backward of the operations gives dx with it.
py::object weight_gradient(const py::object& dy_in, const py::object& x_in, const std::string& precision_name) {
  const char* f = "weight_gradient";
  const Precision precision = precision_from(f, precision_name);
  const auto dy = input<float>(f, "dy", dy_in, 2), x = input<float>(f, "x", x_in, 2);
  require(dy.shape[0] == x.shape[0], f, ": dy (N, O) and x (N, I) must have as many rows, got ", text(dy.shape),
          " and ", text(x.shape));
  auto dweight = output<float>(Shape{dy.last(), x.last()});
  float* out = dweight.mutable_data();
  const Computing computing;
  linear_weight_gradient(dy.data, x.data, x.shape[0], x.last(), dy.last(), false, out, precision);
  return std::move(dweight);
}

}  // namespace

void bind_machine(py::module_& m) {
  using py::arg;
  py::module_ machine = m.def_submodule(
      "machine", "What the benchmarks need: the limits of this machine, measured, and a part of an operation.");
  machine.def(
      "multiply_add_rate",
      [](const py::object& seconds) {
        const double length = duration("multiply_add_rate", seconds);
        const Computing computing;
        return kernels::multiply_add_rate(length);
      },
      arg("seconds"),
      "Float32 additions and multiplications per second of multiply-adds in registers, on all threads in use, measured "
      "over about so many seconds (above 0, at most 60).");
  machine.def(
      "memory_rate",
      [](const py::object& numbers, const py::object& seconds) {
        const Index n = whole("memory_rate", "numbers", numbers);
        const double length = duration("memory_rate", seconds);
        require(n >= 1, "memory_rate: numbers must be at least 1, got ", n);
        require_memory("memory_rate: three arrays", 12.0 * static_cast<double>(n));
        const Computing computing;
        return kernels::memory_rate(n, length);
      },
      arg("numbers"), arg("seconds"),
      "Bytes per second of y = a + b over arrays of so many float32 numbers, on all threads in use: 12 bytes counted "
      "for each number. MemoryError when three such arrays cannot be had.");
  machine.def("weight_gradient", &weight_gradient, arg("dy"), arg("x"), py::kw_only(), arg("precision") = "float32",
              "dweight = dy^T x of a linear layer, without its dx. dy: (N, O); x: (N, I), float32. precision: as of "
              "ops.linear. Returns (O, I).");
}

}  // namespace loopos::bind
