// loopos.linalg: its index; what all of it shares; hermitize, trace, load_diagonal, blend, frobenius_norm.
#include "linalg.h"

#include <cmath>

#include "linalg/blend.h"
#include "linalg/diagonal.h"
#include "linalg/frobenius_norm.h"
#include "linalg/hermitize.h"

namespace loopos::bind {

double finite(const char* function, const char* argument, const py::object& value) {
  const double number = scalar(function, argument, value);
  require(std::isfinite(number), function, ": ", argument, " must be finite, got ", number);
  return number;
}

void raise(const char* function, const Shape& lead, const MatrixError& error) {
  py::tuple batch(lead.size());
  Shape place(lead.size());
  Index rest = error.batch;
  for (std::size_t axis = lead.size(); axis-- > 0; rest /= lead[axis]) {
    place[axis] = rest % lead[axis];
    batch[axis] = place[axis];
  }
  const std::string sentence =
      cat(function, ": ", lead.empty() ? "" : "batch entry " + text(place) + ": ", error.what());
  const auto throw_as = [&](const char* name, auto... facts) {
    const py::object type = py::module_::import("loopos.errors").attr(name);
    PyErr_SetObject(type.ptr(), type(sentence, batch, facts...).ptr());
    throw py::error_already_set();
  };
  if (const auto* e = dynamic_cast<const NotPositiveDefinite*>(&error))
    throw_as("NotPositiveDefiniteError", e->pivot, e->value);
  if (const auto* e = dynamic_cast<const AmplificationRefused*>(&error))
    throw_as("AmplificationError", e->trace, e->floor, e->factor);
  throw std::invalid_argument(sentence);
}

namespace {

py::object hermitize(const py::object& r) {
  return matrix_forward("hermitize", r, [](auto... x) { hermitize_forward(x...); });
}
py::object hermitize_back(const py::object& dy, const py::object& r) {
  return matrix_backward("hermitize_backward", "dy", dy, r,
                         [](auto* dy, auto*, Index batch, Index n, auto* dr) { hermitize_backward(dy, batch, n, dr); });
}

py::object trace(const py::object& r) {
  return number_forward("trace", "r", r, kSquares,
                        [](const auto& r, auto* y) { trace_forward(r.data, r.batch, r.rows, y); });
}
py::object trace_back(const py::object& dy, const py::object& r) {
  return number_backward("trace_backward", "r", dy, r, kSquares,
                         [](auto* dy, const auto& r, auto* dr) { trace_backward(dy, r.batch, r.rows, dr); });
}

py::object load_diagonal(const py::object& r, const py::object& eps_in) {
  const double eps = finite("load_diagonal", "eps", eps_in);
  return matrix_forward("load_diagonal", r,
                        [&](auto* r, Index batch, Index n, auto* y) { load_diagonal_forward(r, batch, n, eps, y); });
}

py::tuple load_diagonal_back(const py::object& dy_in, const py::object& r_in, const py::object& eps) {
  const char* f = "load_diagonal_backward";
  return by_complex(f, "dy", dy_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto dy = input<Complex<T>>(f, "dy", dy_in, r.array.shape);
    finite(f, "eps", eps);
    auto dr = output<Complex<T>>(r.array.shape);
    Complex<T>* out = dr.mutable_data();
    double deps = 0;
    compute(f, r.lead, [&] { deps = load_diagonal_backward(dy.data, r.batch, r.rows, out); });
    return py::make_tuple(std::move(dr), deps);
  });
}

py::object blend(const py::object& a_in, const py::object& b_in, const py::object& beta_in) {
  const char* f = "blend";
  return by_complex(f, "a", a_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto a = input<Complex<T>>(f, "a", a_in);
    const auto b = input<Complex<T>>(f, "b", b_in, a.shape);
    const double beta = finite(f, "beta", beta_in);
    auto y = output<Complex<T>>(a.shape);
    Complex<T>* out = y.mutable_data();
    compute(f, {}, [&] { blend_forward(a.data, b.data, a.size(), beta, out); });
    return std::move(y);
  });
}

