// loopos.ops, first part: the index of the operations' bindings, and the softmax family.
#include "ops.h"

#include "ops/softmax.h"

namespace loopos::bind {

namespace {

py::object softmax(const py::object& x) {
  return by_dtype("softmax", "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>("softmax", "x", x, -1);
    auto y = output<T>(in.shape);
    T* out = y.mutable_data();
    py::gil_scoped_release unlocked;
    softmax_forward(in.data, in.rows(), in.last(), out);
    return std::move(y);
  });
}

}  // namespace

void bind_softmax(py::module_& ops) {
  ops.def("softmax", &softmax, py::arg("x"), R"(Softmax over the last axis.

x: (..., n), float32 or float64. Returns y of x's shape. A row that is all -inf (fully masked) gives zeros and is counted
(loopos.guard_counts()["softmax"]); a NaN or +inf makes its row NaN.)");
}

}  // namespace loopos::bind
