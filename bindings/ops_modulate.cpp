// loopos.ops: the modulation of a row by a gate and an added part.
#include "ops/modulate.h"

#include <cmath>

#include "ops.h"

namespace loopos::bind {
namespace {

/// An array of x's shape, or None: no array.
template <class T>
Array<T> optional(const char* function, const char* argument, const py::object& value, const Shape& shape) {
  return value.is_none() ? Array<T>{} : input<T>(function, argument, value, shape);
}

const GateKind& named(const char* function, const std::string& gate) {
  return gate_kind(cat(function, ": gate").c_str(), gate);
}

double finite_scale(const char* function, const py::object& scale) {
  const double value = scalar(function, "additive_scale", scale);
  require(std::isfinite(value), function, ": additive_scale must be finite, got ", value);
  return value;
}

py::object modulate(const py::object& x, const py::object& z, const py::object& d, const std::string& gate,
                    const py::object& additive_scale) {
  const char* name = "modulate";
  const GateKind& kind = named(name, gate);
  const double scale = finite_scale(name, additive_scale);
  return by_dtype(name, "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(name, "x", x);
    const auto gated = optional<T>(name, "z", z, in.shape);
    const auto added = input<T>(name, "d", d, in.shape);
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
  const char* name = "modulate_backward";
  const GateKind& kind = named(name, gate);
  const double scale = finite_scale(name, additive_scale);
  return by_dtype(name, "x", x, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto in = input<T>(name, "x", x);
    const auto gated = optional<T>(name, "z", z, in.shape);
    const auto gradient = input<T>(name, "dy", dy, in.shape);
    auto dx = output<T>(in.shape), dd = output<T>(in.shape);
    py::object dz = py::none();
    T *out_x = dx.mutable_data(), *out_d = dd.mutable_data(), *out_z = nullptr;
    if (!z.is_none()) {
      auto made = output<T>(in.shape);
      out_z = made.mutable_data();
      dz = std::move(made);
    }
    const Index n = in.size();
    {
      const Computing computing;
      modulate_backward(kind, gradient.data, in.data, gated.data, n, scale, out_x, out_z, out_d);
    }
    return py::make_tuple(std::move(dx), std::move(dz), std::move(dd));
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