py::tuple blend_back(const py::object& dy_in, const py::object& a_in, const py::object& b_in,
                     const py::object& beta_in) {
  const char* f = "blend_backward";
  return by_complex(f, "dy", dy_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto dy = input<Complex<T>>(f, "dy", dy_in);
    const auto a = input<Complex<T>>(f, "a", a_in, dy.shape), b = input<Complex<T>>(f, "b", b_in, dy.shape);
    const double beta = finite(f, "beta", beta_in);
    auto da = output<Complex<T>>(dy.shape), db = output<Complex<T>>(dy.shape);
    Complex<T>*da_out = da.mutable_data(), *db_out = db.mutable_data();
    double dbeta = 0;
    compute(f, {}, [&] { dbeta = blend_backward(dy.data, a.data, b.data, dy.size(), beta, da_out, db_out); });
    return py::make_tuple(std::move(da), std::move(db), dbeta);
  });
}

py::object frobenius_norm(const py::object& x) {
  return number_forward("frobenius_norm", "x", x, kMatrices,
                        [](const auto& x, auto* y) { frobenius_norm_forward(x.data, x.batch, x.rows * x.columns, y); });
}
py::object frobenius_norm_back(const py::object& dy, const py::object& x) {
  return number_backward("frobenius_norm_backward", "x", dy, x, kMatrices, [](auto* dy, const auto& x, auto* dx) {
    frobenius_norm_backward(dy, x.data, x.batch, x.rows * x.columns, dx);
  });
}

}  // namespace

void bind_linalg(py::module_& linalg) {
  using py::arg;
  linalg.def("hermitize", &hermitize, arg("r"), R"(Hermitian part: (r + r^H) / 2.

r: (..., N, N), complex64 or complex128. Returns the same shape.)");
  linalg.def("hermitize_backward", &hermitize_back, arg("dy"), arg("r"),
             R"(Gradient of hermitize: the Hermitian part of dy.)");
  linalg.def("trace", &trace, arg("r"), R"(The real part of the trace, summed in double.

r: (..., N, N). Returns real numbers of shape (...).)");
  linalg.def("trace_backward", &trace_back, arg("dy"), arg("r"), R"(Gradient of trace: dy I.

dy: (...), real; for a single matrix a number too. Returns dr (..., N, N).)");
  linalg.def("load_diagonal", &load_diagonal, arg("r"), arg("eps"), R"(Diagonal loading: r + eps I.

r: (..., N, N); eps: a finite number, for all. Returns the same shape.)");
  linalg.def("load_diagonal_backward", &load_diagonal_back, arg("dy"), arg("r"), arg("eps"),
             R"(Gradients of load_diagonal: (dr = dy, deps), deps a number, summed over the batch.)");
  linalg.def("blend", &blend, arg("a"), arg("b"), arg("beta"), R"(Blend of two arrays: (1 - beta) a + beta b.

a, b: complex arrays of one shape, any; beta: a finite number, for all. Returns that shape.)");
  linalg.def(
      "blend_backward", &blend_back, arg("dy"), arg("a"), arg("b"), arg("beta"),
      R"(Gradients of blend: (da = (1 - beta) dy, db = beta dy, dbeta), dbeta a number, summed over everything.)");
  linalg.def("frobenius_norm", &frobenius_norm, arg("x"), R"(Frobenius norm: sqrt(sum |x|^2), summed in double.

x: (..., M, N), not necessarily square. Returns real numbers of shape (...). It is inf only where the norm itself is beyond the range of the dtype.)");
  linalg.def("frobenius_norm_backward", &frobenius_norm_back, arg("dy"), arg("x"),
             R"(Gradient of frobenius_norm: dy x / norm, 0 where x is 0.

dy: (...), real; for a single matrix a number too. Returns dx of x's shape. ValueError where x is not finite.)");
  bind_linalg_covariance(linalg);
  bind_linalg_factor(linalg);
  bind_linalg_eigh(linalg);
}

}  // namespace loopos::bind
