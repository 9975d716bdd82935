// loopos.ops: elementwise activations and gated ones.
#include "ops.h"
#include "ops/activation.h"
#include "ops/gated.h"

namespace loopos::bind {

namespace {

py::object activate(const char* function, Activation kind, const py::object& x) {
  return by_dtype(function, "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(function, "x", x);
    auto y = output<T>(in.shape);
    T* out = y.mutable_data();
    const Index n = in.size();
    const Computing computing;
    activation_forward(kind, in.data, n, out);
    return std::move(y);
  });
}

py::object activate_back(const char* function, Activation kind, const py::object& dy, const py::object& x) {
  return by_dtype(function, "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(function, "x", x);
    const auto gradient = input<T>(function, "dy", dy, in.shape);
    auto dx = output<T>(in.shape);
    T* out = dx.mutable_data();
    const Index n = in.size();
    const Computing computing;
    activation_backward(kind, gradient.data, in.data, n, out);
    return std::move(dx);
  });
}

Activation gelu_kind(const char* function, const std::string& approximate) {
  if (approximate == "tanh") return Activation::gelu_tanh;
  require(approximate == "none", function, ": approximate must be 'none' or 'tanh', got '", approximate, "'");
  return Activation::gelu;
}

template <Activation kind>
void define(py::module_& ops, const char* name, const char* back, const char* formula, const char* slope) {
  ops.def(
      name, [name](const py::object& x) { return activate(name, kind, x); }, py::arg("x"),
      cat("y = ", formula, ", element by element.\n\nx: any shape, float32 or float64. Returns y of x's shape.")
          .c_str());
  ops.def(
      back, [back](const py::object& dy, const py::object& x) { return activate_back(back, kind, dy, x); },
      py::arg("dy"), py::arg("x"),
      cat("Gradient of ", name, ": dx = dy ", slope, ".\n\ndy, x: of one shape and dtype. Returns dx of that shape.")
          .c_str());
}

py::object gate(const char* function, Activation f, const py::object& gate, const py::object& up) {
  return by_dtype(function, "gate", gate, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto g = input<T>(function, "gate", gate);
    const auto u = input<T>(function, "up", up, g.shape);
    auto y = output<T>(g.shape);
    T* out = y.mutable_data();
    const Index n = g.size();
    const Computing computing;
    gated_forward(f, g.data, u.data, 1, n, n, out);
    return std::move(y);
  });
}

py::tuple gate_back(const char* function, Activation f, const py::object& dy, const py::object& gate,
                    const py::object& up) {
  return by_dtype(function, "gate", gate, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto g = input<T>(function, "gate", gate);
    const auto u = input<T>(function, "up", up, g.shape);
    const auto d = input<T>(function, "dy", dy, g.shape);
    auto dgate = output<T>(g.shape), dup = output<T>(g.shape);
    T *out_gate = dgate.mutable_data(), *out_up = dup.mutable_data();
    const Index n = g.size();
    {
      const Computing computing;
      gated_backward(f, d.data, g.data, u.data, 1, n, n, out_gate, out_up);
    }
    return py::make_tuple(std::move(dgate), std::move(dup));
  });
}

Activation named(const char* function, const std::string& f) {
  return activation_named(cat(function, ": f").c_str(), f);
}

}  // namespace

void bind_activation(py::module_& ops) {
  using py::arg;
  define<Activation::relu>(ops, "relu", "relu_backward", "max(x, 0)", "where x > 0, else 0");
  define<Activation::silu>(ops, "silu", "silu_backward", "x sigmoid(x)", "s (1 + x (1 - s)) with s = sigmoid(x)");
  define<Activation::sigmoid>(ops, "sigmoid", "sigmoid_backward", "1 / (1 + exp(-x))", "s (1 - s) with s = sigmoid(x)");
  define<Activation::tanh>(ops, "tanh", "tanh_backward", "tanh(x)", "(1 - tanh(x)**2)");
  ops.def(
      "gelu",
      [](const py::object& x, const std::string& approximate) {
        return activate("gelu", gelu_kind("gelu", approximate), x);
      },
      arg("x"), arg("approximate") = "none", R"(Gaussian error linear unit (arXiv:1606.08415).

approximate "none": x Phi(x), Phi the normal distribution function; "tanh": x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))) / 2.
x: any shape, float32 or float64. Returns y of x's shape.)");
  ops.def(
      "gelu_backward",
      [](const py::object& dy, const py::object& x, const std::string& approximate) {
        return activate_back("gelu_backward", gelu_kind("gelu_backward", approximate), dy, x);
      },
      arg("dy"), arg("x"), arg("approximate") = "none", R"(Gradient of gelu with the same `approximate`.

dy, x: of one shape and dtype. Returns dx of that shape.)");
  ops.def(
      "swiglu", [](const py::object& g, const py::object& up) { return gate("swiglu", Activation::silu, g, up); },
      arg("gate"), arg("up"), R"(silu(gate) * up, element by element (arXiv:2002.05202).

gate, up: of one shape and dtype. Returns y of that shape.)");
  ops.def(
      "swiglu_backward",
      [](const py::object& dy, const py::object& g, const py::object& up) {
        return gate_back("swiglu_backward", Activation::silu, dy, g, up);
      },
      arg("dy"), arg("gate"), arg("up"), R"(Gradients of swiglu: (dgate, dup).

dy, gate, up: of one shape and dtype.)");
  ops.def(
      "activation",
      [](const py::object& x, const std::string& f) { return activate("activation", named("activation", f), x); },
      arg("x"), arg("f"), R"(y = f(x), element by element, f by its name.

x: any shape, float32 or float64. f: "relu", "gelu_tanh" ...; an unknown name is a ValueError that lists them; formulas:
cpp/kernels/isa/activations.h. Returns y of x's shape.)");
  ops.def(
      "activation_backward",
      [](const py::object& dy, const py::object& x, const std::string& f) {
        return activate_back("activation_backward", named("activation_backward", f), dy, x);
      },
      arg("dy"), arg("x"), arg("f"), R"(Gradient of activation: dx = dy f'(x).

dy, x: of one shape and dtype. Returns dx of that shape.)");
  ops.def(
      "gated",
      [](const py::object& g, const py::object& up, const std::string& f) {
        return gate("gated", named("gated", f), g, up);
      },
      arg("gate"), arg("up"), arg("f"), R"(f(gate) * up, element by element (arXiv:2002.05202), f as in activation.

gate, up: of one shape and dtype. Returns y of that shape.)");
  ops.def(
      "gated_backward",
      [](const py::object& dy, const py::object& g, const py::object& up, const std::string& f) {
        return gate_back("gated_backward", named("gated_backward", f), dy, g, up);
      },
      arg("dy"), arg("gate"), arg("up"), arg("f"), R"(Gradients of gated: (dgate, dup).

dy, gate, up: of one shape and dtype.)");
}

}  // namespace loopos::bind
