// loopos.ops: dropout and its backward.
#include "ops.h"
#include "ops/dropout.h"

namespace loopos::bind {

namespace {

/// A whole number from 0 to 2^64 - 1.
std::uint64_t unsigned_number(const char* function, const char* argument, const py::object& value) {
  if (!PyIndex_Check(value.ptr()) || PyBool_Check(value.ptr()) || py::isinstance<py::array>(value))
    throw py::type_error(cat(function, ": ", argument, " must be an int, got a ",
                             std::string(py::str(py::type::of(value).attr("__name__")))));
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!number) throw py::error_already_set();
  const std::uint64_t result = PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    require(false, function, ": ", argument, " must be from 0 to 2**64 - 1, got ", std::string(py::str(number)));
  }
  return result;
}

template <class F>
py::object masked(const char* function, const char* argument, const py::object& x, double p, const py::object& seed,
                  const py::object& offset, F&& f) {
  return by_dtype(function, argument, x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(function, argument, x);
    require(p >= 0 && p < 1, function, ": p must be at least 0 and below 1, got ", p);
    const std::uint64_t key = unsigned_number(function, "seed", seed),
                        start = unsigned_number(function, "offset", offset);
    const Index n = in.size();
    require(start <= ~std::uint64_t{0} - static_cast<std::uint64_t>(n), function, ": offset + the size of ", argument,
            " must stay below 2**64, got offset ", start, " and size ", n);
    auto y = output<T>(in.shape);
    T* out = y.mutable_data();
    const Computing computing;
    f(in.data, n, p, key, start, out);
    return std::move(y);
  });
}

py::object dropout(const py::object& x, double p, const py::object& seed, const py::object& offset) {
  return masked("dropout", "x", x, p, seed, offset, [](auto... args) { dropout_forward(args...); });
}

py::object dropout_back(const py::object& dy, double p, const py::object& seed, const py::object& offset) {
  return masked("dropout_backward", "dy", dy, p, seed, offset, [](auto... args) { dropout_backward(args...); });
}

}  // namespace

void bind_dropout(py::module_& ops) {
  using py::arg;
  ops.def("dropout", &dropout, arg("x"), arg("p"), py::kw_only(), arg("seed"), arg("offset") = 0,
          R"(Dropout: each element is zero with probability p, else multiplied by 1/(1-p).

x: any shape, float32 or float64; p in [0, 1); seed and offset in 0..2**64-1. The mask is a function of (seed, offset + flat index) alone
(Philox4x32-10), so a tensor cut in pieces with matching offsets gets the same mask. A dropped NaN or inf gives NaN.)");
  ops.def("dropout_backward", &dropout_back, arg("dy"), arg("p"), py::kw_only(), arg("seed"), arg("offset") = 0,
          R"(Gradient of dropout: dy times the same mask and scale. Returns dx of dy's shape.)");
}

}  // namespace loopos::bind
