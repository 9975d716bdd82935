// The transformer as Python sees it: one class per dtype, checks at the door, the GIL released, one call at a time per
// model.
#include "model.h"

#include <pybind11/stl.h>

#include <cfenv>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

#include "core/thread_pool.h"
#include "models/gpt.h"
#include "ops/global_norm.h"

namespace loopos::bind {
namespace {

GptConfig config_from(const py::dict& d) {
  const auto whole = [&](const char* key) { return d[key].cast<Index>(); };
  GptConfig c{};
  c.vocab_size = whole("vocab_size");
  c.context_length = whole("context_length");
  c.n_layer = whole("n_layer");
  c.n_head = whole("n_head");
  c.n_kv_head = whole("n_kv_head");
  c.d_model = whole("d_model");
  c.d_ff = whole("d_ff");
  c.rms_norm = d["norm"].cast<std::string>() == "rmsnorm";
  c.rope = d["position"].cast<std::string>() == "rope";
  c.bias = d["bias"].cast<bool>();
  c.tie_embeddings = d["tie_embeddings"].cast<bool>();
  const auto activation = d["activation"].cast<std::string>();
  if (activation == "gelu_tanh") c.activation = Activation::gelu_tanh;
  if (activation == "gelu") c.activation = Activation::gelu;
  if (activation == "relu") c.activation = Activation::relu;
  c.dropout = d["dropout"].cast<double>();
  c.norm_eps = d["norm_eps"].cast<double>();
  c.rope_theta = d["rope_theta"].cast<double>();
  return c;
}

template <class X>
py::dict place_to_dict(const X& x) {
  py::dict d;
  d["phase"] = x.phase;
  d["layer"] = x.layer < 0 ? py::object(py::none()) : py::object(py::int_(x.layer));
  d["op"] = x.op;
  d["tensor"] = x.tensor;
  return d;
}

py::tuple shape_to_tuple(const Extents& shape) {
  return py::tuple(
      py::cast(std::vector<Index>(shape.n.begin(), shape.n.begin() + static_cast<std::ptrdiff_t>(shape.rank))));
}

py::dict birth_to_dict(const Birth& birth) {
  py::dict d = place_to_dict(birth), operands;
  d["index"] = py::tuple(py::cast(birth.index));
  d["value"] = birth.value;
  for (const auto& [name, value] : birth.numbers) operands[name] = value;
  for (const auto& [name, values] : birth.vectors)
    operands[name] = py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
  d["operands"] = operands;
  return d;
}

/// Shares are of the elements that were looked at; min, max and rms are None where none is finite.
py::dict frame_to_dict(const Frame& frame) {
  py::dict d = place_to_dict(frame);
  const Index finite = frame.seen - frame.nonfinite;
  const auto number = [&](double value) { return finite ? py::object(py::float_(value)) : py::object(py::none()); };
  const auto share = [&](Index n) {
    return frame.seen ? static_cast<double>(n) / static_cast<double>(frame.seen) : 0.0;
  };
  d["shape"] = shape_to_tuple(frame.shape);
  d["min"] = number(frame.min);
  d["max"] = number(frame.max);
  d["rms"] =
      number(static_cast<double>(std::sqrt(frame.squares / static_cast<long double>(std::max<Index>(1, finite)))));
  d["zeros"] = share(frame.zeros);
  d["nonfinite"] = share(frame.nonfinite);
  py::list flags;
  for (const auto& [flag, name] :
       {std::pair{FE_INVALID, "invalid"}, {FE_DIVBYZERO, "divide"}, {FE_OVERFLOW, "overflow"}})
    if (frame.flags & flag) flags.append(name);
  d["flags"] = py::tuple(flags);
  if (frame.eps_rows >= 0) d["eps_rows"] = frame.eps_rows;
  return d;
}

struct Planted {
  Plant fault;
  py::object step, micro;  // None: every
};

template <class T>
class Transformer {
 public:
  Transformer(const py::dict& config, std::uint64_t seed) : gpt_(config_from(config), seed) {}

  /// Views into the flat buffers; `self` keeps them alive.
  py::dict parameters(const py::object& self) { return views(self, false); }
  py::dict gradients(const py::object& self) {
    const auto lock = serialise();
    gpt_.parameters().allocate_gradients();
    return views(self, true);
  }

  double grad_norm() {
    const Computing computing;
    std::lock_guard<std::mutex> lock(mutex_);
    auto& set = gpt_.parameters();
    set.allocate_gradients();
    const Span<T> all{set.gradients(), set.total()};
    return global_norm(&all, Index{1});
  }

  py::array forward(const py::object& ids) {
    const auto in = checked_ids("Model.forward", ids);
    auto logits = output<T>({in.shape[0], in.shape[1], gpt_.config().vocab_size});
    T* out = logits.mutable_data();
    const Computing computing;
    std::lock_guard<std::mutex> lock(mutex_);
    gpt_.forward(in.shape[0], in.shape[1], in.data, out);
    return std::move(logits);
  }

