// loopos.ops: matmul, linear, embedding, rope.
#include <cmath>

#include "ops.h"
#include "ops/column_sums.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/rope.h"

namespace loopos::bind {
namespace {

/// What a and b say together: leading axes (batch), m, k, n, and whether one b serves all.
struct Product {
  Shape c;
  Index batch, m, k, n;
  bool b_shared;
};

template <class T>
Product product_of(const char* function, const Array<T>& a, const Array<T>& b) {
  require(a.ndim() >= 2, function, ": a must be (..., M, K), got shape ", text(a.shape));
  require(b.ndim() >= 2, function, ": b must be (..., K, N) or (K, N), got shape ", text(b.shape));
  const Index m = a.shape[a.shape.size() - 2], k = a.last(), n = b.last();
  const bool shared = b.ndim() == 2;
  require(shared || Shape(a.shape.begin(), a.shape.end() - 2) == Shape(b.shape.begin(), b.shape.end() - 2), function,
          ": the leading axes of b must equal those of a (or b must be (K, N)), got a ", text(a.shape), " and b ",
          text(b.shape));
  require(b.shape[b.shape.size() - 2] == k, function, ": the inner axes must agree: a ", text(a.shape), " has K = ", k,
          ", b ", text(b.shape), " has K = ", b.shape[b.shape.size() - 2]);
  Product p{a.shape, 1, m, k, n, shared};
  p.c.back() = n;
  for (std::size_t i = 0; i + 2 < a.shape.size(); ++i) p.batch *= a.shape[i];
  return p;
}

py::object matmul(const py::object& a_in, const py::object& b_in, const std::string& precision_name) {
  const Precision precision = precision_from("matmul", precision_name);
  return by_dtype("matmul", "a", a_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto a = input<T>("matmul", "a", a_in), b = input<T>("matmul", "b", b_in);
    const Product p = product_of("matmul", a, b);
    auto c = output<T>(p.c);
    T* out = c.mutable_data();
    const Computing computing;
    matmul_forward(a.data, b.data, p.batch, p.m, p.k, p.n, p.b_shared, out, precision);
    return std::move(c);
  });
}

py::tuple matmul_backward_py(const py::object& dc_in, const py::object& a_in, const py::object& b_in,
                             const std::string& precision_name) {
  const char* f = "matmul_backward";
  const Precision precision = precision_from(f, precision_name);
  return by_dtype(f, "dc", dc_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto a = input<T>(f, "a", a_in), b = input<T>(f, "b", b_in);
    const Product p = product_of(f, a, b);
    const auto dc = input<T>(f, "dc", dc_in, p.c);
    auto da = output<T>(a.shape), db = output<T>(b.shape);
    T *da_out = da.mutable_data(), *db_out = db.mutable_data();
    {
      const Computing computing;
      matmul_backward(dc.data, a.data, b.data, p.batch, p.m, p.k, p.n, p.b_shared, da_out, db_out, precision);
    }
    return py::make_tuple(std::move(da), std::move(db));
  });
}

template <class T>
Array<T> weight_for(const char* function, const py::object& weight_in, const Array<T>& x) {
  auto weight = input<T>(function, "weight", weight_in, 2);
  require(weight.last() == x.last(), function, ": weight must be (O, I) with I the last axis of x, got weight ",
          text(weight.shape), " and x ", text(x.shape));
  return weight;
}

py::object linear(const py::object& x_in, const py::object& weight_in, const py::object& bias_in,
                  const std::string& precision_name) {
  const Precision precision = precision_from("linear", precision_name);
  return by_dtype("linear", "x", x_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto x = input<T>("linear", "x", x_in, -1);
    const auto weight = weight_for("linear", weight_in, x);
    const Index outs = weight.shape[0];
    Array<T> bias;
    if (!bias_in.is_none()) bias = input<T>("linear", "bias", bias_in, Shape{outs});
    Shape shape = x.shape;
    shape.back() = outs;
    auto y = output<T>(shape);
    T* out = y.mutable_data();
    const Computing computing;
    linear_forward<T>(x.data, weight.data, bias_in.is_none() ? nullptr : bias.data, x.leading(), x.last(), outs, out,
                      nullptr, nullptr, precision);
    return std::move(y);
  });
}

