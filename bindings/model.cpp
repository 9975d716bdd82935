// The transformer as Python sees it: one class per dtype, checks at the door, the GIL released, one call at a time per
// model.
#include "model.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>

#include "adapter.h"
#include "core/thread_pool.h"
#include "findings.h"
#include "generation.h"
#include "model_config.h"
#include "model_inputs.h"
#include "models/gpt.h"
#include "models/operations.h"
#include "objective.h"
#include "ops/global_norm.h"
#include "plants.h"
#include "stored.h"
#include "turn.h"

namespace loopos::bind {
namespace {

template <class T>
class Transformer {
 public:
  Transformer(const py::dict& config, std::optional<std::uint64_t> seed) : gpt_(config_from(config), seed) {
    require(std::is_same_v<T, float> || gpt_.config().weights == Storage::plain,
            "weights that are stored small belong to a float32 model");
  }

  /// Views of the weights. Each keeps its buffer alive, which is given up when an adapter is removed. trainable: None
  /// for all, or only those that are or are not.
  py::dict parameters(const py::object& trainable) {
    py::dict result;
    for (auto& p : gpt_.parameters().list())
      if (trainable.is_none() || trainable.cast<bool>() == p.trainable)
        result[py::str(p.name)] = view(p, p.value, owner_of(p.values));
    return result;
  }
  /// Views of the gradients of the trainable parameters. Each keeps the buffer alive, which is given up when other
  /// parameters become trainable.
  py::dict gradients() {
    const auto lock = serialise();
    auto& set = gpt_.parameters();
    set.allocate_gradients();
    const py::capsule owner = owner_of(set.gradients());
    py::dict result;
    for (auto& p : set.list())
      if (p.trainable) result[py::str(p.name)] = view(p, p.grad, owner);
    return result;
  }
  void set_trainable(const std::string& name, bool trainable) {
    const auto lock = serialise();
    operations_.clear();  // which gradients are among them has changed
    auto& set = gpt_.parameters();
    for (auto& p : set.list())
      if (p.name == name) {
        require(!trainable || !gpt_.freezes(p), "set_trainable: ", name,
                " is a weight of the model, which is frozen while an adapter is on; remove the adapter first");
        return set.set_trainable(p, trainable);
      }
    throw std::invalid_argument(cat("set_trainable: there is no parameter ", name));
  }

  double grad_norm() {
    return compute([&] {
      auto& set = gpt_.parameters();
      set.allocate_gradients();
      const Span<T> all{set.gradients()->data(), set.gradients()->size()};
      return global_norm(&all, Index{1});
    });
  }

  py::array forward(const py::object& ids, const py::object& documents) {
    return rows("Model.forward", ids, documents, gpt_.config().outputs(),
                [&](const Pass& pass, const Index* in, T* out) { gpt_.forward(pass, in, out); });
  }
  py::array hidden(const py::object& ids, const py::object& documents) {
    return rows("Model.hidden", ids, documents, gpt_.config().d_model,
                [&](const Pass& pass, const Index* in, T* out) { gpt_.hidden(pass, in, out); });
  }

  py::array hidden_states(const py::object& ids, const py::object& documents) {
    const auto in = checked_ids("Model.hidden_states", ids, gpt_.config());
    const auto own = checked_documents("Model.hidden_states", documents, in.shape);
    const auto layers = static_cast<Index>(gpt_.config().layers.size());
    auto result = output<T>({layers, in.shape[0], in.shape[1], gpt_.config().d_model});
    T* out = result.mutable_data();
    compute([&] { gpt_.hidden_states(pass_over(in.shape, own), in.data, out); });
    return std::move(result);
  }

  py::tuple loss(const py::object& ids, const py::object& targets, Index ignore_index, const py::object& documents) {
    const Scored in("Model.loss", ids, targets, ignore_index, documents, gpt_.config());
    const LossSum result = compute([&] { return in.loss(gpt_); });
    return py::make_tuple(result.sum, result.count);
  }
  py::array_t<double> losses(const py::object& ids, const py::object& targets, Index ignore_index,
                             const py::object& documents) {
    const Scored in("Model.losses", ids, targets, ignore_index, documents, gpt_.config());
    auto result = output<double>(in.ids.shape);
    double* out = result.mutable_data();
    compute([&] {
      in.loss(gpt_);
      std::copy_n(gpt_.losses().data(), in.ids.size(), out);
    });
    return result;
  }

