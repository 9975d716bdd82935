// loopos.ops: the modulation of a row by a gate and an added part.
#include "ops/modulate.h"

#include <cmath>

#include "ops.h"

namespace loopos::bind {
namespace {

/// body(x, z, gate, additive_scale) with what forward and backward share, checked. z: an array of x's shape, or without
/// data where it is None.
template <class Body>
auto checked(const char* function, const py::object& x, const py::object& z, const std::string& gate,
             const py::object& additive_scale, Body&& body) {
  const GateKind& kind = gate_kind(cat(function, ": gate").c_str(), gate);
  const double scale = scalar(function, "additive_scale", additive_scale);
  require(std::isfinite(scale), function, ": additive_scale must be finite, got ", scale);
  return by_dtype(function, "x", x, [&](auto t) {
    using T = decltype(t);
    const auto in = input<T>(function, "x", x);
    return body(in, z.is_none() ? Array<T>{} : input<T>(function, "z", z, in.shape), kind, scale);
  });
}

py::object modulate(const py::object& x, const py::object& z, const py::object& d, const std::string& gate,
                    const py::object& additive_scale) {
  const char* f = "modulate";
  return checked(f, x, z, gate, additive_scale,
                 [&](const auto& in, const auto& gated, const GateKind& kind, double scale) -> py::object {
                   using T = std::remove_const_t<std::remove_pointer_t<decltype(in.data)>>;
                   const auto added = input<T>(f, "d", d, in.shape);
                   auto y = output<T>(in.shape);
                   T* out = y.mutable_data();
                   const Index n = in.size();
                   const Computing computing;
                   modulate_forward(kind, in.data, gated.data, added.data, n, scale, out);
                   return std::move(y);
                 });
}

py::tuple modulate_back(const py::object& dy, const py::object& x, const py::object& z, const std::string& gate,
                        const py::object& additive_scale) {
  const char* f = "modulate_backward";
  return checked(
      f, x, z, gate, additive_scale,
      [&](const auto& in, const auto& gated, const GateKind& kind, double scale) -> py::tuple {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(in.data)>>;
        const auto gradient = input<T>(f, "dy", dy, in.shape);
        auto dx = output<T>(in.shape), dd = output<T>(in.shape);
        py::array_t<T> dz;
        if (!z.is_none()) dz = output<T>(in.shape);
        T *out_x = dx.mutable_data(), *out_d = dd.mutable_data(), *out_z = z.is_none() ? nullptr : dz.mutable_data();
        const Index n = in.size();
        {
          const Computing computing;
          modulate_backward(kind, gradient.data, in.data, gated.data, n, scale, out_x, out_z, out_d);
        }
        return py::make_tuple(std::move(dx), z.is_none() ? py::object(py::none()) : std::move(dz), std::move(dd));
      });
}

}  // namespace

void bind_modulate(py::module_& ops) {
  using py::arg;
  ops.def("modulate", &modulate, arg("x"), arg("z"), arg("d"), py::kw_only(), arg("gate") = "sigmoid",
          arg("additive_scale") = 0.1, R"(y = gate(z) x + additive_scale d, element by element.

x, z, d: of one shape and dtype; z None: no gate, y = x + additive_scale d. gate: "sigmoid", 1/2 + sigmoid(z); "tanh",
1 + tanh(z) / 2; both 1 at 0 and between 1/2 and 3/2; "document", 1/2 + sigmoid(z) / 2, which is 3/4 at 0. An unknown
name or a scale that is not finite: ValueError. Returns y of x's shape.)");
  ops.def("modulate_backward", &modulate_back, arg("dy"), arg("x"), arg("z"), py::kw_only(), arg("gate") = "sigmoid",
          arg("additive_scale") = 0.1, R"(Gradients of modulate: (dx, dz, dd).

dx = dy gate(z), dz = dy x gate'(z), dd = additive_scale dy. dy, x, z: of one shape and dtype; z None: dz is None.)");
}

}  // namespace loopos::bind
