// loopos.ops: the low-rank part of a projection.
#include "ops/low_rank.h"

#include <cmath>

#include "ops.h"

namespace loopos::bind {
namespace {

/// x, a, b, and the part that they make of a projection with `out` rows.
template <class T>
struct Part {
  Array<T> x, a, b;
  LowRanks<T> parts;
  Index rows, in, rank;
};

template <class T>
Part<T> part_of(const char* f, const py::object& x_in, const py::object& a_in, const py::object& b_in, double scale,
                Index first) {
  Part<T> part{input<T>(f, "x", x_in, -1), input<T>(f, "a", a_in, 2), input<T>(f, "b", b_in, 2), {}, 0, 0, 0};
  part.rows = part.x.leading();
  part.in = part.x.last();
  part.rank = part.a.shape[0];
  require(part.a.last() == part.in, f, ": a must be (R, I) with I the last axis of x, got a ", text(part.a.shape),
          " and x ", text(part.x.shape));
  require(part.b.last() == part.rank, f, ": b must be (O, R) with R the first axis of a, got b ", text(part.b.shape),
          " and a ", text(part.a.shape));
  require(std::isfinite(scale), f, ": scale must be finite, got ", scale);
  require(first >= 0, f, ": first must not be negative, got ", first);
  part.parts = {{part.a.data, part.b.data, first, part.b.shape[0], part.rank, scale}};
  return part;
}

/// The shape of y: x's, with `out` numbers a row.
Shape rows_of(Shape shape, Index out) {
  shape.back() = out;
  return shape;
}

template <class T>
Array<T> wide_enough(const char* f, const char* name, const py::object& y_in, const Part<T>& part) {
  auto y = input<T>(f, name, y_in, -1);
  const auto& one = part.parts.front();
  require(y.shape == rows_of(part.x.shape, y.last()) && one.first <= y.last() - one.width, f, ": ", name,
          " must have the leading axes of x, ", text(part.x.shape),
          ", and at least first + O = ", one.first + one.width, " columns, got ", text(y.shape));
  return y;
}

py::object low_rank(const py::object& x_in, const py::object& a_in, const py::object& b_in, const py::object& y_in,
                    double scale, const py::object& first_in) {
  const char* f = "low_rank";
  return by_dtype(f, "x", x_in, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto part = part_of<T>(f, x_in, a_in, b_in, scale, whole(f, "first", first_in));
    Array<T> from;
    Index out = part.parts.front().first + part.parts.front().width;
    if (!y_in.is_none()) {
      from = wide_enough(f, "y", y_in, part);
      out = from.last();
    }
    auto y = zeros<T>(rows_of(part.x.shape, out));
    auto ax = output<T>(Shape{part.rows, part.rank});
    T *to = y.mutable_data(), *inner = ax.mutable_data();
    const Computing computing;
    if (from.data) std::copy_n(from.data, from.size(), to);
    low_rank_inner_forward(part.x.data, part.parts, {}, part.rows, part.in, inner);
    low_rank_forward(static_cast<const T*>(inner), part.parts, part.rows, out, to);
    return std::move(y);
  });
}

py::tuple low_rank_backward_py(const py::object& dy_in, const py::object& x_in, const py::object& a_in,
                               const py::object& b_in, double scale, const py::object& first_in) {
  const char* f = "low_rank_backward";
  return by_dtype(f, "dy", dy_in, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto part = part_of<T>(f, x_in, a_in, b_in, scale, whole(f, "first", first_in));
    const auto dy = wide_enough(f, "dy", dy_in, part);
    const Index out = dy.last();
    auto dx = zeros<T>(part.x.shape);
    auto da = output<T>(part.a.shape), db = output<T>(part.b.shape);
    auto ax = output<T>(Shape{part.rows, part.rank}), dax = output<T>(Shape{part.rows, part.rank});
    T *dx_out = dx.mutable_data(), *inner = ax.mutable_data(), *dinner = dax.mutable_data();
    const std::vector<LowRankGradient<T>> gradients{{da.mutable_data(), db.mutable_data(), false, false}};
    {
      const Computing computing;
      low_rank_inner_forward(part.x.data, part.parts, {}, part.rows, part.in, inner);
      low_rank_inner_backward(dy.data, part.parts, part.rows, out, dinner);
      low_rank_backward(static_cast<const T*>(dinner), part.parts, {}, part.rows, part.in, dx_out);
      low_rank_weight_gradients(dy.data, part.x.data, static_cast<const T*>(inner), static_cast<const T*>(dinner),
                                part.parts, {}, part.rows, part.in, out, gradients);
    }
    return py::make_tuple(std::move(dx), std::move(da), std::move(db));
  });
}

}  // namespace

void bind_low_rank(py::module_& ops) {
  using py::arg;
  ops.def("low_rank", &low_rank, arg("x"), arg("a"), arg("b"), arg("y") = py::none(), py::kw_only(), arg("scale") = 1.0,
          arg("first") = 0,
          R"(The low-rank part of a projection (LoRA, Hu et al. 2021): y[..., first : first + O] + scale (x a^T) b^T.

x: (..., I); a: (R, I); b: (O, R); y: None for zeros (..., first + O), or an array with the leading axes of x and at least as many columns.
scale: a finite number. Returns y with the part added; columns outside of it are copied.)");
  ops.def("low_rank_backward", &low_rank_backward_py, arg("dy"), arg("x"), arg("a"), arg("b"), py::kw_only(),
          arg("scale") = 1.0, arg("first") = 0,
          "(dx, da, db) of low_rank for dy, of y's shape; the gradient of y itself is dy.");
}

}  // namespace loopos::bind