  py::tuple loss(const py::object& ids, const py::object& targets, Index ignore_index) {
    const auto in = checked_ids("Model.loss", ids);
    const auto labels = checked_targets("Model.loss", targets, in.shape, ignore_index);
    LossSum result;
    {
      const Computing computing;
      std::lock_guard<std::mutex> lock(mutex_);
      result = gpt_.loss(in.shape[0], in.shape[1], in.data, labels.data, ignore_index);
    }
    return py::make_tuple(result.sum, result.count);
  }

  py::tuple accumulate(const py::object& ids, const py::object& targets, double scale, Index ignore_index,
                       const py::object& step, std::uint64_t micro, std::uint64_t seed, bool add) {
    const auto in = checked_ids("Model", ids);
    const auto labels = checked_targets("Model", targets, in.shape, ignore_index);
    Pass pass = pass_of(in.shape, step, micro, seed);
    const auto planted = plants_at(step, micro);
    Probe planting(faults(planted), false, 0);
    if (planting.plants()) pass.probe = &planting;
    LossSum result;
    bool healthy = false;
    {
      const Computing computing;
      std::lock_guard<std::mutex> lock(mutex_);
      result = gpt_.accumulate(pass, in.data, labels.data, ignore_index, scale, add);
      healthy = computing.fp.raised() == 0 && result.sum - result.sum == 0;
    }
    return py::make_tuple(result.sum, result.count, healthy);
  }

