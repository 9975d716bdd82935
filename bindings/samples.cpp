// What the monitor of a run sees of its weights.
#include "samples.h"

#include <cmath>

#include "trace/samples.h"

namespace loopos::bind {
namespace {

/// Calls body(sample, its place in `numbers`) for each of 1-D arrays, evenly spaced, of one float type.
template <class Body>
void each_sample(const char* function, const py::list& samples, py::ssize_t numbers, Body&& body) {
  py::ssize_t at = 0;
  for (py::handle item : samples) {
    const auto of = [&](auto zero) {
      using T = decltype(zero);
      if (!py::isinstance<py::array_t<T>>(item)) return false;
      const auto array = py::reinterpret_borrow<py::array_t<T>>(item);
      const auto number = static_cast<py::ssize_t>(sizeof(T));
      require(array.ndim() == 1 && array.strides(0) % number == 0 && at + array.size() <= numbers, function,
              ": samples must be 1-D, and as many numbers as the copy");
      body(Sample<T>{array.data(), array.strides(0) / number, array.size()}, at);
      at += array.size();
      return true;
    };
    require(of(float{}) || of(double{}), function, ": samples must be float32 or float64");
  }
}

void copy_samples(const py::list& samples, py::array_t<double, py::array::c_style> out) {
  double* to = out.mutable_data();
  each_sample("copy_samples", samples, out.size(), [&](const auto& x, Index at) { copy_sample(x, to + at); });
}

py::list moved_samples(const py::list& samples, const py::array_t<double, py::array::c_style>& before) {
  const FpScope scope;  // weights may be so large that their squares are infinite
  py::list ratios;
  each_sample("moved_samples", samples, before.size(), [&](const auto& x, Index at) {
    const Moved moved = moved_since(x, before.data() + at);
    if (moved.before > 0)
      ratios.append(std::sqrt(moved.difference / moved.before));
    else
      ratios.append(py::none());
  });
  return ratios;
}

}  // namespace

void bind_samples(py::module_& m) {
  m.def("copy_samples", &copy_samples, py::arg("samples"), py::arg("out").noconvert(),
        "Copies 1-D arrays, one behind another, to float64.");
  m.def(
      "moved_samples", &moved_samples, py::arg("samples"), py::arg("before").noconvert(),
      "How far each of the arrays has moved since copy_samples: rms of the difference over rms before; None where all "
      "were 0.");
}

}  // namespace loopos::bind
