// loopos.ops: weights that are stored small, and the linear layer with one.
#include "ops/stored_linear.h"

#include <memory>

#include "ops.h"
#include "stored.h"

namespace loopos::bind {
namespace {

std::unique_ptr<StoredWeight> store(const py::object& weight_in, const std::string& storage) {
  const auto from = input<float>("store", "weight", weight_in, 2);
  auto weight = std::make_unique<StoredWeight>();
  weight->kind = storage_of(storage);
  weight->out = from.shape[0];
  weight->in = from.shape[1];
  Index refused = -1;
  {
    const Computing computing;
    allocate_stored(*weight);
    refused = store_rows(*weight, from.data, 0, weight->out);
  }
  if (refused >= 0)
    throw std::invalid_argument(cat("store: weight[", refused / weight->in, ", ", refused % weight->in, "] is ",
                                    from.data[refused], ", which cannot be stored as ", storage));
  return weight;
}

py::array stored_linear(const py::object& x_in, const StoredWeight& weight, const py::object& bias_in) {
  const char* f = "stored_linear";
  const auto x = input<float>(f, "x", x_in, -1);
  require(x.last() == weight.in, f, ": the last axis of x must be ", weight.in, ", the columns of the weight, got x ",
          text(x.shape));
  Array<float> bias;
  if (!bias_in.is_none()) bias = input<float>(f, "bias", bias_in, Shape{weight.out});
  Shape shape = x.shape;
  shape.back() = weight.out;
  auto y = output<float>(shape);
  float* out = y.mutable_data();
  const Computing computing;
  stored_linear_forward(x.data, weight, bias_in.is_none() ? nullptr : bias.data, x.leading(), out);
  return std::move(y);
}

py::array stored_linear_backward_py(const py::object& dy_in, const StoredWeight& weight) {
  const char* f = "stored_linear_backward";
  const auto dy = input<float>(f, "dy", dy_in, -1);
  require(dy.last() == weight.out, f, ": the last axis of dy must be ", weight.out, ", the rows of the weight, got dy ",
          text(dy.shape));
  Shape shape = dy.shape;
  shape.back() = weight.in;
  auto dx = output<float>(shape);
  float* out = dx.mutable_data();
  const Computing computing;
  stored_linear_backward(dy.data, weight, dy.leading(), out);
  return std::move(dx);
}

}  // namespace

void bind_stored(py::module_& ops) {
  using py::arg;
  py::class_<StoredWeight>(ops, "StoredWeight", "A frozen weight (O, I) in a small storage type; ops.store makes one.")
      .def_property_readonly("storage", [](const StoredWeight& w) { return storage_name(w.kind); })
      .def_property_readonly("shape", [](const StoredWeight& w) { return py::make_tuple(w.out, w.in); })
      .def_property_readonly("nbytes", [](const StoredWeight& w) { return w.bytes.size(); })
      .def(
          "numpy", [](const StoredWeight& w) { return load_from(w, 0, w.out); },
          "The numbers that products compute with, (O, I) float32.");
  ops.def("store", &store, arg("weight"), arg("storage"),
          R"(A frozen copy of weight (O, I) float32 in a small storage type, of which only products are taken.

storage: "bfloat16" (nearest, ties to even), "int8" (32 numbers of a row share a float16 scale s; q = round(w / s) from -127 to 127),
"int4-symmetric" (the same with -7 to 7) or "nf4" (64 numbers of a row share s = max |w|; q is the nearest of the 16 levels of NF4).
ValueError names a number that cannot be stored: NaN, infinite, or beyond the range.)");
  ops.def("stored_linear", &stored_linear, arg("x"), arg("weight"), arg("bias") = py::none(),
          "y = x W^T + bias as linear computes it on weight.numpy(), to the same bits. x: (..., I) float32; weight: of "
          "store. Returns y (..., O).");
  ops.def("stored_linear_backward", &stored_linear_backward_py, arg("dy"), arg("weight"),
          "dx (..., I) = dy W of stored_linear for dy (..., O). The weight is frozen: it has no gradient.");
}

}  // namespace loopos::bind
