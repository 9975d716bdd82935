// loopos.ops: layer_norm, rms_norm.
#include <cmath>

#include "ops.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"

namespace loopos::bind {
namespace {

template <class T>
struct Optional {
  Array<T> array;
  const T* data = nullptr;
};

template <class T>
Optional<T> optional(const char* function, const char* argument, const py::object& value, const Shape& shape) {
  Optional<T> result;
  if (value.is_none()) return result;
  result.array = input<T>(function, argument, value, shape);
  result.data = result.array.data;
  return result;
}

void check_eps(const char* function, double eps) {
  require(std::isfinite(eps) && eps >= 0, function, ": eps must be a finite number, not negative, got ", eps);
}

Shape leading_axes(const Shape& shape) {
  return Shape(shape.begin(), shape.end() - 1);
}

py::tuple layer_norm(const py::object& x_in, const py::object& weight_in, const py::object& bias_in, double eps) {
  const char* f = "layer_norm";
  return by_dtype(f, "x", x_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto x = input<T>(f, "x", x_in, -1);
    const auto weight = optional<T>(f, "weight", weight_in, Shape{x.last()}),
               bias = optional<T>(f, "bias", bias_in, Shape{x.last()});
    check_eps(f, eps);
    auto y = output<T>(x.shape), mean = output<T>(leading_axes(x.shape)), rstd = output<T>(leading_axes(x.shape));
    T *y_out = y.mutable_data(), *mean_out = mean.mutable_data(), *rstd_out = rstd.mutable_data();
    {
      const Computing computing;
      layer_norm_forward(x.data, weight.data, bias.data, x.leading(), x.last(), eps, y_out, mean_out, rstd_out);
    }
    return py::make_tuple(std::move(y), std::move(mean), std::move(rstd));
  });
}

/// The backward of both norms; `mean` is null for rms.
py::tuple backward(const char* f, const py::object& dy_in, const py::object& x_in, const py::object& weight_in,
                   const py::object* mean_in, const py::object& rstd_in) {
  return by_dtype(f, "dy", dy_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto x = input<T>(f, "x", x_in, -1);
    const auto dy = input<T>(f, "dy", dy_in, x.shape);
    const auto weight = optional<T>(f, "weight", weight_in, Shape{x.last()});
    if (mean_in) input<T>(f, "mean", *mean_in, leading_axes(x.shape));
    const auto rstd = input<T>(f, "rstd", rstd_in, leading_axes(x.shape));
    const Shape width{weight.data ? x.last() : 0};
    auto dx = output<T>(x.shape), dweight = zeros<T>(width), dbias = zeros<T>(mean_in ? width : Shape{0});
    T *dx_out = dx.mutable_data(), *dw_out = weight.data ? dweight.mutable_data() : nullptr;
    T* db_out = weight.data && mean_in ? dbias.mutable_data() : nullptr;
    {
      const Computing computing;
      norm_backward(mean_in ? NormKind::layer : NormKind::rms, dy.data, x.data, weight.data, rstd.data,
                    static_cast<const T*>(nullptr), x.leading(), x.last(), dx_out, dw_out, db_out);
    }
    const auto or_none = [&](py::array_t<T>& array, const T* data) {
      return data ? py::object(std::move(array)) : py::none();
    };
    if (!mean_in) return py::make_tuple(std::move(dx), or_none(dweight, dw_out));
    return py::make_tuple(std::move(dx), or_none(dweight, dw_out), or_none(dbias, db_out));
  });
}

py::tuple layer_norm_backward_py(const py::object& dy, const py::object& x, const py::object& weight,
                                 const py::object& mean, const py::object& rstd) {
  return backward("layer_norm_backward", dy, x, weight, &mean, rstd);
}

py::tuple rms_norm(const py::object& x_in, const py::object& weight_in, double eps) {
  const char* f = "rms_norm";
  return by_dtype(f, "x", x_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto x = input<T>(f, "x", x_in, -1);
    const auto weight = optional<T>(f, "weight", weight_in, Shape{x.last()});
    check_eps(f, eps);
    auto y = output<T>(x.shape), rstd = output<T>(leading_axes(x.shape));
    T *y_out = y.mutable_data(), *rstd_out = rstd.mutable_data();
    {
      const Computing computing;
      rms_norm_forward(x.data, weight.data, x.leading(), x.last(), eps, y_out, rstd_out);
    }
    return py::make_tuple(std::move(y), std::move(rstd));
  });
}

py::tuple rms_norm_backward_py(const py::object& dy, const py::object& x, const py::object& weight,
                               const py::object& rstd) {
  return backward("rms_norm_backward", dy, x, weight, nullptr, rstd);
}

}  // namespace

void bind_norm(py::module_& ops) {
  using py::arg;
  ops.def("layer_norm", &layer_norm, arg("x"), arg("weight") = py::none(), arg("bias") = py::none(), arg("eps") = 1e-5,
          R"(Layer norm over the last axis (Ba, Kiros, Hinton 2016), biased variance, eps inside the root.

x: (..., n); weight, bias: (n,) or None. Returns (y, mean, rstd), y of x's shape, mean and rstd of x.shape[:-1].)");
  ops.def("layer_norm_backward", &layer_norm_backward_py, arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("rstd"),
          R"(Gradients of layer_norm: (dx, dweight, dbias).

With a weight, dweight and dbias (n,) are both returned, for this call does not know whether there was a bias; with weight None both are None. The
mean is recomputed from x, as the one handed in is rounded.)");
  ops.def("rms_norm", &rms_norm, arg("x"), arg("weight") = py::none(), arg("eps") = 1e-6,
          R"(Root mean square norm over the last axis (Zhang, Sennrich 2019): y = x / sqrt(mean x^2 + eps) weight.

x: (..., n); weight: (n,) or None. Returns (y, rstd), rstd of x.shape[:-1].)");
  ops.def("rms_norm_backward", &rms_norm_backward_py, arg("dy"), arg("x"), arg("weight"), arg("rstd"),
          "Gradients of rms_norm: (dx, dweight); dweight is None when weight is None.");
}

}  // namespace loopos::bind
