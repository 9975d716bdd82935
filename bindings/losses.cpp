// loopos.losses: what a student is taught by, each as (loss, dstudent).
#include <cmath>

#include "core/buffer.h"
#include "ops.h"
#include "ops/kl.h"
#include "ops/row_losses.h"

namespace loopos::bind {

namespace {

/// student and teacher (..., n) of one shape and dtype; body(student, teacher, losses, dstudent) fills losses (rows) and
/// returns how many rows count; after it gradient(scale, dstudent) is called with 1 over that number. The result is
/// (mean of the losses that count, dstudent).
template <class Forward, class Backward>
py::tuple mean_and_gradient(const char* function, const py::object& student, const py::object& teacher,
                            Forward&& forward, Backward&& backward) {
  return by_dtype(function, "student", student, [&](auto t) -> py::tuple {
    using T = decltype(t);
    const auto s = input<T>(function, "student", student, -1);
    const auto target = input<T>(function, "teacher", teacher, s.shape);
    require(s.last() > 0 || s.leading() == 0, function,
            ": student must have at least one element on its last axis, got shape ", text(s.shape));
    auto gradient = output<T>(s.shape);
    T* out = gradient.mutable_data();
    double sum = 0;
    {
      const Computing computing;
      Buffer<double> losses(s.rows());
      const Index count = forward(s.data, target.data, s.rows(), s.last(), losses.data());
      const double share = count > 0 ? 1 / static_cast<double>(count) : 0;
      for (Index r = 0; r < s.rows(); ++r) sum += losses.data()[r];
      sum *= share;
      backward(share, s.data, target.data, s.rows(), s.last(), out);
    }
    return py::make_tuple(sum, std::move(gradient));
  });
}

py::tuple row_loss(const char* function, RowLoss loss, const py::object& student, const py::object& teacher) {
  return mean_and_gradient(
      function, student, teacher,
      [&](const auto* s, const auto* t, Index rows, Index width, double* losses) {
        return row_loss_forward(loss, s, t, {}, rows, width, {}, losses);
      },
      [&](double share, const auto* s, const auto* t, Index rows, Index width, auto* out) {
        row_loss_backward(loss, share, s, t, {}, rows, width, out);
      });
}

template <class T>
std::vector<KlRow<T>>& kept_rows() {
  thread_local std::vector<KlRow<T>> kept;  // between forward and backward of one call
  return kept;
}

py::tuple kl(const py::object& student, const py::object& teacher, double temperature) {
  require(std::isfinite(temperature) && temperature > 0, "kl: temperature must be a finite number above 0, got ",
          temperature);
  const KlOptions options{temperature};
  return mean_and_gradient(
      "kl", student, teacher,
      [&](const auto* s, const auto* t, Index rows, Index vocab, double* losses) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(s)>>;
        auto& kept = kept_rows<T>();
        kept.resize(static_cast<std::size_t>(rows));
        return kl_forward(s, t, rows, vocab, options, {}, losses, kept.data());
      },
      [&](double share, const auto* s, const auto* t, Index rows, Index vocab, auto* out) {
        using T = std::remove_pointer_t<decltype(out)>;
        kl_backward(share, s, t, kept_rows<T>().data(), rows, vocab, options, out);
      });
}

}  // namespace

void bind_losses(py::module_& losses) {
  using py::arg;
  losses.def(
      "mse", [](const py::object& s, const py::object& t) { return row_loss("mse", RowLoss::mse, s, t); },
      arg("student"), arg("teacher"), R"(Mean of (student - teacher)**2 over all elements. Returns (loss, dstudent).

student, teacher: (..., C), one shape and dtype, float32 or float64. loss is a float, computed in double; dstudent = dloss / dstudent of
the student's shape. No rows: loss 0.0. The same holds for the other losses here.)");
  losses.def(
      "normalized_mse",
      [](const py::object& s, const py::object& t) {
        return row_loss("normalized_mse", RowLoss::normalized_mse, s, t);
      },
      arg("student"), arg("teacher"),
      R"(Mean over rows of |student - teacher|**2 / |teacher|**2: the mean squared error without its scale. Returns (loss, dstudent).

student, teacher: (..., C). Scaling both by one number leaves the loss as it is. A row whose teacher is zero has no scale: it counts for
nothing (the mean is over the others, its gradient is zero), and it is counted (loopos.guard_counts()["normalized_mse"]).)");
  losses.def(
      "cosine", [](const py::object& s, const py::object& t) { return row_loss("cosine", RowLoss::cosine, s, t); },
      arg("student"), arg("teacher"),
      R"(Mean over rows of 1 - cosine of the angle between student and teacher. Returns (loss, dstudent).

student, teacher: (..., C). A row of which either is zero has no direction: it counts for nothing (the mean is over the others, its
gradient is zero), and it is counted (loopos.guard_counts()["cosine"]).)");
  losses.def(
      "kl", &kl, arg("student"), arg("teacher"), py::kw_only(), arg("temperature") = 1.0,
      R"(Kullback-Leibler divergence KL(teacher || student) of distributions, by their logits. Returns (loss, dstudent).

student, teacher: logits (..., V); p and q are their softmax after division by temperature. loss is the mean over rows of
sum(p (log p - log q)), times temperature**2, which keeps the size of the gradient (Hinton et al. 2015). A logit of -inf on both sides
adds nothing; on the student's alone the loss is inf. A row that is all -inf has no distribution: the loss is NaN, and it is counted
(loopos.guard_counts()["kl"]).)");
}

}  // namespace loopos::bind
