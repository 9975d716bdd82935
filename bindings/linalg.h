// What the bindings of loopos.linalg share: batches of complex matrices in and out, errors that name the matrix.
#pragma once

#include <complex>

#include "arrays.h"
#include "linalg/matrix.h"

namespace loopos::bind {

void bind_linalg(py::module_& linalg);
void bind_linalg_covariance(py::module_& linalg);
void bind_linalg_eigh(py::module_& linalg);
void bind_linalg_factor(py::module_& linalg);

/// Calls body(float{}) for complex64 and body(double{}) for complex128.
template <class Body>
auto by_complex(const char* function, const char* argument, py::handle value, Body&& body) {
  return is_complex_double(function, argument, value) ? body(double{}) : body(float{});
}

/// A batch of matrices (..., rows, columns).
template <class T>
struct Matrices {
  Array<Complex<T>> array;
  const Complex<T>* data;
  Shape lead;  // the axes before the matrix
  Index batch, rows, columns;

  Shape shape(Index other_rows, Index other_columns) const {
    Shape result = lead;
    result.push_back(other_rows);
    result.push_back(other_columns);
    return result;
  }
};

template <class T>
Matrices<T> matrices(const char* function, const char* argument, py::handle value) {
  Matrices<T> m{input<Complex<T>>(function, argument, value), nullptr, {}, 1, 0, 0};
  const Shape& shape = m.array.shape;
  require(shape.size() >= 2, function, ": ", argument, " must have at least two axes, those of a matrix, got shape ",
          text(shape));
  m.data = m.array.data;
  m.lead.assign(shape.begin(), shape.end() - 2);
  for (const auto n : m.lead) m.batch *= n;
  m.rows = shape[shape.size() - 2];
  m.columns = shape.back();
  return m;
}

template <class T>
Matrices<T> squares(const char* function, const char* argument, py::handle value) {
  Matrices<T> m = matrices<T>(function, argument, value);
  require(m.rows == m.columns, function, ": ", argument, " must be square matrices (..., N, N), got shape ",
          text(m.array.shape));
  return m;
}

/// One real number for each matrix; for a single matrix a plain number too.
template <class T>
std::vector<T> numbers(const char* function, const char* argument, const py::object& value, const Shape& lead) {
  if (lead.empty() && !py::isinstance<py::array>(value)) return {static_cast<T>(scalar(function, argument, value))};
  const auto array = input<T>(function, argument, value, lead);
  return std::vector<T>(array.data, array.data + array.size());
}

/// A finite number.
double finite(const char* function, const char* argument, const py::object& value);

/// The exception that Python sees: the sentence with function and matrix before it.
[[noreturn]] void raise(const char* function, const Shape& lead, const MatrixError& error);

/// Runs body with the GIL released, and gives its errors their names.
template <class Body>
void compute(const char* function, const Shape& lead, Body&& body) {
  try {
    const Computing computing;
    body();
  } catch (const MatrixError& error) {
    raise(function, lead, error);
  }
}

/// y (...), one real number for each matrix, = op(x); Take is matrices or squares.
template <class Take, class Op>
py::object number_forward(const char* f, const char* argument, const py::object& x_in, Take take, Op&& op) {
  return by_complex(f, argument, x_in, [&](auto t) -> py::object {
    const auto x = take(t, f, argument, x_in);
    auto y = output<decltype(t)>(x.lead);
    auto* out = y.mutable_data();
    compute(f, x.lead, [&] { op(x, out); });
    return std::move(y);
  });
}

/// dx, of x's shape, = op(dy, x), dy (...) real
template <class Take, class Op>
py::object number_backward(const char* f, const char* argument, const py::object& dy_in, const py::object& x_in,
                           Take take, Op&& op) {
  return by_complex(f, argument, x_in, [&](auto t) -> py::object {
    const auto x = take(t, f, argument, x_in);
    const auto dy = numbers<decltype(t)>(f, "dy", dy_in, x.lead);
    auto dx = output<Complex<decltype(t)>>(x.array.shape);
    auto* out = dx.mutable_data();
    compute(f, x.lead, [&] { op(dy.data(), x, out); });
    return std::move(dx);
  });
}

/// For `take` above.
constexpr auto kSquares = [](auto t, auto... what) { return squares<decltype(t)>(what...); };
constexpr auto kMatrices = [](auto t, auto... what) { return matrices<decltype(t)>(what...); };

/// y (..., n, n) = op(r)
template <class Op>
py::object matrix_forward(const char* f, const py::object& r_in, Op&& op) {
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    auto y = output<Complex<T>>(r.array.shape);
    Complex<T>* out = y.mutable_data();
    compute(f, r.lead, [&] { op(r.data, r.batch, r.rows, out); });
    return std::move(y);
  });
}

/// dr (..., n, n) = op(dy, r)
template <class Op>
py::object matrix_backward(const char* f, const char* argument, const py::object& dy_in, const py::object& r_in,
                           Op&& op) {
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto dy = input<Complex<T>>(f, argument, dy_in, r.array.shape);
    auto dr = output<Complex<T>>(r.array.shape);
    Complex<T>* out = dr.mutable_data();
    compute(f, r.lead, [&] { op(dy.data, r.data, r.batch, r.rows, out); });
    return std::move(dr);
  });
}

}  // namespace loopos::bind
