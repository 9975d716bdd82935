// loopos.ops: softmax, log_softmax, logsumexp, each with its backward.
#include "ops.h"
#include "ops/log_softmax.h"
#include "ops/logsumexp.h"
#include "ops/softmax.h"

namespace loopos::bind {

namespace {

/// An input whose last axis is reduced: it must have one, and not an empty one, unless there are no rows.
template <class T>
Array<T> row_input(const char* function, const char* argument, const py::object& value) {
  auto in = input<T>(function, argument, value, -1);
  require(in.last() > 0 || in.leading() == 0, function, ": ", argument,
          " must have at least one element on its last axis, got shape ", text(in.shape));
  return in;
}

/// y (rows, n) = f(x)
template <class F>
py::object rows_to_rows(const char* function, const py::object& x, F&& f) {
  return by_dtype(function, "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = row_input<T>(function, "x", x);
    auto y = output<T>(in.shape);
    T* out = y.mutable_data();
    const Computing computing;
    f(in.data, in.rows(), in.last(), out);
    return std::move(y);
  });
}

/// dx (rows, n) = f(dy, y)
template <class F>
py::object rows_backward(const char* function, const py::object& dy, const py::object& y, F&& f) {
  return by_dtype(function, "dy", dy, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto gradient = row_input<T>(function, "dy", dy);
    const auto saved = input<T>(function, "y", y, gradient.shape);
    auto dx = output<T>(gradient.shape);
    T* out = dx.mutable_data();
    const Computing computing;
    f(gradient.data, saved.data, gradient.rows(), gradient.last(), out);
    return std::move(dx);
  });
}

py::object softmax(const py::object& x) {
  return rows_to_rows("softmax", x, [](auto... args) { softmax_forward(args...); });
}
py::object softmax_back(const py::object& dy, const py::object& y) {
  return rows_backward("softmax_backward", dy, y, [](auto... args) { softmax_backward(args...); });
}
py::object log_softmax(const py::object& x) {
  return rows_to_rows("log_softmax", x, [](auto... args) { log_softmax_forward(args...); });
}
py::object log_softmax_back(const py::object& dy, const py::object& y) {
  return rows_backward("log_softmax_backward", dy, y, [](auto... args) { log_softmax_backward(args...); });
}

py::object logsumexp(const py::object& x) {
  return by_dtype("logsumexp", "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = row_input<T>("logsumexp", "x", x);
    auto y = output<T>(Shape(in.shape.begin(), in.shape.end() - 1));
    T* out = y.mutable_data();
    const Computing computing;
    logsumexp_forward(in.data, in.rows(), in.last(), out);
    return std::move(y);
  });
}

py::object logsumexp_back(const py::object& dy, const py::object& x) {
  return by_dtype("logsumexp_backward", "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = row_input<T>("logsumexp_backward", "x", x);
    const bool one = in.ndim() == 1 && !py::isinstance<py::array>(dy);  // numpy makes scalars of arrays without axes
    const T number = one ? static_cast<T>(scalar("logsumexp_backward", "dy", dy)) : T(0);
    Array<T> gradient;
    if (!one) gradient = input<T>("logsumexp_backward", "dy", dy, Shape(in.shape.begin(), in.shape.end() - 1));
    auto dx = output<T>(in.shape);
    T* out = dx.mutable_data();
    const Computing computing;
    logsumexp_backward(one ? &number : gradient.data, in.data, in.rows(), in.last(), out);
    return std::move(dx);
  });
}

}  // namespace

void bind_softmax(py::module_& ops) {
  using py::arg;
  ops.def("softmax", &softmax, arg("x"), R"(Softmax over the last axis.

x: (..., n), float32 or float64, n >= 1. Returns y of x's shape. A row that is all -inf (fully masked) gives zeros and is counted
(loopos.guard_counts()["softmax"]); a NaN or +inf makes its row NaN.)");
  ops.def("softmax_backward", &softmax_back, arg("dy"), arg("y"), R"(Gradient of softmax: dx = y (dy - sum(dy y)).

dy, y: (..., n), y as softmax returned it. Returns dx of the same shape.)");
  ops.def("log_softmax", &log_softmax, arg("x"), R"(Logarithm of softmax over the last axis: x - logsumexp(x).

x: (..., n), n >= 1. Returns y of x's shape. A row that is all -inf gives -inf (the logarithm of softmax's zeros) and is counted
(loopos.guard_counts()["log_softmax"]); a NaN or +inf makes its row NaN.)");
  ops.def("log_softmax_backward", &log_softmax_back, arg("dy"), arg("y"),
          R"(Gradient of log_softmax: dx = dy - exp(y) sum(dy).

dy, y: (..., n), y as log_softmax returned it. Returns dx of the same shape.)");
  ops.def("logsumexp", &logsumexp, arg("x"), R"(Logarithm of the sum of exponentials over the last axis.

x: (..., n), n >= 1. Returns y of shape (...). A row that is all -inf gives -inf and is counted (loopos.guard_counts()["logsumexp"]).)");
  ops.def("logsumexp_backward", &logsumexp_back, arg("dy"), arg("x"), R"(Gradient of logsumexp: dx = dy softmax(x).

dy: (...), x: (..., n); for a 1-D x, dy may be a number. Returns dx of x's shape; a row that is all -inf has gradient zero and is counted.)");
}

}  // namespace loopos::bind
