// loopos.linalg: cholesky, logdet, inverse, solve.
#include "linalg.h"
#include "linalg/cholesky.h"
#include "linalg/inverse.h"
#include "linalg/logdet.h"
#include "linalg/solve.h"

namespace loopos::bind {
namespace {

py::object cholesky(const py::object& r) {
  return matrix_forward("cholesky", r, [](auto... x) { cholesky_forward(x...); });
}
py::object cholesky_back(const py::object& dl, const py::object& r) {
  return matrix_backward("cholesky_backward", "dl", dl, r, [](auto... x) { cholesky_backward(x...); });
}
py::object inverse(const py::object& r) {
  return matrix_forward("inverse", r, [](auto... x) { inverse_forward(x...); });
}
py::object inverse_back(const py::object& dy_in, const py::object& r_in, const py::object& y_in) {
  const char* f = "inverse_backward";
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto dy = input<Complex<T>>(f, "dy", dy_in, r.array.shape);
    Array<Complex<T>> y;
    if (!y_in.is_none()) y = input<Complex<T>>(f, "y", y_in, r.array.shape);
    auto dr = output<Complex<T>>(r.array.shape);
    Complex<T>* out = dr.mutable_data();
    compute(f, r.lead, [&] { inverse_backward(dy.data, r.data, r.batch, r.rows, out, y.data); });
    return std::move(dr);
  });
}

py::object logdet(const py::object& r) {
  return number_forward("logdet", "r", r, kSquares,
                        [](const auto& r, auto* y) { logdet_forward(r.data, r.batch, r.rows, y); });
}
py::object logdet_back(const py::object& dy, const py::object& r) {
  return number_backward("logdet_backward", "r", dy, r, kSquares,
                         [](auto* dy, const auto& r, auto* dr) { logdet_backward(dy, r.data, r.batch, r.rows, dr); });
}

/// The right sides of the systems with matrices r.
template <class T>
Matrices<T> sides(const char* f, const py::object& value, const Matrices<T>& r) {
  auto b = matrices<T>(f, "b", value);
  require(b.lead == r.lead && b.rows == r.rows, f, ": b must have shape (..., N, K) with r (..., N, N), got r ",
          text(r.array.shape), " and b ", text(b.array.shape));
  return b;
}

py::object solve(const py::object& r_in, const py::object& b_in) {
  const char* f = "solve";
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto b = sides<T>(f, b_in, r);
    auto x = output<Complex<T>>(b.array.shape);
    Complex<T>* out = x.mutable_data();
    compute(f, r.lead, [&] { solve_forward(r.data, b.data, r.batch, r.rows, b.columns, out); });
    return std::move(x);
  });
}

py::tuple solve_back(const py::object& dx_in, const py::object& r_in, const py::object& b_in) {
  const char* f = "solve_backward";
  return by_complex(f, "r", r_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto b = sides<T>(f, b_in, r);
    const auto dx = input<Complex<T>>(f, "dx", dx_in, b.array.shape);
    auto dr = output<Complex<T>>(r.array.shape), db = output<Complex<T>>(b.array.shape);
    Complex<T>*dr_out = dr.mutable_data(), *db_out = db.mutable_data();
    compute(f, r.lead, [&] { solve_backward(dx.data, r.data, b.data, r.batch, r.rows, b.columns, dr_out, db_out); });
    return py::make_tuple(std::move(dr), std::move(db));
  });
}

}  // namespace

void bind_linalg_factor(py::module_& linalg) {
  using py::arg;
  linalg.def("cholesky", &cholesky, arg("r"),
             R"(Cholesky factor: r = L L^H, L lower triangular with a real positive diagonal.

r: (..., N, N), Hermitian positive definite. Returns L (..., N, N), zeros above the diagonal. loopos.errors.NotPositiveDefiniteError
names batch, pivot and value.)");
  linalg.def("cholesky_backward", &cholesky_back, arg("dl"), arg("r"), R"(Gradient of cholesky, Hermitian.

dl: (..., N, N), of which the lower triangle is read, and of its diagonal the real part. Returns dr (..., N, N).)");
  linalg.def("logdet", &logdet, arg("r"), R"(Logarithm of the determinant, by the Cholesky factor, summed in double.

r: (..., N, N), Hermitian positive definite. Returns real numbers of shape (...). loopos.errors.NotPositiveDefiniteError names batch,
pivot and value.)");
  linalg.def("logdet_backward", &logdet_back, arg("dy"), arg("r"), R"(Gradient of logdet: dy times the inverse of r.

dy: (...), real; for a single matrix a number too. Returns dr (..., N, N), Hermitian.)");
  linalg.def("inverse", &inverse, arg("r"),
             R"(Inverse, by the Cholesky factor; a system of equations is better solved (solve).

r: (..., N, N), Hermitian positive definite. Returns y (..., N, N), Hermitian. loopos.errors.NotPositiveDefiniteError names batch, pivot
and value.)");
  linalg.def("inverse_backward", &inverse_back, arg("dy"), arg("r"), arg("y") = py::none(),
             R"(Gradient of inverse: -y D y, D the Hermitian part of dy.

y: what inverse gave for r, where that is at hand, for it takes half of the time (r is not read then). Returns dr (..., N, N),
Hermitian.)");
  linalg.def("solve", &solve, arg("r"), arg("b"), R"(Solution x of r x = b, by the Cholesky factor.

r: (..., N, N), Hermitian positive definite; b: (..., N, K). Returns x of b's shape. loopos.errors.NotPositiveDefiniteError names batch,
pivot and value.)");
  linalg.def("solve_backward", &solve_back, arg("dx"), arg("r"), arg("b"),
             R"(Gradients of solve: (dr, db), db = r^-1 dx, dr the Hermitian part of -db x^H.)");
}

}  // namespace loopos::bind