  double workspace_bytes(Index batch, Index time, bool training) {
    require(batch >= 0 && time >= 1 && time <= gpt_.config().context_length, "workspace_bytes: batch ", batch,
            " and time ", time, " do not fit the context length ", gpt_.config().context_length);
    constexpr Index kPositions = Index{1} << 40;  // sizes stay within 64 bits
    require(batch <= kPositions / time, "workspace_bytes: batch ", batch, " of ", time,
            " positions each is beyond any memory; expected at most 2**40 positions");
    const auto lock = serialise();
    Pass pass = Pass::whole(batch, time);
    if (training) pass.dropout = gpt_.config().dropout;
    return gpt_.workspace_bytes(pass, training);
  }

  double held_bytes() {
    const auto lock = serialise();
    return gpt_.held_bytes();
  }

  py::tuple accumulate(const py::object& ids, const py::object& targets, double scale, Index ignore_index,
                       double label_smoothing, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                       bool add, const py::object& documents, const py::object& teaching, const py::object& between) {
    MicroBatch batch(*this, ids, targets, ignore_index, label_smoothing, documents, step, micro, seed, teaching,
                     between);
    Probe planting(Plants::faults(batch.planted), false, 0);
    if (planting.plants()) batch.pass.probe = &planting;
    FlagRecord record;
    batch.pass.flags = &record;
    std::vector<Raised> raised;
    const LossSum result = compute([&] {
      const LossSum sum = batch.accumulate(gpt_, scale, add);
      if (const int rest = FpScope::fresh()) record.add({"backward", -1, "between operations", "", rest, false});
      if (!record.list().empty()) {
        if (operations_.empty()) operations_ = operations(gpt_);
        record.sort_like(operations_);
        raised = record.list();
        FpScope::add(record.flags());
      }
      return sum;
    });
    raised_ = std::move(raised);  // with the interpreter's lock, as it is read
    return py::make_tuple(result.sum, result.count, raised_.empty() && std::isfinite(result.sum));
  }

  py::list raised() const {
    py::list result;
    for (const Raised& each : raised_) result.append(raised_to_dict(each));
    return result;
  }

