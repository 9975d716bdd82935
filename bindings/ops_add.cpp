// loopos.ops: addition, and the addition of learned positions.
#include "ops/add.h"

#include <numeric>
#include <vector>

#include "ops.h"
#include "ops/embedding.h"
#include "ops/position_embedding.h"

namespace loopos::bind {
namespace {

py::object add(const py::object& a, const py::object& b) {
  return by_dtype("add", "a", a, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto first = input<T>("add", "a", a);
    const auto second = input<T>("add", "b", b, first.shape);
    auto y = output<T>(first.shape);
    T* out = y.mutable_data();
    const Index n = first.size();
    const Computing computing;
    add_forward(first.data, second.data, n, out);
    return std::move(y);
  });
}

py::tuple add_back(const py::object& dy) {
  return by_dtype("add_backward", "dy", dy, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto gradient = input<T>("add_backward", "dy", dy);
    auto da = output<T>(gradient.shape), db = output<T>(gradient.shape);
    T *out_a = da.mutable_data(), *out_b = db.mutable_data();
    const Index n = gradient.size();
    {
      const Computing computing;
      add_backward(gradient.data, n, out_a, out_b);
    }
    return py::make_tuple(std::move(da), std::move(db));
  });
}

/// The positions that are given, or start, start + 1, ...; each must be in the table.
struct Places {
  Array<std::int64_t> given;
  std::vector<Index> counted;
  Positions positions;

  Places(const char* function, const Shape& x, const py::object& start, const py::object& list, Index rows) {
    const Index batch = x[0], time = x[1], first = whole(function, "start", start);
    if (list.is_none()) {
      require(first >= 0 && first <= rows && time <= rows - first, function, ": positions ", first, " to ", first,
              " + ", time, " - 1 must lie in the table of ", rows, " positions");
      counted.resize(static_cast<std::size_t>(time));
      std::iota(counted.begin(), counted.end(), first);
      positions.data = counted.data();
      return;
    }
    require(first == 0, function, ": start and positions say the same thing, give one of them, got start=", first);
    given = integers(function, "positions", list);
    const Shape each = {batch, time};
    require(given.shape == each, function, ": positions must have shape (B, T) = ", text(each), ", got ",
            text(given.shape));
    check_ids(function, "positions", given.data, given.size(), rows);
    positions = {given.data, time};
  }
};

py::object position_embedding(const py::object& x, const py::object& weight, const py::object& start,
                              const py::object& positions) {
  const char* name = "position_embedding";
  return by_dtype(name, "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(name, "x", x, 3);
    const auto table = input<T>(name, "weight", weight, 2);
    const Index batch = in.shape[0], time = in.shape[1], width = in.shape[2];
    require(table.shape[1] == width, name, ": weight must have shape (positions, ", width, "), got ",
            text(table.shape));
    const Places places(name, in.shape, start, positions, table.shape[0]);
    auto y = output<T>(in.shape);
    T* out = y.mutable_data();
    const Computing computing;
    position_embedding_forward(in.data, table.data, places.positions, batch, time, width, out);
    return std::move(y);
  });
}

py::tuple position_embedding_back(const py::object& dy, const py::object& num_positions, const py::object& start,
                                  const py::object& positions) {
  const char* name = "position_embedding_backward";
  return by_dtype(name, "dy", dy, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto in = input<T>(name, "dy", dy, 3);
    const Index batch = in.shape[0], time = in.shape[1], width = in.shape[2],
                rows = whole(name, "num_positions", num_positions);
    require(rows >= 0, name, ": num_positions must be at least 0, got ", rows);
    const Places places(name, in.shape, start, positions, rows);
    auto dx = output<T>(in.shape);
    auto dweight = zeros<T>({rows, width});
    T *out = dx.mutable_data(), *table = dweight.mutable_data();
    {
      const Computing computing;
      add_backward<T>(in.data, in.size(), out, nullptr);
      position_embedding_backward(in.data, places.positions, batch, time, rows, width, table);
    }
    return py::make_tuple(std::move(dx), std::move(dweight));
  });
}

}  // namespace

void bind_add(py::module_& ops) {
  using py::arg;
  ops.def("add", &add, arg("a"), arg("b"), R"(a + b, element by element; nothing is broadcast.

a, b: of one shape and dtype. Returns y of that shape.)");
  ops.def("add_backward", &add_back, arg("dy"), R"(Gradients of add: (da, db), both equal to dy.

dy: any shape, float32 or float64.)");
  ops.def("position_embedding", &position_embedding, arg("x"), arg("weight"), py::kw_only(), arg("start") = 0,
          arg("positions") = py::none(),
          R"(Learned positions (arXiv:1706.03762, section 3.5): y[b, t] = x[b, t] + weight[start + t].

x: (B, T, C). weight: (positions, C) of x's dtype. start: position of the first row; start + T may not exceed positions (ValueError).
positions: None, or int (B, T) in place of start + t, each from 0 to positions - 1 (IndexError). Returns y (B, T, C).)");
  ops.def("position_embedding_backward", &position_embedding_back, arg("dy"), arg("num_positions"), py::kw_only(),
          arg("start") = 0, arg("positions") = py::none(), R"(Gradients of position_embedding: (dx, dweight).

dy: (B, T, C). dx is dy; dweight (num_positions, C) has at start + t the sum of dy[:, t], or at each of the
positions (B, T) the sum of its rows of dy, and zeros elsewhere.)");
}

}  // namespace loopos::bind
