// loopos.ops: a linear layer adapted by DoRA, as a whole.
#include "ops/dora.h"

#include <cmath>

#include "ops.h"
#include "ops/linear.h"

namespace loopos::bind {
namespace {

/// The checked arguments, and what forward and backward share: the gains of the rows, 1 / their lengths, ax and z.
template <class T>
struct Layer {
  Array<T> x, weight, a, b, magnitude;
  LowRanks<T> parts;
  Index rows, in, out;
  std::vector<double> norms;
  std::vector<T> gain, inverse;

  void measure() {
    const ReadRows<T> read = [&](Index first, Index n, T* to) { std::copy_n(weight.data + first * in, n * in, to); };
    dora_norms(read, parts.front(), in, norms.data());
    dora_gains(magnitude.data, norms.data(), out, gain.data(), inverse.data());
  }
  void multiply(T* ax, T* z) const {
    linear_forward(x.data, weight.data, static_cast<const T*>(nullptr), rows, in, out, z);
    low_rank_inner_forward(x.data, parts, {}, rows, in, ax);
    low_rank_forward(static_cast<const T*>(ax), parts, rows, out, z);
  }
};

template <class T>
Layer<T> layer_of(const char* f, const py::object& x_in, const py::object& weight_in, const py::object& a_in,
                  const py::object& b_in, const py::object& magnitude_in, double scale) {
  Layer<T> layer;
  layer.x = input<T>(f, "x", x_in, -1);
  layer.weight = input<T>(f, "weight", weight_in, 2);
  layer.in = layer.x.last();
  layer.rows = layer.x.leading();
  layer.out = layer.weight.shape[0];
  require(layer.weight.last() == layer.in, f, ": weight must be (O, I) with I the last axis of x, got weight ",
          text(layer.weight.shape), " and x ", text(layer.x.shape));
  layer.a = input<T>(f, "a", a_in, 2);
  const Index rank = layer.a.shape[0];
  require(layer.a.last() == layer.in, f, ": a must be (R, I) with I the last axis of x, got a ", text(layer.a.shape),
          " and x ", text(layer.x.shape));
  layer.b = input<T>(f, "b", b_in, Shape{layer.out, rank});
  layer.magnitude = input<T>(f, "magnitude", magnitude_in, Shape{layer.out});
  require(std::isfinite(scale), f, ": scale must be finite, got ", scale);
  layer.parts = {{layer.a.data, layer.b.data, 0, layer.out, rank, scale}};
  const auto out = static_cast<std::size_t>(layer.out);
  layer.norms.resize(out);
  layer.gain.resize(out);
  layer.inverse.resize(out);
  return layer;
}

py::object dora(const py::object& x_in, const py::object& weight, const py::object& a, const py::object& b,
                const py::object& magnitude, const py::object& bias_in, double scale) {
  const char* f = "dora";
  return by_dtype(f, "x", x_in, [&](auto t) -> py::object {
    using T = decltype(t);
    auto layer = layer_of<T>(f, x_in, weight, a, b, magnitude, scale);
    Array<T> bias;
    if (!bias_in.is_none()) bias = input<T>(f, "bias", bias_in, Shape{layer.out});
    Shape shape = layer.x.shape;
    shape.back() = layer.out;
    auto y = output<T>(shape), ax = output<T>(Shape{layer.rows, layer.parts.front().rank});
    T *to = y.mutable_data(), *inner = ax.mutable_data();
    const Computing computing;
    layer.measure();
    layer.multiply(inner, to);
    dora_forward(layer.gain.data(), bias.data, static_cast<const T*>(nullptr), layer.rows, layer.out, to);
    return std::move(y);
  });
}

py::tuple dora_backward_py(const py::object& dy_in, const py::object& x_in, const py::object& weight,
                           const py::object& a, const py::object& b, const py::object& magnitude, double scale) {
  const char* f = "dora_backward";
  return by_dtype(f, "dy", dy_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    auto layer = layer_of<T>(f, x_in, weight, a, b, magnitude, scale);
    Shape shape = layer.x.shape;
    shape.back() = layer.out;
    const auto dy = input<T>(f, "dy", dy_in, shape);
    const Index rows = layer.rows, in = layer.in, out = layer.out, rank = layer.parts.front().rank;
    auto dx = output<T>(layer.x.shape), da = output<T>(layer.a.shape), db = output<T>(layer.b.shape);
    auto dm = zeros<T>(Shape{out});
    auto ax = output<T>(Shape{rows, rank}), dax = output<T>(Shape{rows, rank});
    auto z = output<T>(Shape{rows, out}), dz = output<T>(Shape{rows, out});
    T *dx_out = dx.mutable_data(), *dm_out = dm.mutable_data(), *inner = ax.mutable_data();
    T *dinner = dax.mutable_data(), *product = z.mutable_data(), *dproduct = dz.mutable_data();
    const std::vector<LowRankGradient<T>> gradients{{da.mutable_data(), db.mutable_data(), false, false}};
    {
      const Computing computing;
      layer.measure();
      layer.multiply(inner, product);
      dora_backward(dy.data, static_cast<const T*>(layer.gain.data()), rows, out, dproduct);
      linear_backward(static_cast<const T*>(dproduct), layer.weight.data, rows, in, out, dx_out);
      low_rank_inner_backward(static_cast<const T*>(dproduct), layer.parts, rows, out, dinner);
      low_rank_backward(static_cast<const T*>(dinner), layer.parts, {}, rows, in, dx_out);
      low_rank_weight_gradients(static_cast<const T*>(dproduct), layer.x.data, static_cast<const T*>(inner),
                                static_cast<const T*>(dinner), layer.parts, {}, rows, in, out, gradients);
      dora_magnitude_gradient(dy.data, static_cast<const T*>(layer.inverse.data()), rows, Index{0}, out, out, product,
                              dm_out);
    }
    return py::make_tuple(std::move(dx), std::move(da), std::move(db), std::move(dm));
  });
}

}  // namespace

void bind_dora(py::module_& ops) {
  using py::arg;
  ops.def(
      "dora", &dora, arg("x"), arg("weight"), arg("a"), arg("b"), arg("magnitude"), arg("bias") = py::none(),
      py::kw_only(), arg("scale") = 1.0,
      R"(A linear layer adapted by DoRA (Liu et al. 2024): y = m / c * (x (weight + scale b a)^T) + bias, c the lengths of the rows of weight + scale b a.

x: (..., I); weight: (O, I); a: (R, I); b: (O, R); magnitude m: (O,); bias: (O,) or None; scale: a finite number. Returns y (..., O). A row of
length 0 gives inf or NaN.)");
  ops.def("dora_backward", &dora_backward_py, arg("dy"), arg("x"), arg("weight"), arg("a"), arg("b"), arg("magnitude"),
          py::kw_only(), arg("scale") = 1.0,
          "(dx, da, db, dmagnitude) of dora for dy (..., O), with c taken as a constant, as in the paper; weight is "
          "frozen.");
}

}  // namespace loopos::bind