  py::object trace(const py::object& ids, const py::object& targets, double scale, Index ignore_index,
                   double label_smoothing, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                   std::size_t frames, const py::object& tap, const py::object& documents, const py::object& teaching,
                   const py::object& between) {
    MicroBatch batch(*this, ids, targets, ignore_index, label_smoothing, documents, step, micro, seed, teaching,
                     between);
    Probe probe(Plants::faults(batch.planted), true, frames, tap.is_none() ? Tap() : tap_to(tap));
    batch.pass.probe = &probe;
    compute([&] { with_scratch_gradients(gpt_, [&] { batch.accumulate(gpt_, scale, false); }); });
    frames_.swap(probe.frames());
    if (!probe.birth().found) return py::none();
    py::dict found = birth_to_dict(probe.birth());
    found["dtype"] = dtype_name<T>();
    return std::move(found);
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

  /// The model, of which other operations than before are about to be asked. Under serialise().
  Gpt<T>& changing() {
    operations_.clear();
    return gpt_;
  }
  Gpt<T>& gpt() { return gpt_; }
  ParameterSet<T>& parameter_set() { return gpt_.parameters(); }
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

 private:
  using Shared = std::shared_ptr<Buffer<T>>;
  static py::capsule owner_of(const Shared& buffer) {
    return {new Shared(buffer), [](void* shared) { delete static_cast<Shared*>(shared); }};
  }
  static py::array_t<T> view(const Parameter<T>& p, T* data, const py::capsule& owner) {
    return py::array_t<T>(Shape(p.shape.begin(), p.shape.end()), data, owner);
  }

  /// What loss and losses are given, checked.
  struct Scored {
    Array<std::int64_t> ids, documents, targets;
    CrossEntropyOptions options;

    Scored(const char* function, const py::object& ids_in, const py::object& targets_in, Index ignore_index,
           const py::object& documents_in, const GptConfig& config)
        : ids(checked_ids(function, ids_in, config)),
          documents(checked_documents(function, documents_in, ids.shape)),
          targets(checked_targets(function, targets_in, ids.shape, config, ignore_index)),
          options{ignore_index} {}

    LossSum loss(Gpt<T>& gpt) const {
      return gpt.loss(pass_over(ids.shape, documents), ids.data, targets.data, options);
    }
  };
  /// What accumulate and trace are given besides.
  struct MicroBatch : Scored {
    Pass pass;
    Plants::Here planted;
    Objective<T> objective;

    MicroBatch(Transformer& model, const py::object& ids_in, const py::object& targets_in, Index ignore_index,
               double label_smoothing, const py::object& documents_in, const py::object& step, std::uint64_t micro,
               std::uint64_t seed, const py::object& teaching, const py::object& between)
        : Scored("Model", ids_in, targets_in, ignore_index, documents_in, model.gpt_.config()),
          pass(model.pass_of(this->ids.shape, this->documents, step, micro, seed)),
          planted(model.plants_.at(step, micro)),
          objective(model.objective_of(teaching, between, this->ids.shape)) {
      this->options = loss_options(ignore_index, label_smoothing);
    }

    LossSum accumulate(Gpt<T>& gpt, double scale, bool add) {
      return objective.accumulate(gpt, pass, this->ids.data, this->targets.data, this->options, scale, add);
    }
  };

  /// (B, T, width) of ids (B, T), filled by body(pass, ids, out).
  template <class Body>
  py::array rows(const char* function, const py::object& ids, const py::object& documents, Index width, Body&& body) {
    const auto in = checked_ids(function, ids, gpt_.config());
    const auto own = checked_documents(function, documents, in.shape);
    auto result = output<T>({in.shape[0], in.shape[1], width});
    T* out = result.mutable_data();
    compute([&] { body(pass_over(in.shape, own), in.data, out); });
    return std::move(result);
  }

  Objective<T> objective_of(const py::object& teaching, const py::object& between, const Shape& shape) {
    const Gpt<T>* teacher = &gpt_;
    if (!teaching.is_none())
      if (const py::object other = teaching["teacher"]; !other.is_none()) teacher = &other.cast<Transformer<T>&>().gpt_;
    return {teaching, teacher, between, shape, gpt_.config()};
  }

  Pass pass_of(const Shape& shape, const Array<std::int64_t>& documents, const py::object& step, std::uint64_t micro,
               std::uint64_t seed) const {
    Pass pass = pass_over(shape, documents);
    if (step.is_none()) return pass;  // no step, no dropout
    pass.stochastic = true;
    pass.dropout = gpt_.config().dropout;
    pass.seed = seed;
    pass.step = step.cast<std::uint64_t>();
    pass.micro = micro;
    return pass;
  }

  Gpt<T> gpt_;
  Turn mutex_;
  std::deque<Frame> frames_;        // of the last trace
  std::vector<Raised> raised_;      // of the last accumulate
  std::vector<Raised> operations_;  // in their order; empty until it is asked for
  Plants plants_;
};

template <class T>
void bind_transformer(py::module_& m, const char* name) {
  using Class = Transformer<T>;
  using py::arg;
  py::class_<Class> c(m, name, "A decoder-only transformer of one dtype; loopos.Model is its public face.");
  bind_stored_weights(c);
  bind_adapter(c);
  bind_generation<T>(c);
  c.def(py::init<const py::dict&, std::optional<std::uint64_t>>(), arg("config"), arg("seed"),
        "seed: of the initial weights; None leaves them as the memory is, to be written before anything else.")
      .def("parameters", &Class::parameters, arg("trainable") = py::none(),
           "Writable views of the weights by name, in order of execution; of those alone that are (True) or are not "
           "(False) trainable.")
      .def("gradients", &Class::gradients, "Views of the gradients of the trainable parameters, in that order.")
      .def(
          "set_trainable", &Class::set_trainable, arg("name"), arg("trainable"),
          "False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given "
          "up when this changes.")
      .def("grad_norm", &Class::grad_norm, "The Euclidean norm of all gradients together, in double.")
      .def("forward", &Class::forward, arg("ids"), arg("documents") = py::none(),
           "Logits (B, T, V) of ids (B, T). documents, here and below: None, or (B, T), integers that never fall along "
           "a row; a token sees its own document alone, in which positions begin at 0.")
      .def("hidden", &Class::hidden, arg("ids"), arg("documents") = py::none(),
           "What the head is given: the result of the final norm (B, T, C).")
      .def("hidden_states", &Class::hidden_states, arg("ids"), arg("documents") = py::none(),
           "What flows out of each block, of the last one what the final norm makes of it: (L, B, T, C).")
      .def("loss", &Class::loss, arg("ids"), arg("targets"), arg("ignore_index") = -100, arg("documents") = py::none(),
           "(sum of losses, number of targets that count).")
      .def("losses", &Class::losses, arg("ids"), arg("targets"), arg("ignore_index") = -100,
           arg("documents") = py::none(),
           "The loss of each position (B, T), in double; 0 where the target does not count.")
      .def("workspace_bytes", &Class::workspace_bytes, arg("batch"), arg("time"), arg("training"),
           "Bytes that a pass over ids (B, T) takes beside weights and gradients: planned, not taken.")
      .def("held_bytes", &Class::held_bytes, "Bytes of workspace and gradients that earlier passes have left.")
      .def(
          "accumulate", &Class::accumulate, arg("ids"), arg("targets"), py::kw_only(), arg("scale"),
          arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0,
          arg("seed") = 0, arg("add") = false, arg("documents") = py::none(), arg("teaching") = py::none(),
          arg("between") = py::none(),
          "Forward and backward; gradients = scale * d(sum of losses), or += with `add`. Returns (sum, count, "
          "healthy); healthy False: ask raised() and trace(). teaching, here and in trace: None, or a dict: loss (kl, "
          "mse, normalized_mse or cosine), hidden (B, T, C): what hidden() of the teacher gave, or with layers \"all\" "
          "(L, B, T, C), what hidden_states() did, teacher: it, or None for this model, temperature, weight, "
          "cross_entropy: the loss of a position is cross_entropy times its own plus "
          "weight times the teacher's. between: None, or (of, fn): fn(array) gives (loss, gradient), once for the "
          "whole "
          "batch, of its hidden states (B, T, C), its logits (B, T, V) or its losses (B, T, float64); scale is the "
          "function's affair.")
      .def(
          "raised", &Class::raised,
          "The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: "
          "phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and "
          "attention's scores).")
      .def("trace", &Class::trace, arg("ids"), arg("targets"), py::kw_only(), arg("scale"), arg("ignore_index") = -100,
           arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0, arg("seed") = 0,
           arg("frames") = std::size_t{1} << 16, arg("tap") = py::none(), arg("documents") = py::none(),
           arg("teaching") = py::none(), arg("between") = py::none(),
           "Repeats the micro-batch on scratch gradients and names the first tensor that is not finite, with "
           "what made that element; None if all are. ledger() then has the last `frames` tensors up to there. "
           "tap(place, shape, first, elements) is called with each of them as it comes by, or with the next piece of "
           "one.")
      .def("ledger", &Class::ledger, "The tensors of the last trace(), in the order of execution, as dicts.")
      .def("_add_plant", &Class::add_plant, arg("fault"),
           "Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; "
           "returns "
           "its number.")
      .def("_remove_plant", &Class::remove_plant, arg("number"), "Takes it out; returns how often it has fired.");
}

}  // namespace

void bind_model(py::module_& m) {
  m.def("choices", &choices, "The names that a model's configuration may have, by field.");
  bind_transformer<float>(m, "TransformerF32");
  bind_transformer<double>(m, "TransformerF64");
}

}  // namespace loopos::bind