py::tuple linear_backward_py(const py::object& dy_in, const py::object& x_in, const py::object& weight_in,
                             bool has_bias, const std::string& precision_name) {
  const char* f = "linear_backward";
  const Precision precision = precision_from(f, precision_name);
  return by_dtype(f, "dy", dy_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto x = input<T>(f, "x", x_in, -1);
    const auto weight = weight_for(f, weight_in, x);
    const Index outs = weight.shape[0];
    Shape shape = x.shape;
    shape.back() = outs;
    const auto dy = input<T>(f, "dy", dy_in, shape);
    auto dx = output<T>(x.shape), dweight = output<T>(weight.shape), dbias = zeros<T>(Shape{has_bias ? outs : 0});
    T *dx_out = dx.mutable_data(), *dw_out = dweight.mutable_data(), *db_out = dbias.mutable_data();
    {
      const Computing computing;
      linear_backward<T>(dy.data, weight.data, x.leading(), x.last(), outs, dx_out, nullptr, precision);
      linear_weight_gradient(dy.data, x.data, x.leading(), x.last(), outs, false, dw_out, precision);
      if (has_bias) add_column_sums(dy.data, x.leading(), outs, outs, db_out);
    }
    return py::make_tuple(std::move(dx), std::move(dweight), has_bias ? py::object(std::move(dbias)) : py::none());
  });
}

py::object embedding(const py::object& ids_in, const py::object& weight_in) {
  return by_dtype("embedding", "weight", weight_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto ids = integers("embedding", "ids", ids_in);
    const auto weight = input<T>("embedding", "weight", weight_in, 2);
    check_ids("embedding", "ids", ids.data, ids.size(), weight.shape[0]);
    Shape shape = ids.shape;
    shape.push_back(weight.last());
    auto y = output<T>(shape);
    T* out = y.mutable_data();
    const Computing computing;
    embedding_forward(ids.data, weight.data, ids.size(), weight.last(), 1, out);
    return std::move(y);
  });
}

py::object embedding_backward_py(const py::object& dy_in, const py::object& ids_in, const py::object& count) {
  const char* f = "embedding_backward";
  return by_dtype(f, "dy", dy_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto ids = integers(f, "ids", ids_in);
    const auto dy = input<T>(f, "dy", dy_in, -1);
    require(Shape(dy.shape.begin(), dy.shape.end() - 1) == ids.shape, f,
            ": dy must have shape ids.shape + (C,), got dy ", text(dy.shape), " and ids ", text(ids.shape));
    const Index num_embeddings = whole(f, "num_embeddings", count);
    require(num_embeddings >= 0, f, ": num_embeddings must not be negative, got ", num_embeddings);
    check_ids(f, "ids", ids.data, ids.size(), num_embeddings);
    auto dweight = zeros<T>(Shape{num_embeddings, dy.last()});
    T* out = dweight.mutable_data();
    const Computing computing;
    embedding_backward(dy.data, ids.data, ids.size(), dy.last(), num_embeddings, 1, out);
    return std::move(dweight);
  });
}

