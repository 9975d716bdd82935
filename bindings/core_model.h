// What Python asks of any model of the core: parameters, gradients, what a pass found, planted faults, and one call at a
// time, without the interpreter's lock.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "findings.h"
#include "kernels/pieces/products.h"
#include "models/operations.h"
#include "ops/global_norm.h"
#include "plants.h"
#include "turn.h"

namespace loopos::bind {

/// Network: a model of the core, with parameters().
template <class T, class Network>
class CoreModel {
 public:
  explicit CoreModel(Network& network) : network_(network) {}
  CoreModel(const CoreModel&) = delete;
  CoreModel& operator=(const CoreModel&) = delete;

  /// Views of the weights. Each keeps its buffer alive, which is given up when an adapter is removed. trainable: None
  /// for all, or only those that are or are not. writable false: nobody can write through them, and weight_views does
  /// not count them.
  py::dict parameters(const py::object& trainable, bool writable) {
    py::dict result;
    for (auto& p : parameter_set().list()) {
      if (!trainable.is_none() && trainable.cast<bool>() != p.trainable) continue;
      auto array = view(p, p.value, owner_of(p.values, writable ? nullptr : readers_));
      if (!writable) array.attr("setflags")(false);
      result[py::str(p.name)] = std::move(array);
    }
    given_ += writable;
    return result;
  }
  /// (a number that grows whenever views are given or parameters get new places, how many views are left). Where neither
  /// changes and all that are left are the caller's, nobody else has written to a weight.
  std::pair<Index, Index> weight_views() {
    const auto lock = serialise();
    Index left = -*readers_;
    std::vector<const void*> seen;
    for (const auto& p : parameter_set().list()) {
      --left;  // its own hold of the buffer
      if (std::find(seen.begin(), seen.end(), p.values.get()) != seen.end()) continue;
      seen.push_back(p.values.get());
      left += static_cast<Index>(p.values.use_count());
    }
    return {given_ + parameter_set().selection(), left};
  }
  /// Views of the gradients of the trainable parameters. Each keeps the buffer alive, which is given up when other
  /// parameters become trainable.
  py::dict gradients() {
    const auto lock = serialise();
    auto& set = parameter_set();
    set.allocate_gradients();
    const py::capsule owner = owner_of(set.gradients());
    py::dict result;
    for (auto& p : set.list())
      if (p.trainable) result[py::str(p.name)] = view(p, p.grad, owner);
    return result;
  }
  /// allowed(parameter) refuses what may not become trainable.
  template <class Allowed>
  void set_trainable_if(const std::string& name, bool trainable, Allowed&& allowed) {
    const auto lock = serialise();
    operations_.clear();  // which gradients are among them has changed
    auto& set = parameter_set();
    for (auto& p : set.list())
      if (p.name == name) {
        if (trainable) allowed(p);
        return set.set_trainable(p, trainable);
      }
    throw std::invalid_argument(cat("set_trainable: there is no parameter ", name));
  }

  /// A view of all of them in one array, zeros between the tensors.
  py::array_t<T> gradient_buffer() {
    const auto lock = serialise();
    auto& set = parameter_set();
    set.allocate_gradients();
    return py::array_t<T>(Shape{set.gradients()->size()}, set.gradients()->data(), owner_of(set.gradients()));
  }