  py::object trace(const py::object& ids, const py::object& targets, double scale, Index ignore_index,
                   const py::object& step, std::uint64_t micro, std::uint64_t seed, std::size_t frames,
                   const py::object& tap) {
    const auto in = checked_ids("Model", ids);
    const auto labels = checked_targets("Model", targets, in.shape, ignore_index);
    Pass pass = pass_of(in.shape, step, micro, seed);
    const auto planted = plants_at(step, micro);
    Probe probe(faults(planted), true, frames, tap.is_none() ? Tap() : tap_of(tap));
    pass.probe = &probe;
    {
      const Computing computing;
      std::lock_guard<std::mutex> lock(mutex_);
      auto& set = gpt_.parameters();
      set.allocate_gradients();
      Buffer<T> kept;
      set.swap_gradients(kept);  // scratch gradients take their place for this pass
      try {
        set.allocate_gradients();
        gpt_.accumulate(pass, in.data, labels.data, ignore_index, scale, false);
      } catch (...) {
        set.swap_gradients(kept);
        throw;
      }
      set.swap_gradients(kept);
    }
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

  /// Puts a fault into a tensor of every step, or of one, until it is taken out by the number that comes back.
  Index add_plant(const py::dict& d) {
    const auto lock = serialise();
    const Index number = plants_.empty() ? 0 : plants_.rbegin()->first + 1;
    plants_[number] = std::make_shared<Planted>(
        Planted{{d["phase"].cast<std::string>(), d["op"].cast<std::string>(), d["tensor"].cast<std::string>(),
                 d["index"].cast<std::vector<Index>>(), d["value"].cast<double>(), d["flag"].cast<bool>()},
                d["step"],
                d["micro"]});
    return number;
  }
  /// How often it has fired.
  Index remove_plant(Index number) {
    const auto lock = serialise();
    const Index fired = plants_.at(number)->fault.fired;
    plants_.erase(number);
    return fired;
  }

  void start_generation(Index batch, Index length) {
    require(batch >= 0 && length >= 0 && length <= gpt_.config().context_length, "generate: batch ", batch,
            " and length ", length, " do not fit the context length ", gpt_.config().context_length);
    const Computing computing;
    std::lock_guard<std::mutex> lock(mutex_);
    gpt_.start_generation(batch, length);
  }

  py::array next_logits(const py::object& ids) {
    const auto in = checked_ids("Model.generate", ids);
    auto logits = output<T>({in.shape[0], gpt_.config().vocab_size});
    T* out = logits.mutable_data();
    const Computing computing;
    std::lock_guard<std::mutex> lock(mutex_);
    require(in.shape[0] == gpt_.cache_batch() && gpt_.cache_left() >= in.shape[1] &&
                (in.shape[1] == 1 || gpt_.cache_empty()),
            "generate: ids of shape ", text(in.shape), " do not continue the generation that was started");
    gpt_.next_logits(in.shape[1], in.data, out);
    return std::move(logits);
  }

 private:
  std::unique_lock<std::mutex> serialise() {
    const Computing computing;
    return std::unique_lock<std::mutex>(mutex_);
  }

  py::dict views(const py::object& self, bool gradients) {
    py::dict result;
    for (auto& p : gpt_.parameters().list())
      result[py::str(p.name)] =
          py::array_t<T>(Shape(p.shape.begin(), p.shape.end()), gradients ? p.grad : p.value, self);
    return result;
  }

  Array<std::int64_t> checked_ids(const char* function, const py::object& ids) {
    const auto& config = gpt_.config();
    auto in = integers(function, "ids", ids);
    require(in.ndim() == 2, function, ": ids must have shape (B, T), got ", text(in.shape));
    require(in.shape[1] >= 1 && in.shape[1] <= config.context_length, function, ": ids must have 1 to ",
            config.context_length, " positions (the model's context_length), got ", in.shape[1]);
    check_ids(function, "ids", in.data, in.size(), config.vocab_size);
    return in;
  }

  Array<std::int64_t> checked_targets(const char* function, const py::object& targets, const Shape& shape,
                                      Index ignore_index) {
    auto labels = integers(function, "targets", targets);
    require(labels.shape == shape, function, ": targets must have the shape of ids ", text(shape), ", got ",
            text(labels.shape));
    check_targets(function, labels.data, labels.size(), gpt_.config().vocab_size, ignore_index);
    return labels;
  }

  /// Shared: another Python thread may take one out while a pass waits for its turn.
  std::vector<std::shared_ptr<Planted>> plants_at(const py::object& step, std::uint64_t micro) {
    std::vector<std::shared_ptr<Planted>> here;
    for (auto& [number, planted] : plants_)
      if ((planted->step.is_none() || planted->step.equal(step)) &&
          (planted->micro.is_none() || planted->micro.equal(py::int_(micro))))
        here.push_back(planted);
    return here;
  }
  static std::vector<Plant*> faults(const std::vector<std::shared_ptr<Planted>>& planted) {
    std::vector<Plant*> result;
    for (const auto& p : planted) result.push_back(&p->fault);
    return result;
  }

  static Tap tap_of(const py::object& tap) {
    return [&tap](const Frame& frame, const void* elements, bool is_double, Index first, Index count) {
      const py::gil_scoped_acquire locked;
      const auto copy = [&](auto type) -> py::array {
        return py::array_t<decltype(type)>(static_cast<py::ssize_t>(count),
                                           static_cast<const decltype(type)*>(elements));
      };
      tap(place_to_dict(frame), shape_to_tuple(frame.shape), first, is_double ? copy(double{}) : copy(float{}));
    };
  }

  Pass pass_of(const Shape& shape, const py::object& step, std::uint64_t micro, std::uint64_t seed) const {
    Pass pass = Pass::whole(shape[0], shape[1]);
    if (step.is_none()) return pass;  // no step, no dropout
    pass.dropout = gpt_.config().dropout;
    pass.seed = seed;
    pass.step = step.cast<std::uint64_t>();
    pass.micro = micro;
    return pass;
  }

  Gpt<T> gpt_;
  std::mutex mutex_;
  std::deque<Frame> frames_;  // of the last trace
  std::map<Index, std::shared_ptr<Planted>> plants_;
};

template <class T>
void bind_transformer(py::module_& m, const char* name) {
  using Class = Transformer<T>;
  using py::arg;
  py::class_<Class>(m, name, "A decoder-only transformer of one dtype; loopos.Model is its public face.")
      .def(py::init<const py::dict&, std::uint64_t>(), arg("config"), arg("seed"))
      .def(
          "parameters", [](const py::object& self) { return self.cast<Class&>().parameters(self); },
          "Writable views of the weights by name, in order of execution.")
      .def(
          "gradients", [](const py::object& self) { return self.cast<Class&>().gradients(self); },
          "Views of the gradients, like parameters().")
      .def("grad_norm", &Class::grad_norm, "The Euclidean norm of all gradients together, in double.")
      .def("forward", &Class::forward, arg("ids"), "Logits (B, T, V) of ids (B, T).")
      .def("loss", &Class::loss, arg("ids"), arg("targets"), arg("ignore_index") = -100,
           "(sum of losses, number of targets that count).")
      .def("accumulate", &Class::accumulate, arg("ids"), arg("targets"), py::kw_only(), arg("scale"),
           arg("ignore_index") = -100, arg("step") = py::none(), arg("micro") = 0, arg("seed") = 0, arg("add") = false,
           "Forward and backward; gradients = scale * d(sum of losses), or += with `add`. Returns (sum, count, "
           "healthy); healthy False: "
           "ask trace().")
      .def("trace", &Class::trace, arg("ids"), arg("targets"), py::kw_only(), arg("scale"), arg("ignore_index") = -100,
           arg("step") = py::none(), arg("micro") = 0, arg("seed") = 0, arg("frames") = std::size_t{1} << 16,
           arg("tap") = py::none(),
           "Runs the same micro-batch again on scratch gradients and names the first tensor that is not finite, with "
           "what made that element; None if all are. ledger() then has the last `frames` tensors up to there. "
           "tap(place, shape, first, elements) is called with each of them as it comes by, or with the next piece of "
           "one.")
      .def("ledger", &Class::ledger, "The tensors of the last trace(), in the order of execution, as dicts.")
      .def("_add_plant", &Class::add_plant, arg("fault"),
           "Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; "
           "returns "
           "its number.")
      .def("_remove_plant", &Class::remove_plant, arg("number"), "Takes it out; returns how often it has fired.")
      .def("start_generation", &Class::start_generation, arg("batch"), arg("length"), "Empties the key/value cache.")
      .def("next_logits", &Class::next_logits, arg("ids"),
           "Logits (B, V) after further ids (B, T): the prompt first, then one a call.");
}

}  // namespace

void bind_model(py::module_& m) {
  bind_transformer<float>(m, "TransformerF32");
  bind_transformer<double>(m, "TransformerF64");
}

}  // namespace loopos::bind
