// loopos.linalg: sample_covariance, trace_normalize.
#include <cmath>

#include "linalg.h"
#include "linalg/sample_covariance.h"
#include "linalg/trace_normalize.h"

namespace loopos::bind {
namespace {

template <class T>
Matrices<T> snapshots_of(const char* f, const py::object& value) {
  auto a = matrices<T>(f, "snapshots", value);
  require(a.rows > 0, f, ": snapshots must hold at least one snapshot (..., L, N), got shape ", text(a.array.shape));
  return a;
}

py::object sample_covariance(const py::object& snapshots, bool center) {
  const char* f = "sample_covariance";
  return by_complex(f, "snapshots", snapshots, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto a = snapshots_of<T>(f, snapshots);
    auto r = output<Complex<T>>(a.shape(a.columns, a.columns));
    Complex<T>* out = r.mutable_data();
    compute(f, a.lead, [&] { sample_covariance_forward(a.data, a.batch, a.rows, a.columns, center, out); });
    return std::move(r);
  });
}

py::object sample_covariance_back(const py::object& dr_in, const py::object& snapshots, bool center) {
  const char* f = "sample_covariance_backward";
  return by_complex(f, "snapshots", snapshots, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto a = snapshots_of<T>(f, snapshots);
    const auto dr = input<Complex<T>>(f, "dr", dr_in, a.shape(a.columns, a.columns));
    auto da = output<Complex<T>>(a.array.shape);
    Complex<T>* out = da.mutable_data();
    compute(f, a.lead, [&] { sample_covariance_backward(dr.data, a.data, a.batch, a.rows, a.columns, center, out); });
    return std::move(da);
  });
}

TraceRule rule_of(const char* f, const py::object& target, double floor, double max_amplification, Index n) {
  require(n > 0, f, ": r must have at least one row: a matrix of 0 x 0 has no trace to scale");
  const TraceRule rule{target.is_none() ? static_cast<double>(n) : finite(f, "target", target), floor,
                       max_amplification};
  require(rule.target > 0, f, ": target must be above 0, got ", rule.target);
  require(std::isfinite(floor) && floor >= 0, f, ": floor must be a finite number, not negative, got ", floor);
  require(max_amplification > 0, f, ": max_amplification must be above 0, got ", max_amplification);
  return rule;
}

py::tuple trace_normalize(const py::object& r_in, const py::object& target, double floor, double max_amplification) {
  const char* f = "trace_normalize";
  return by_complex(f, "r", r_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const TraceRule rule = rule_of(f, target, floor, max_amplification, r.rows);
    auto y = output<Complex<T>>(r.array.shape);
    auto trace = output<double>(r.lead), factor = output<double>(r.lead);
    py::array_t<bool> floored(r.lead);
    Complex<T>* out = y.mutable_data();
    double *trace_out = trace.mutable_data(), *factor_out = factor.mutable_data();
    bool* floored_out = floored.mutable_data();
    compute(f, r.lead,
            [&] { trace_normalize_forward(r.data, r.batch, r.rows, rule, out, trace_out, factor_out, floored_out); });
    return py::make_tuple(std::move(y), std::move(trace), std::move(factor), std::move(floored));
  });
}

py::object trace_normalize_back(const py::object& dy_in, const py::object& r_in, const py::object& target, double floor,
                                double max_amplification) {
  const char* f = "trace_normalize_backward";
  return by_complex(f, "r", r_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto r = squares<T>(f, "r", r_in);
    const auto dy = input<Complex<T>>(f, "dy", dy_in, r.array.shape);
    const TraceRule rule = rule_of(f, target, floor, max_amplification, r.rows);
    auto dr = output<Complex<T>>(r.array.shape);
    Complex<T>* out = dr.mutable_data();
    compute(f, r.lead, [&] { trace_normalize_backward(dy.data, r.data, r.batch, r.rows, rule, out); });
    return std::move(dr);
  });
}

}  // namespace

void bind_linalg_covariance(py::module_& linalg) {
  using py::arg;
  linalg.def("sample_covariance", &sample_covariance, arg("snapshots"), arg("center") = false,
             R"(Sample covariance: R = (1/L) sum of a a^H over the snapshots a, so R[i, j] = mean of a_i conj(a_j).

snapshots: (..., L, N), complex64 or complex128, L >= 1; center: of a less their mean (still over L). Returns R (..., N, N),
Hermitian. ValueError where a number is not finite or R is beyond the range of the dtype.)");
  linalg.def("sample_covariance_backward", &sample_covariance_back, arg("dr"), arg("snapshots"), arg("center") = false,
             R"(Gradient of sample_covariance: da = (1/L) (dR + dR^H) a, less its mean where centred.

dr: (..., N, N). Returns dsnapshots (..., L, N).)");
  linalg.def("trace_normalize", &trace_normalize, arg("r"), arg("target"), arg("floor"), arg("max_amplification"),
             "(y, trace, factor, floored): what loopos.linalg.trace_normalize makes its results of.");
  linalg.def(
      "trace_normalize_backward", &trace_normalize_back, arg("dy"), arg("r"), arg("target") = py::none(),
      arg("floor") = 1e-9, arg("max_amplification") = 1e10,
      R"(Gradient of trace_normalize: with t the trace, dr = (target / t) (dy - (Re sum conj(dy) r / t) I); where the floor
decided, dr = (target / floor) dy.

dy, r: (..., N, N); the rest as trace_normalize had it. Returns dr (..., N, N).)");
}

}  // namespace loopos::bind
