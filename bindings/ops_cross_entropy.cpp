// loopos.ops: cross_entropy and its backward.
#include <cmath>

#include "core/buffer.h"
#include "ops.h"
#include "ops/cross_entropy.h"

namespace loopos::bind {

namespace {

enum class Reduction { mean, sum, none };

Reduction reduction_of(const char* function, const std::string& name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  require(name == "none", function, ": reduction must be 'mean', 'sum' or 'none', got '", name, "'");
  return Reduction::none;
}

CrossEntropyOptions options_of(const char* function, Index ignore_index, double label_smoothing, double z_loss) {
  require(label_smoothing >= 0 && label_smoothing <= 1, function, ": label_smoothing must be from 0 to 1, got ",
          label_smoothing);
  require(z_loss >= 0 && std::isfinite(z_loss), function, ": z_loss must be a finite number >= 0, got ", z_loss);
  return {ignore_index, label_smoothing, z_loss};
}

template <class T>
struct Rows {
  Array<T> logits;
  Array<std::int64_t> targets;
  Index rows, vocab;
};

template <class T>
Rows<T> rows_of(const char* function, const py::object& logits, const py::object& targets, Index ignore_index) {
  Rows<T> r{input<T>(function, "logits", logits, 2), integers(function, "targets", targets), 0, 0};
  r.rows = r.logits.shape[0], r.vocab = r.logits.shape[1];
  require(r.targets.shape == Shape{r.rows}, function, ": targets must have shape ", text({r.rows}),
          " (one per row of logits ", text(r.logits.shape), "), got ", text(r.targets.shape));
  require(r.vocab > 0 || r.rows == 0, function, ": logits must have at least one class, got shape ",
          text(r.logits.shape));
  check_targets(function, r.targets.data, r.rows, r.vocab, ignore_index);
  return r;
}

py::tuple cross_entropy(const py::object& logits, const py::object& targets, Index ignore_index, double label_smoothing,
                        double z_loss, const std::string& reduction) {
  const char* name = "cross_entropy";
  return by_dtype(name, "logits", logits, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const Reduction reduce = reduction_of(name, reduction);
    const auto options = options_of(name, ignore_index, label_smoothing, z_loss);
    const auto in = rows_of<T>(name, logits, targets, ignore_index);
    Buffer<double> losses(in.rows);
    Index count = 0;
    double total = 0;
    {
      const Computing computing;
      count =
          cross_entropy_forward<T>(in.logits.data, in.targets.data, in.rows, in.vocab, options, losses.data(), nullptr);
      for (Index r = 0; r < in.rows; ++r) total += losses.data()[r];
    }
    if (reduce != Reduction::none) {
      if (reduce == Reduction::mean && count > 0) total /= static_cast<double>(count);
      return py::make_tuple(total, count);
    }
    auto loss = output<T>({in.rows});
    T* out = loss.mutable_data();
    for (Index r = 0; r < in.rows; ++r) out[r] = static_cast<T>(losses.data()[r]);
    return py::make_tuple(std::move(loss), count);
  });
}

py::object cross_entropy_back(const py::object& dloss, const py::object& logits, const py::object& targets,
                              Index ignore_index, double label_smoothing, double z_loss, const std::string& reduction) {
  const char* name = "cross_entropy_backward";
  return by_dtype(name, "logits", logits, [&](auto t) -> py::object {
    using T = decltype(t);
    const Reduction reduce = reduction_of(name, reduction);
    const auto options = options_of(name, ignore_index, label_smoothing, z_loss);
    const auto in = rows_of<T>(name, logits, targets, ignore_index);
    Array<T> each;
    T factor = 0;
    if (reduce == Reduction::none) {
      each = input<T>(name, "dloss", dloss, Shape{in.rows});
    } else {
      const double g = scalar(name, "dloss", dloss);
      Index count = 0;
      for (Index r = 0; r < in.rows; ++r) count += in.targets.data[r] != ignore_index;
      factor = static_cast<T>(reduce == Reduction::mean && count > 0 ? g / static_cast<double>(count) : g);
    }
    auto dlogits = output<T>(in.logits.shape);
    T* out = dlogits.mutable_data();
    const Computing computing;
    const bool none = reduce == Reduction::none;
    cross_entropy_backward<T>(none ? each.data : &factor, none ? 1 : 0, in.logits.data, in.targets.data, nullptr,
                              in.rows, in.vocab, options, out);
    return std::move(dlogits);
  });
}

}  // namespace

void bind_cross_entropy(py::module_& ops) {
  using py::arg;
  ops.def("cross_entropy", &cross_entropy, arg("logits"), arg("targets"), py::kw_only(), arg("ignore_index") = -100,
          arg("label_smoothing") = 0.0, arg("z_loss") = 0.0, arg("reduction") = "mean",
          R"(Cross-entropy of logits against class numbers: logsumexp(x) - x[target] per row. Returns (loss, count).

logits: (N, V), float32 or float64. targets: (N,), int32 or int64, each in 0..V-1 or ignore_index (an ignored row counts for nothing,
whatever it holds); all are checked first, IndexError otherwise. label_smoothing in [0, 1] is uniform over V as in torch; z_loss >= 0
adds z_loss * logsumexp(x)**2 to each counted row. reduction "mean" (over count; 0.0 when count is 0) and "sum" give a float, computed in
double; "none" gives an array (N,), 0 in ignored rows. A counted row that is all -inf has no distribution: its loss is NaN, and it is
counted (loopos.guard_counts()["cross_entropy"]).)");
  ops.def("cross_entropy_backward", &cross_entropy_back, arg("dloss"), arg("logits"), arg("targets"), py::kw_only(),
          arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("z_loss") = 0.0, arg("reduction") = "mean",
          R"(Gradient of cross_entropy with respect to logits, dlogits (N, V); the same options as cross_entropy.

dloss: a number for reduction "mean" and "sum", an array (N,) of the dtype of logits for "none". Ignored rows have gradient zero.)");
}

}  // namespace loopos::bind
