// What the monitor of a run sees of its weights.
#include "samples.h"

#include <pybind11/stl.h>

#include <cmath>
#include <vector>

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

py::object ratio_of(const Moved& moved) {
  if (!(moved.before > 0)) return py::none();
  return py::float_(std::sqrt(moved.difference / moved.before));
}

py::tuple moved_samples(const py::list& samples, const py::array_t<double, py::array::c_style>& before,
                        const std::vector<double>& stand_for) {
  const FpScope scope;  // weights may be so large that their squares are infinite
  require(stand_for.size() == samples.size(), "moved_samples: stand_for must have a number for each sample");
  py::list ratios;
  Moved all{};
  std::size_t number = 0;
  each_sample("moved_samples", samples, before.size(), [&](const auto& x, Index at) {
    const Moved moved = moved_since(x, before.data() + at);
    ratios.append(ratio_of(moved));
    all.difference += stand_for[number] * moved.difference;
    all.before += stand_for[number++] * moved.before;
  });
  return py::make_tuple(ratios, ratio_of(all));
}

}  // namespace

void bind_samples(py::module_& m) {
  m.def("copy_samples", &copy_samples, py::arg("samples"), py::arg("out").noconvert(),
        "Copies 1-D arrays, one behind another, to float64.");
  m.def(
      "moved_samples", &moved_samples, py::arg("samples"), py::arg("before").noconvert(), py::arg("stand_for"),
      "How far each of the arrays has moved since copy_samples: rms of the difference over rms before; None where all "
      "were 0. And the same of all together, in which a number of array i stands for stand_for[i] numbers.");
}

}  // namespace loopos::bind
