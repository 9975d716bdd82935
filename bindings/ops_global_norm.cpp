// loopos.ops: global_norm, clip_grad_norm_.
#include <algorithm>
#include <cmath>

#include "ops.h"
#include "ops/global_norm.h"

namespace loopos::bind {
namespace {

/// The arrays of a list or a dict with what they are called in an error: the key, or the position.
struct Named {
  std::vector<py::object> arrays;
  std::vector<std::string> names;
};

Named named(const char* function, const py::object& arrays) {
  Named result;
  if (py::isinstance<py::array>(arrays) || !py::isinstance<py::iterable>(arrays))
    throw py::type_error(cat(function, ": arrays must be a list or a dict of arrays, got a ",
                             std::string(py::str(py::type::of(arrays).attr("__name__")))));
  if (py::hasattr(arrays, "items")) {
    for (py::handle item : arrays.attr("items")()) {
      const auto pair = py::reinterpret_borrow<py::tuple>(item);
      result.names.push_back(py::str(pair[0]));
      result.arrays.push_back(pair[1]);
    }
  } else {
    for (py::handle array : arrays) {
      result.names.push_back(std::to_string(result.names.size()));
      result.arrays.push_back(py::reinterpret_borrow<py::object>(array));
    }
  }
  return result;
}

template <class T>
struct Inputs {
  std::vector<Array<T>> arrays;
  std::vector<Span<T>> spans;
};

template <class T>
Inputs<T> inputs(const char* function, const Named& named) {
  Inputs<T> in;
  for (std::size_t i = 0; i < named.arrays.size(); ++i) {
    in.arrays.push_back(input<T>(function, cat("arrays[", named.names[i], "]").c_str(), named.arrays[i]));
    in.spans.push_back({in.arrays.back().data, in.arrays.back().size()});
  }
  return in;
}

template <class Body>
double with_dtype(const char* function, const Named& named, Body&& body) {
  if (named.arrays.empty()) return 0.0;
  return by_dtype(function, cat("arrays[", named.names[0], "]").c_str(), named.arrays[0], body);
}

double global_norm_py(const py::object& arrays) {
  const Named list = named("global_norm", arrays);
  return with_dtype("global_norm", list, [&](auto t) {
    using T = decltype(t);
    const auto in = inputs<T>("global_norm", list);
    const Computing computing;
    return global_norm(in.spans.data(), static_cast<Index>(in.spans.size()));
  });
}

template <class T>
[[noreturn]] void throw_nonfinite(const Named& list, const Inputs<T>& in) {
  for (std::size_t i = 0; i < in.arrays.size(); ++i)
    for (Index at = 0; at < in.spans[i].size; ++at) {
      if (std::isfinite(in.spans[i].data[at])) continue;
      py::list index;
      Index rest = at;
      for (std::size_t axis = in.arrays[i].shape.size(); axis-- > 0; rest /= in.arrays[i].shape[axis])
        index.insert(0, rest % in.arrays[i].shape[axis]);
      const py::module_ errors = py::module_::import("loopos.errors");
      const py::object birth = errors.attr("Birth")(
          py::arg("step") = py::none(), py::arg("phase") = "backward", py::arg("layer") = py::none(),
          py::arg("op") = "clip_grad_norm_", py::arg("tensor") = list.names[i], py::arg("index") = py::tuple(index),
          py::arg("value") = static_cast<double>(in.spans[i].data[at]),
          py::arg("cause") =
              "input not finite: an entry handed to clip_grad_norm_ is not finite; no array was changed");
      const py::object type = errors.attr("NonFiniteError");
      PyErr_SetObject(type.ptr(), type(birth).ptr());
      throw py::error_already_set();
    }
  throw std::logic_error("clip_grad_norm_: the norm is not finite, but every entry is");
}

/// ValueError where two of the arrays share memory: their numbers would be counted, and multiplied, twice. Views of one
/// array that interleave do not.
template <class T>
void refuse_shared(const char* f, const Named& list) {
  struct Extent {
    const char *first, *end;
    std::size_t which;
  };
  std::vector<Extent> extents;
  for (std::size_t i = 0; i < list.arrays.size(); ++i) {
    const auto array = py::reinterpret_borrow<py::array>(list.arrays[i]);
    if (array.size() == 0) continue;
    const char* first = static_cast<const char*>(array.data());
    const char* end = first + sizeof(T);
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      const py::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis);
      (reach < 0 ? first : end) += reach;
    }
    extents.push_back({first, end, i});
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.first < b.first; });
  for (std::size_t i = 0; i < extents.size(); ++i)
    for (std::size_t j = i + 1; j < extents.size() && extents[j].first < extents[i].end; ++j) {
      const auto [a, b] = std::minmax(extents[i].which, extents[j].which);
      const py::object shares = py::module_::import("numpy").attr("shares_memory");
      require(!py::cast<bool>(shares(list.arrays[a], list.arrays[b])), f, ": arrays[", list.names[a], "] and arrays[",
              list.names[b], "] share memory, so that it would be scaled twice; hand each number over once");
    }
}

double clip_grad_norm(const py::object& arrays, double max_norm) {
  const char* f = "clip_grad_norm_";
  require(max_norm > 0, f, ": max_norm must be above 0, got ", max_norm);
  const Named list = named(f, arrays);
  return with_dtype(f, list, [&](auto t) {
    using T = decltype(t);
    const auto in = inputs<T>(f, list);
    for (std::size_t i = 0; i < list.arrays.size(); ++i)
      require(py::reinterpret_borrow<py::array>(list.arrays[i]).writeable(), f, ": arrays[", list.names[i],
              "] must be writeable (it is clipped in place)");
    refuse_shared<T>(f, list);
    ScaledNorm norm;
    {
      const Computing computing;
      norm = scaled_norm(in.spans.data(), static_cast<Index>(in.spans.size()));
    }
    if (!std::isfinite(norm.mantissa)) throw_nonfinite(list, in);
    const double value = norm.value();
    if (!(value > max_norm)) return value;
    for (std::size_t i = 0; i < list.arrays.size(); ++i) {
      auto target = py::reinterpret_borrow<py::array>(list.arrays[i]);
      // A view that is not contiguous was copied on the way in: the copy is scaled, then written back element by
      // element.
      py::array_t<T> copy = in.arrays[i].array;
      T* out = const_cast<T*>(in.spans[i].data);
      {
        const Computing computing;
        scale_to_norm(in.spans[i].data, in.spans[i].size, max_norm, norm, out);
      }
      if (copy.data() != target.data()) target[py::ellipsis()] = copy;
    }
    return value;
  });
}

}  // namespace

void bind_global_norm(py::module_& ops) {
  ops.def("global_norm", &global_norm_py, py::arg("arrays"),
          R"(Euclidean norm over all numbers of a list or dict of arrays, in double.

Finite input gives the right finite norm (3e38 in float32, 1e300 in float64 too); an empty list gives 0.0. All arrays share one dtype.)");
  ops.def(
      "clip_grad_norm_", &clip_grad_norm, py::arg("arrays"), py::arg("max_norm"),
      R"(Scales all arrays in place by max_norm / norm when their global norm exceeds max_norm; else leaves every bit.

arrays: a list or dict of writeable float32 or float64 arrays, no two of which share memory (ValueError); max_norm: above 0 (inf never clips). Returns the norm before clipping. An
entry that is not finite raises loopos.NonFiniteError (birth.tensor: key or position) and no array is changed.)");
}

}  // namespace loopos::bind
