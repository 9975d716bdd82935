// loopos.linalg: eigh, spectral_function, projector.
#include "linalg.h"
#include "linalg/eigh.h"
#include "linalg/projector.h"
#include "linalg/spectral_function.h"

namespace loopos::bind {
namespace {

py::tuple eigh(const py::object& r_in) {
  const char* f = "eigh";
  return by_complex(f, "r", r_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    auto v = output<Complex<T>>(r.array.shape);
    auto w = output<T>(Shape(r.array.shape.begin(), r.array.shape.end() - 1));
    T* w_out = w.mutable_data();
    Complex<T>* v_out = v.mutable_data();
    compute(f, r.lead, [&] { eigh_forward(r.data, r.batch, r.rows, w_out, v_out); });
    return py::make_tuple(std::move(w), std::move(v));
  });
}

py::object eigh_back(const py::object& dw_in, const py::object& dv_in, const py::object& w_in, const py::object& v_in) {
  const char* f = "eigh_backward";
  return by_complex(f, "v", v_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto v = squares<T>(f, "v", v_in);
    const Shape values(v.array.shape.begin(), v.array.shape.end() - 1);
    const auto w = input<T>(f, "w", w_in, values);
    const auto dw = input<T>(f, "dw", dw_in.is_none() ? py::object(zeros<T>(values)) : dw_in, values);
    Array<Complex<T>> dv;
    if (!dv_in.is_none()) dv = input<Complex<T>>(f, "dv", dv_in, v.array.shape);
    auto dr = output<Complex<T>>(v.array.shape);
    Complex<T>* out = dr.mutable_data();
    compute(f, v.lead, [&] { eigh_backward(dw.data, dv.data, w.data, v.data, v.batch, v.rows, out); });
    return std::move(dr);
  });
}

SpectralFunction function_named(const char* f, const std::string& name) {
  return choice(cat(f, ": function").c_str(), name, kSpectralFunctions).value;
}

/// (w, v) as eigh gave it for matrices of this shape, or None.
template <class T>
struct Known {
  Array<T> w;
  Array<Complex<T>> v;
  Eigensystem<T> eigen;
};
template <class T>
Known<T> known(const char* f, const py::object& value, const Shape& shape) {
  Known<T> k;
  if (value.is_none()) return k;
  if (!py::isinstance<py::tuple>(value) || py::len(value) != 2)
    throw py::type_error(cat(f, ": eigen must be the tuple (w, v) that eigh gave, or None"));
  const auto pair = py::reinterpret_borrow<py::tuple>(value);
  k.w = input<T>(f, "eigen[0]", pair[0], Shape(shape.begin(), shape.end() - 1));
  k.v = input<Complex<T>>(f, "eigen[1]", pair[1], shape);
  k.eigen = {k.w.data, k.v.data};
  return k;
}

/// y = op(r), and dr = op(dy, r), where op may be told the eigenvalues and eigenvectors of r
template <class Op>
py::object spectral(const char* f, const py::object& r_in, const py::object& eigen, Op&& op) {
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto k = known<T>(f, eigen, r.array.shape);
    auto y = output<Complex<T>>(r.array.shape);
    Complex<T>* out = y.mutable_data();
    compute(f, r.lead, [&] { op(r.data, r.batch, r.rows, out, k.eigen); });
    return std::move(y);
  });
}
template <class Op>
py::object spectral_back(const char* f, const char* argument, const py::object& dy_in, const py::object& r_in,
                         const py::object& eigen, Op&& op) {
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto dy = input<Complex<T>>(f, argument, dy_in, r.array.shape);
    const auto k = known<T>(f, eigen, r.array.shape);
    auto dr = output<Complex<T>>(r.array.shape);
    Complex<T>* out = dr.mutable_data();
    compute(f, r.lead, [&] { op(dy.data, r.data, r.batch, r.rows, out, k.eigen); });
    return std::move(dr);
  });
}

