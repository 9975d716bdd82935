#include "machine.h"

#include "core/memory.h"
#include "kernels/isa/machine.h"

namespace loopos::bind {
namespace {

constexpr double kLongest = 60;  // seconds

double duration(const char* function, const py::object& value) {
  const double seconds = scalar(function, "seconds", value);
  require(seconds > 0 && seconds <= kLongest, function, ": seconds must be above 0 and at most ", kLongest, ", got ",
          seconds);
  return seconds;
}

}  // namespace

void bind_machine(py::module_& m) {
  using py::arg;
  py::module_ machine = m.def_submodule("machine", "The limits of this machine, measured.");
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
}

}  // namespace loopos::bind