  double grad_norm() {
    return compute([&] {
      auto& set = parameter_set();
      set.allocate_gradients();
      const Span<T> all{set.gradients()->data(), set.gradients()->size()};
      return global_norm(&all, Index{1});
    });
  }
  py::array_t<double> square_sums(Index first, Index last) {
    const Index blocks = compute([&] {
      parameter_set().allocate_gradients();
      return (parameter_set().gradients()->size() + kNormBlock - 1) / kNormBlock;
    });
    require(first >= 0 && first <= last && last <= blocks, "square_sums: expected blocks within 0 to ", blocks,
            ", got ", first, " to ", last);
    auto result = output<double>({last - first});
    double* sums = result.mutable_data();
    compute([&] {
      const auto& gradients = *parameter_set().gradients();
      loopos::square_sums(static_cast<const T*>(gradients.data()), gradients.size(), first, last, sums);
    });
    return result;
  }
  std::string precision() { return precision_name(parameter_set().precision); }
  /// A float32 product is worth pieces with large weights alone.
  std::string products() {
    if constexpr (std::is_same_v<T, double>) return "float64";
    const auto& set = parameter_set();
    const Precision precision = set.precision;
    const auto in_pieces = [&](Index out, Index in) {
      return kernels::pieces_of(precision, in, out) > 0 || kernels::pieces_of(precision, out, in) > 0;
    };
    bool any = precision != Precision::float32;
    for (const auto& p : set.list()) any = any || (p.shape.size() == 2 && in_pieces(p.shape[0], p.shape[1]));
    for (const auto& w : set.stored()) any = any || in_pieces(w.out, w.in);
    return any ? kernels::products_of(precision) : "fma";
  }
  void set_precision(const std::string& name) {
    const auto lock = serialise();
    parameter_set().precision = choice("precision", name, kPrecisions).value;
  }
  double held_bytes() {
    const auto lock = serialise();
    const auto gradients = parameter_set().gradients();
    return network_.held_bytes() + (gradients ? static_cast<double>(gradients->size()) * sizeof(T) : 0);
  }

  py::list raised() const {
    py::list result;
    for (const Raised& each : raised_) result.append(raised_to_dict(each));
    return result;
  }
  py::list ledger() const {
    py::list result;
    for (const Frame& frame : frames_) result.append(frame_to_dict(frame));
    return result;
  }
  Index add_plant(const py::dict& fault) {
    const auto lock = serialise();
    return plants_.add(fault);
  }
  Index remove_plant(Index number) {
    const auto lock = serialise();
    return plants_.remove(number);
  }

  ParameterSet<T>& parameter_set() { return network_.parameters(); }
  /// body() without the interpreter's lock, when it is this call's turn.
  template <class Body>
  auto compute(Body&& body) {
    const Computing computing;
    std::lock_guard<Turn> lock(mutex_);
    return body();
  }
  /// The turn of a call that keeps the interpreter's lock.
  std::unique_lock<Turn> serialise() {
    const Computing computing;
    return std::unique_lock<Turn>(mutex_);
  }

 protected:
  /// A batch has `pass`, `planted` and accumulate(network, scale, add). final_from: None, or a function of Python as in
  /// Pass; what it raises ends the pass.
  template <class Batch>
  py::tuple accumulate_batch(Batch& batch, double scale, bool add, const py::object& final_from) {
    const std::function<void(Index)> tell = [&](Index from) {
      const py::gil_scoped_acquire locked;
      const int raised = FpScope::fresh();
      final_from(from);
      FpScope::fresh();  // whatever the function raised is no operation's
      FpScope::add(raised);
    };
    if (!final_from.is_none()) batch.pass.final_from = &tell;
    Probe planting(Plants::faults(batch.planted), false, 0);
    if (planting.plants()) batch.pass.probe = &planting;
    FlagRecord record;
    batch.pass.flags = &record;
    std::vector<Raised> raised;
    const LossSum result = compute([&] {
      const LossSum sum = batch.accumulate(network_, scale, add);
      if (const int rest = FpScope::fresh()) record.add({"backward", -1, "between operations", "", rest, false});
      if (!record.list().empty()) {
        if (operations_.empty()) operations_ = operations(network_);
        record.sort_like(operations_);
        raised = record.list();
        FpScope::add(record.flags());
      }
      return sum;
    });
    raised_ = std::move(raised);  // with the interpreter's lock, as it is read
    return py::make_tuple(result.sum, result.count, raised_.empty() && std::isfinite(result.sum));
  }
  template <class Batch>
  py::object trace_batch(Batch& batch, double scale, std::size_t frames, const py::object& tap) {
    Probe probe(Plants::faults(batch.planted), true, frames, tap.is_none() ? Tap() : tap_to(tap));
    batch.pass.probe = &probe;
    compute([&] { with_scratch_gradients(parameter_set(), [&] { batch.accumulate(network_, scale, false); }); });
    frames_.swap(probe.frames());
    if (!probe.birth().found) return py::none();
    py::dict found = birth_to_dict(probe.birth());
    found["dtype"] = dtype_name<T>();
    return std::move(found);
  }