py::object spectral_function(const py::object& r, const std::string& name, const py::object& eigen) {
  const SpectralFunction function = function_named("spectral_function", name);
  return spectral("spectral_function", r, eigen, [&](auto* r_data, Index batch, Index n, auto* y, const auto& known) {
    spectral_function_forward(r_data, batch, n, function, y, known);
  });
}
py::object spectral_function_back(const py::object& dy, const py::object& r, const std::string& name,
                                  const py::object& eigen) {
  const SpectralFunction function = function_named("spectral_function_backward", name);
  return spectral_back("spectral_function_backward", "dy", dy, r, eigen,
                       [&](auto* dy_data, auto* r_data, Index batch, Index n, auto* dr, const auto& known) {
                         spectral_function_backward(dy_data, r_data, batch, n, function, dr, known);
                       });
}

void require_rank(const char* f, Index k, Index n) {
  require(k >= 0 && k <= n, f, ": k must be an integer from 0 to N = ", n, ", got ", k);
}

py::object projector(const py::object& r, const py::object& k_in, const py::object& eigen) {
  const Index k = whole("projector", "k", k_in);
  return spectral("projector", r, eigen, [&](auto* r_data, Index batch, Index n, auto* p, const auto& known) {
    require_rank("projector", k, n);
    projector_forward(r_data, batch, n, k, p, known);
  });
}
py::object projector_back(const py::object& dp, const py::object& r, const py::object& k_in, const py::object& eigen) {
  const Index k = whole("projector_backward", "k", k_in);
  return spectral_back("projector_backward", "dp", dp, r, eigen,
                       [&](auto* dp_data, auto* r_data, Index batch, Index n, auto* dr, const auto& known) {
                         require_rank("projector_backward", k, n);
                         projector_backward(dp_data, r_data, batch, n, k, dr, known);
                       });
}

}  // namespace

void bind_linalg_eigh(py::module_& linalg) {
  using py::arg;
  linalg.def("eigh", &eigh, arg("r"), R"(Eigenvalues, ascending, and orthonormal eigenvectors: r = v diag(w) v^H.

r: (..., N, N), Hermitian. Returns (w (..., N), real; v (..., N, N), eigenvectors as columns).)");
  linalg.def("eigh_backward", &eigh_back, arg("dw"), arg("dv"), arg("w"), arg("v"), R"(Gradient of eigh.

dw: (..., N), real; dv: (..., N, N); None for one of them is 0; w, v: as eigh gave them. Returns dr (..., N, N), Hermitian.
ValueError where the loss has no gradient: it depends on the phase of an eigenvector, or on which vectors of the span of equal
eigenvalues were taken. Where eigenvalues are equal, take spectral_function for a function of the eigenvalues and projector for
the span of the largest: these have a gradient there. This function sees no more than dw and dv. Where equal eigenvalues have
dw = 0, it supposes that the loss depends on the span of their vectors alone.)");
  linalg.def("spectral_function", &spectral_function, arg("r"), arg("function"), arg("eigen") = py::none(),
             R"(Function of Hermitian matrices by their eigenvalues: v diag(f(w)) v^H.

r: (..., N, N), Hermitian; function: "log", "sqrt", "inverse_sqrt" or "exp"; all but exp need r positive definite
(loopos.errors.NotPositiveDefiniteError with the number and value of the eigenvalue); eigen: the (w, v) of eigh(r), where that is at
hand, for it takes most of the time (r is not read then). Returns y (..., N, N), Hermitian.)");
  linalg.def(
      "spectral_function_backward", &spectral_function_back, arg("dy"), arg("r"), arg("function"),
      arg("eigen") = py::none(),
      R"(Gradient of spectral_function, by divided differences (Daleckii and Krein): also where eigenvalues are equal.

Returns dr (..., N, N), Hermitian.)");
  linalg.def("projector", &projector, arg("r"), arg("k"), arg("eigen") = py::none(),
             R"(Projector onto the span of the eigenvectors of the k largest eigenvalues.

r: (..., N, N), Hermitian; k: from 0 to N; eigen: the (w, v) of eigh(r), where that is at hand (r is not read then). Returns p
(..., N, N), Hermitian; the noise subspace has I - p. ValueError where eigenvalue k and the next are equal but for rounding (they
differ by at most 4 N times the dtype's epsilon times the largest), for then the span is not defined.)");
  linalg.def("projector_backward", &projector_back, arg("dp"), arg("r"), arg("k"), arg("eigen") = py::none(),
             R"(Gradient of projector, also where eigenvalues on one side of the gap are equal.

Returns dr (..., N, N), Hermitian.)");
}

}  // namespace loopos::bind