py::object turn(const char* f, const char* argument, const py::object& x_in, const py::object& positions_in,
                double theta, bool interleaved, bool backward) {
  return by_dtype(f, argument, x_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto x = input<T>(f, argument, x_in, 4);
    const auto positions = integers(f, "positions", positions_in);
    const Index batch = x.shape[0], heads = x.shape[1], time = x.shape[2], width = x.shape[3];
    const Shape each = {batch, time};
    require(positions.shape == Shape{time} || positions.shape == each, f,
            ": positions must have shape (T,) = ", text(Shape{time}), " or (B, T) = ", text(each), ", got ",
            text(positions.shape));
    require(width % 2 == 0, f, ": the head width D must be even, got ", width, " in ", argument, " of shape ",
            text(x.shape));
    require(std::isfinite(theta) && theta > 0, f, ": theta must be a finite number above 0, got ", theta);
    auto y = output<T>(x.shape);
    T* out = y.mutable_data();
    const HeadStrides strides = contiguous_heads(heads, time, width);
    const Computing computing;
    std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
    plain_frequencies(theta, width, frequencies.data());
    const Rotation rotation{frequencies.data(), width, 1, interleaved};
    (backward ? rope_backward<T> : rope_forward<T>)(x.data, strides, {positions.data, positions.ndim() == 2 ? time : 0},
                                                    batch, heads, time, width, rotation, out, strides);
    return std::move(y);
  });
}

py::object rope(const py::object& x, const py::object& positions, double theta, bool interleaved) {
  return turn("rope", "x", x, positions, theta, interleaved, false);
}
py::object rope_backward_py(const py::object& dy, const py::object& positions, double theta, bool interleaved) {
  return turn("rope_backward", "dy", dy, positions, theta, interleaved, true);
}

}  // namespace

void bind_linear(py::module_& ops) {
  using py::arg;
  ops.def("matmul", &matmul, arg("a"), arg("b"), py::kw_only(), arg("precision") = "float32",
          R"(Matrix product over the last two axes.

a: (..., M, K); b: (..., K, N) with the same leading axes, or one (K, N) for all. Returns c (..., M, N). K = 0 gives zeros.
precision, here and in other products: of the factors of float32 products. "float32"; "bf16x3", a relative error of at most 2^-17 a
factor and 2^-15 a product; "bf16", of at most 2^-8 a factor. Sums are float32 under each. float64 products are not affected.)");
  ops.def("matmul_backward", &matmul_backward_py, arg("dc"), arg("a"), arg("b"), py::kw_only(),
          arg("precision") = "float32",
          "(da, db) = (dc b^T, a^T dc) for c = matmul(a, b); db is summed over the leading axes when b is (K, N).");
  ops.def("linear", &linear, arg("x"), arg("weight"), arg("bias") = py::none(), py::kw_only(),
          arg("precision") = "float32", R"(y = x weight^T + bias.

x: (..., I); weight: (O, I); bias: (O,) or None. Returns y (..., O).)");
  ops.def("linear_backward", &linear_backward_py, arg("dy"), arg("x"), arg("weight"), arg("has_bias") = true,
          py::kw_only(), arg("precision") = "float32",
          "(dx, dweight, dbias) of linear for dy (..., O); dbias is None with has_bias=False.");
  ops.def("embedding", &embedding, arg("ids"), arg("weight"), R"(Rows of a table: y[i] = weight[ids[i]].

ids: (...), int32 or int64, from 0 to V - 1 (else IndexError with position and value); weight: (V, C). Returns y (..., C).)");
  ops.def("embedding_backward", &embedding_backward_py, arg("dy"), arg("ids"), arg("num_embeddings"),
          "dweight (num_embeddings, C): the rows of dy (..., C) summed by id, in one fixed order.");
  ops.def("rope", &rope, arg("x"), arg("positions"), py::kw_only(), arg("theta") = 10000.0, arg("interleaved") = false,
          R"(Rotary position embedding (Su et al. 2021).

x: (B, H, T, D), D even; positions: (T,) or (B, T), int32 or int64, any values. Pair i is turned by positions[t] theta^(-2i/D); interleaved=False pairs
element i with i + D/2, True 2i with 2i + 1. Returns y of x's shape.)");
  ops.def("rope_backward", &rope_backward_py, arg("dy"), arg("positions"), py::kw_only(), arg("theta") = 10000.0,
          arg("interleaved") = false, "dx of rope: dy turned back by the same angles.");
}

}  // namespace loopos::bind
