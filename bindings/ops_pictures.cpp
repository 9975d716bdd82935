// loopos.ops: patches of pictures, rows that stand before others, means of rows.
#include <pybind11/stl.h>

#include "ops.h"
#include "ops/patches.h"
#include "ops/pool.h"
#include "ops/prepend.h"

namespace loopos::bind {
namespace {

/// Sizes of pictures (B, H, W, channels), checked.
PatchGrid grid_of(const char* function, const Shape& images, const py::object& patch_size, const py::object& lead) {
  const PatchGrid grid{images[1], images[2], images[3], whole(function, "patch_size", patch_size),
                       whole(function, "lead", lead)};
  require(grid.patch >= 1 && grid.height % grid.patch == 0 && grid.width % grid.patch == 0, function,
          ": height and width ", grid.height, " and ", grid.width, " must be multiples of patch_size, got ",
          grid.patch);
  require(grid.lead >= 0 && grid.lead <= 1 << 20, function, ": lead must be from 0 to 2**20, got ", grid.lead);
  return grid;
}

py::object patches(const py::object& images, const py::object& patch_size, const py::object& lead) {
  const char* name = "patches";
  return by_dtype(name, "images", images, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(name, "images", images, 4);
    const PatchGrid grid = grid_of(name, in.shape, patch_size, lead);
    auto y = output<T>({in.shape[0], grid.rows(), grid.row_width()});
    T* out = y.mutable_data();
    const Computing computing;
    patches_forward(in.data, in.shape[0], grid, out);
    return std::move(y);
  });
}

py::object patches_back(const py::object& dy, const Shape& image, const py::object& patch_size,
                        const py::object& lead) {
  const char* name = "patches_backward";
  require(image.size() == 3 && image[0] >= 0 && image[1] >= 0 && image[2] >= 0, name,
          ": image_shape must be (height, width, channels), got ", text(image));
  return by_dtype(name, "dy", dy, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(name, "dy", dy, 3);
    const Shape shape{in.shape[0], image[0], image[1], image[2]};
    const PatchGrid grid = grid_of(name, shape, patch_size, lead);
    require(in.shape == Shape{in.shape[0], grid.rows(), grid.row_width()}, name, ": dy must have shape (B, ",
            grid.rows(), ", ", grid.row_width(), "), got ", text(in.shape));
    auto dimages = output<T>(shape);
    T* out = dimages.mutable_data();
    const Computing computing;
    patches_backward(in.data, in.shape[0], grid, out);
    return std::move(dimages);
  });
}

py::object prepend(const py::object& prefix, const py::object& x) {
  const char* name = "prepend";
  return by_dtype(name, "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto rows = input<T>(name, "x", x, 3);
    const auto first = input<T>(name, "prefix", prefix, 3);
    require(first.shape[0] == rows.shape[0] && first.shape[2] == rows.shape[2], name,
            ": prefix must have shape (B, P, C) with B and C of x ", text(rows.shape), ", got ", text(first.shape));
    const PrependShape shape{rows.shape[0], first.shape[1], rows.shape[1], rows.shape[2]};
    auto y = output<T>({shape.batch, shape.prefix + shape.rows, shape.width});
    T* out = y.mutable_data();
    const Computing computing;
    prepend_forward(first.data, rows.data, shape, out);
    return std::move(y);
  });
}

py::tuple prepend_back(const py::object& dy, const py::object& prefix) {
  const char* name = "prepend_backward";
  return by_dtype(name, "dy", dy, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto in = input<T>(name, "dy", dy, 3);
    const Index first = whole(name, "prefix", prefix);
    require(first >= 0 && first <= in.shape[1], name, ": prefix must be from 0 to ", in.shape[1], ", got ", first);
    const PrependShape shape{in.shape[0], first, in.shape[1] - first, in.shape[2]};
    auto dprefix = output<T>({shape.batch, shape.prefix, shape.width});
    auto dx = output<T>({shape.batch, shape.rows, shape.width});
    T *out = dprefix.mutable_data(), *rest = dx.mutable_data();
    {
      const Computing computing;
      prepend_backward(in.data, shape, out, rest);
    }
    return py::make_tuple(std::move(dprefix), std::move(dx));
  });
}

PoolShape pool_shape(const char* function, const Shape& x, const py::object& begin, const py::object& end) {
  const Index first = whole(function, "begin", begin), last = end.is_none() ? x[1] : whole(function, "end", end);
  require(first >= 0 && first < last && last <= x[1], function, ": rows [begin, end) must be some of ", x[1], ", got [",
          first, ", ", last, ")");
  return {x[0], x[1], x[2], first, last};
}

py::object pool(const py::object& x, const py::object& begin, const py::object& end) {
  return by_dtype("pool", "x", x, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>("pool", "x", x, 3);
    const PoolShape shape = pool_shape("pool", in.shape, begin, end);
    auto y = output<T>({shape.batch, shape.width});
    T* out = y.mutable_data();
    const Computing computing;
    pool_forward(in.data, shape, out);
    return std::move(y);
  });
}

py::object pool_back(const py::object& dy, const py::object& rows, const py::object& begin, const py::object& end) {
  const char* name = "pool_backward";
  return by_dtype(name, "dy", dy, [&](auto t) -> py::object {
    using T = decltype(t);
    const auto in = input<T>(name, "dy", dy, 2);
    const Index count = whole(name, "rows", rows);
    const PoolShape shape = pool_shape(name, {in.shape[0], count, in.shape[1]}, begin, end);
    auto dx = output<T>({shape.batch, shape.rows, shape.width});
    T* out = dx.mutable_data();
    const Computing computing;
    pool_backward(in.data, shape, out);
    return std::move(dx);
  });
}

}  // namespace

void bind_pictures(py::module_& ops) {
  using py::arg;
  ops.def(
      "patches", &patches, arg("images"), arg("patch_size"), py::kw_only(), arg("lead") = 0,
      R"(Pictures cut into patches, each a row (arXiv:2010.11929): y (B, lead + P, patch_size * patch_size * channels).

images: (B, H, W, channels), H and W multiples of patch_size (ValueError). Patches come from left to right, then down;
so do the pixels of a row, each with its channels. The first `lead` rows are zeros.)");
  ops.def("patches_backward", &patches_back, arg("dy"), arg("image_shape"), arg("patch_size"), py::kw_only(),
          arg("lead") = 0, R"(Gradient of patches: dimages (B, H, W, channels).

dy: (B, lead + P, patch_size * patch_size * channels). image_shape: (H, W, channels).)");
  ops.def("prepend", &prepend, arg("prefix"), arg("x"), R"(Rows before others: y (B, P + T, C).

prefix: (B, P, C). x: (B, T, C) of one dtype.)");
  ops.def("prepend_backward", &prepend_back, arg("dy"), arg("prefix"), R"(Gradients of prepend: (dprefix, dx).

dy: (B, P + T, C). prefix: P.)");
  ops.def("pool", &pool, arg("x"), py::kw_only(), arg("begin") = 0, arg("end") = py::none(),
          R"(The mean over rows [begin, end) of each sequence: y (B, C), summed in double.

x: (B, T, C). end None: T. No rows: ValueError.)");
  ops.def("pool_backward", &pool_back, arg("dy"), arg("rows"), py::kw_only(), arg("begin") = 0, arg("end") = py::none(),
          R"(Gradient of pool: dx (B, rows, C), zeros outside [begin, end).

dy: (B, C).)");
}

}  // namespace loopos::bind