  /// A training step's pass is told it, with its dropout; without a step there is none. first_row: where the batch begins
  /// in a larger one that it is a shard of.
  static void begin_step(Pass& pass, double dropout, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                         Index first_row) {
    require(first_row >= 0, "accumulate: first_row must be at least 0, got ", first_row);
    if (step.is_none()) return;
    pass.stochastic = true;
    pass.dropout = dropout;
    pass.seed = seed;
    pass.step = step.cast<std::uint64_t>();
    pass.micro = micro;
    pass.origin = first_row;
  }

  void forget_operations() { operations_.clear(); }
  Plants& plants() { return plants_; }

 private:
  using Shared = std::shared_ptr<Buffer<T>>;
  using Count = std::shared_ptr<std::atomic<Index>>;
  /// Counted while it lives where there is a count.
  static py::capsule owner_of(const Shared& buffer, const Count& count = nullptr) {
    struct Owner {
      Shared buffer;
      Count count;
      ~Owner() {
        if (count) --*count;
      }
    };
    if (count) ++*count;
    return {new Owner{buffer, count}, [](void* owner) { delete static_cast<Owner*>(owner); }};
  }
  static py::array_t<T> view(const Parameter<T>& p, T* data, const py::capsule& owner) {
    return py::array_t<T>(Shape(p.shape.begin(), p.shape.end()), data, owner);
  }

  Network& network_;
  Turn mutex_;
  std::deque<Frame> frames_;                                 // of the last trace
  std::vector<Raised> raised_;                               // of the last accumulate
  std::vector<Raised> operations_;                           // in their order; empty until it is asked for
  Index given_ = 0;                                          // times that writable views of the weights were given
  Count readers_ = std::make_shared<std::atomic<Index>>(0);  // views that nobody can write through
  Plants plants_;
};

/// The methods that such a model has in Python.
template <class Class>
void bind_core_model(py::class_<Class>& c) {
  using py::arg;
  c.def(py::init<const py::dict&, std::optional<std::uint64_t>>(), arg("config"), arg("seed"),
        "seed: of the initial weights; None leaves them as the memory is, to be written before anything else.")
      .def("parameters", &Class::parameters, arg("trainable") = py::none(), arg("writable") = true,
           "Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) "
           "trainable. writable: False gives views that are read-only for good.")
      .def("gradients", &Class::gradients, "Views of the gradients of the trainable parameters, in that order.")
      .def("gradient_buffer", &Class::gradient_buffer,
           "A view of all of them as one array (N,), in that order; zeros stand between the tensors.")
      .def(
          "set_trainable", &Class::set_trainable, arg("name"), arg("trainable"),
          "False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given "
          "up when this changes.")
      .def("grad_norm", &Class::grad_norm, "The Euclidean norm of all gradients together, in double.")
      .def("square_sums", &Class::square_sums, arg("first"), arg("last"),
           "The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of "
           "gradient_buffer() from `first` up to `last`, which is not one of them.")
      .def("weight_views", &Class::weight_views,
           "(a number that grows whenever writable views of the weights are given out, how many are left).")
      .def("held_bytes", &Class::held_bytes, "Bytes of workspace and gradients that earlier passes have left.")
      .def_property("precision", &Class::precision, &Class::set_precision, "Of the products: float32, bf16x3 or bf16.")
      .def_property_readonly("products", &Class::products,
                             "What they are computed with here: fma, tiles NAME or emulated NAME; float64.")
      .def(
          "raised", &Class::raised,
          "The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: "
          "phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and "
          "attention's scores).")
      .def("ledger", &Class::ledger, "The tensors of the last trace(), in the order of execution, as dicts.")
      .def("_add_plant", &Class::add_plant, arg("fault"),
           "Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; "
           "returns its number.")
      .def("_remove_plant", &Class::remove_plant, arg("number"), "Takes it out; returns how often it has fired.");
}

}  // namespace loopos::bind
