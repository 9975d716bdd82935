// The transformer as Python sees it: one class per dtype, checks at the door, the GIL released, one call at a time per
// model.
#include "model.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "adapter.h"
#include "core_model.h"
#include "generation.h"
#include "model_config.h"
#include "model_inputs.h"
#include "models/gpt.h"
#include "objective.h"
#include "stored.h"

namespace loopos::bind {
namespace {

template <class T>
class Transformer : public CoreModel<T, Gpt<T>> {
 public:
  Transformer(const py::dict& config, std::optional<std::uint64_t> seed)
      : CoreModel<T, Gpt<T>>(gpt_), gpt_(config_from(config), seed) {
    require(std::is_same_v<T, float> || gpt_.config().weights == Storage::plain,
            "weights that are stored small belong to a float32 model");
  }

  void set_trainable(const std::string& name, bool trainable) {
    this->set_trainable_if(name, trainable, [&](const Parameter<T>& p) {
      require(!gpt_.freezes(p), "set_trainable: ", name,
              " is a weight of the model, which is frozen while an adapter is on; remove the adapter first");
    });
  }

  py::array forward(const py::object& ids, const py::object& documents, const py::object& images) {
    return rows("Model.forward", ids, documents, images, gpt_.config().outputs(),
                [&](const Pass& pass, const Inputs<T>& in, T* out) { gpt_.forward(pass, in, out); });
  }
  py::array hidden(const py::object& ids, const py::object& documents, const py::object& images) {
    return rows("Model.hidden", ids, documents, images, gpt_.config().d_model,
                [&](const Pass& pass, const Inputs<T>& in, T* out) { gpt_.hidden(pass, in, out); });
  }

  py::array hidden_states(const py::object& ids, const py::object& documents) {
    require(!gpt_.config().pictures, "Model.hidden_states: not of a captioner, whose blocks have rows of pictures too");
    const auto layers = static_cast<Index>(gpt_.config().layers.size());
    return rows("Model.hidden_states", ids, documents, py::none(), gpt_.config().d_model,
                [&](const Pass& pass, const Inputs<T>& in, T* out) { gpt_.hidden_states(pass, in, out); }, {layers});
  }

  py::tuple loss(const py::object& ids, const py::object& targets, Index ignore_index, const py::object& documents,
                 const py::object& images) {
    const Scored in("Model.loss", ids, targets, ignore_index, documents, images, gpt_.config());
    const LossSum result = this->compute([&] { return in.loss(gpt_); });
    return py::make_tuple(result.sum, result.count);
  }
  py::array_t<double> losses(const py::object& ids, const py::object& targets, Index ignore_index,
                             const py::object& documents, const py::object& images) {
    const Scored in("Model.losses", ids, targets, ignore_index, documents, images, gpt_.config());
    auto result = output<double>(in.ids.shape);
    double* out = result.mutable_data();
    this->compute([&] {
      in.loss(gpt_);
      std::copy_n(gpt_.losses().data(), in.ids.size(), out);
    });
    return result;
  }

  double workspace_bytes(Index batch, Index time, bool training, bool scored, bool compared) {
    require(batch >= 0 && time >= 1 && time <= gpt_.config().context_length, "workspace_bytes: batch ", batch,
            " and time ", time, " do not fit the context length ", gpt_.config().context_length);
    constexpr Index kPositions = Index{1} << 40;  // sizes stay within 64 bits
    require(batch <= kPositions / time, "workspace_bytes: batch ", batch, " of ", time,
            " positions each is beyond any memory; expected at most 2**40 positions");
    const auto lock = this->serialise();
    Pass pass = Pass::whole(batch, time);
    pass.stochastic = training;  // by it the pictures know of their own dropout
    if (training) pass.dropout = gpt_.config().dropout;
    pass.scored = scored;
    pass.compared = compared;
    return gpt_.workspace_bytes(pass, training);
  }

  py::tuple accumulate(const py::object& ids, const py::object& targets, double scale, Index ignore_index,
                       double label_smoothing, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                       bool add, const py::object& documents, const py::object& teaching, const py::object& between,
                       const py::object& images, Index first_row, const py::object& final_from) {
    MicroBatch batch(*this, ids, targets, ignore_index, label_smoothing, documents, images, step, micro, seed, teaching,
                     between, first_row);
    return this->accumulate_batch(batch, scale, add, final_from);
  }

  py::object trace(const py::object& ids, const py::object& targets, double scale, Index ignore_index,
                   double label_smoothing, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                   std::size_t frames, const py::object& tap, const py::object& documents, const py::object& teaching,
                   const py::object& between, const py::object& images, Index first_row) {
    MicroBatch batch(*this, ids, targets, ignore_index, label_smoothing, documents, images, step, micro, seed, teaching,
                     between, first_row);
    return this->trace_batch(batch, scale, frames, tap);
  }

  /// The model, of which other operations than before are about to be asked. Under serialise().
  Gpt<T>& changing() {
    this->forget_operations();
    return gpt_;
  }
  Gpt<T>& gpt() { return gpt_; }

 private:
  /// What loss and losses are given, checked.
  struct Scored {
    Array<std::int64_t> ids, documents, targets;
    Array<T> images;
    CrossEntropyOptions options;

    Scored(const char* function, const py::object& ids_in, const py::object& targets_in, Index ignore_index,
           const py::object& documents_in, const py::object& images_in, const GptConfig& config)
        : ids(checked_ids(function, ids_in, config)),
          documents(checked_documents(function, documents_in, ids.shape, config)),
          targets(checked_targets(function, targets_in, ids.shape, config.outputs(), ignore_index)),
          images(pictures_of<T>(function, images_in, ids.shape[0], config)),
          options{ignore_index} {}

    Inputs<T> in() const { return {ids.data, images.data}; }
    LossSum loss(Gpt<T>& gpt) const { return gpt.loss(pass_over(ids.shape, documents), in(), targets.data, options); }
  };
  /// What accumulate and trace are given besides.
  struct MicroBatch : Scored {
    Pass pass;
    Plants::Here planted;
    Objective<T> objective;

    MicroBatch(Transformer& model, const py::object& ids_in, const py::object& targets_in, Index ignore_index,
               double label_smoothing, const py::object& documents_in, const py::object& images_in,
               const py::object& step, std::uint64_t micro, std::uint64_t seed, const py::object& teaching,
               const py::object& between, Index first_row)
        : Scored("Model", ids_in, targets_in, ignore_index, documents_in, images_in, model.gpt_.config()),
          pass(pass_over(this->ids.shape, this->documents)),
          planted(model.plants().at(step, micro)),
          objective(model.objective_of(teaching, between, this->ids.shape)) {
      Transformer::begin_step(pass, model.gpt_.config().dropout, step, micro, seed, first_row);
      this->options = loss_options(ignore_index, label_smoothing);
    }

    LossSum accumulate(Gpt<T>& gpt, double scale, bool add) {
      return objective.accumulate(gpt, pass, this->in(), this->targets.data, this->options, scale, add);
    }
  };

  /// (B, T, width) of ids (B, T), filled by body(pass, in, out); `shape` are axes before them.
  template <class Body>
  py::array rows(const char* function, const py::object& ids, const py::object& documents, const py::object& images,
                 Index width, Body&& body, Shape shape = {}) {
    const auto in = checked_ids(function, ids, gpt_.config());
    const auto own = checked_documents(function, documents, in.shape, gpt_.config());
    const auto seen = pictures_of<T>(function, images, in.shape[0], gpt_.config());
    shape.insert(shape.end(), {in.shape[0], in.shape[1], width});
    auto result = output<T>(shape);
    T* out = result.mutable_data();
    this->compute([&] { body(pass_over(in.shape, own), {in.data, seen.data}, out); });
    return std::move(result);
  }

  Objective<T> objective_of(const py::object& teaching, const py::object& between, const Shape& shape) {
    const Gpt<T>* teacher = &gpt_;
    if (!teaching.is_none())
      if (const py::object other = teaching["teacher"]; !other.is_none()) teacher = &other.cast<Transformer<T>&>().gpt_;
    return {teaching, teacher, between, shape, gpt_.config()};
  }

  Gpt<T> gpt_;
};

template <class T>
void bind_transformer(py::module_& m, const char* name) {
  using Class = Transformer<T>;
  using py::arg;
  py::class_<Class> c(m, name, "A decoder-only transformer of one dtype; loopos.Model is its public face.");
  bind_core_model(c);
  bind_stored_weights(c);
  bind_adapter(c);
  bind_generation<T>(c);
  c.def("forward", &Class::forward, arg("ids"), arg("documents") = py::none(), arg("images") = py::none(),
        "Logits (B, T, V) of ids (B, T). documents, here and below: None, or (B, T), integers that never fall along "
        "a row; a token sees its own document alone, in which positions begin at 0. images, here and below: of a "
        "captioner, (B, height, width, channels).")
      .def("hidden", &Class::hidden, arg("ids"), arg("documents") = py::none(), arg("images") = py::none(),
           "What the head is given: the result of the final norm (B, T, C).")
      .def("hidden_states", &Class::hidden_states, arg("ids"), arg("documents") = py::none(),
           "What flows out of each block, of the last one what the final norm makes of it: (L, B, T, C).")
      .def("loss", &Class::loss, arg("ids"), arg("targets"), arg("ignore_index") = -100, arg("documents") = py::none(),
           arg("images") = py::none(), "(sum of losses, number of targets that count).")
      .def("losses", &Class::losses, arg("ids"), arg("targets"), arg("ignore_index") = -100,
           arg("documents") = py::none(), arg("images") = py::none(),
           "The loss of each position (B, T), in double; 0 where the target does not count.")
      .def("workspace_bytes", &Class::workspace_bytes, arg("batch"), arg("time"), arg("training"), py::kw_only(),
           arg("scored") = true, arg("compared") = false,
           "Bytes that a pass over ids (B, T) takes beside weights and gradients: planned, not taken. scored: its loss "
           "is wanted; compared: with a teacher's logits.")
      .def(
          "accumulate", &Class::accumulate, arg("ids"), arg("targets"), py::kw_only(), arg("scale"),
          arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0,
          arg("seed") = 0, arg("add") = false, arg("documents") = py::none(), arg("teaching") = py::none(),
          arg("between") = py::none(), arg("images") = py::none(), arg("first_row") = 0, arg("final_from") = py::none(),
          "Forward and backward; gradients = scale * d(sum of losses), or += with `add`. Returns (sum, count, "
          "healthy); healthy False: ask raised() and trace(). teaching, here and in trace: None, or a dict: loss (kl, "
          "mse, normalized_mse or cosine), hidden (B, T, C): what hidden() of the teacher gave, or with layers \"all\" "
          "(L, B, T, C), what hidden_states() did, teacher: it, or None for this model, temperature, weight, "
          "cross_entropy: the loss of a position is cross_entropy times its own plus weight times the teacher's. "
          "between: None, or (of, fn): fn(array) gives (loss, gradient), once for the whole batch, of its hidden "
          "states (B, T, C), its logits (B, T, V) or its losses (B, T, float64); scale is the "
          "function's affair. first_row: of a batch that is a shard of a larger one, where it begins in it. "
          "final_from: None, or a function that backward calls on its way, where it takes the batch as a whole: in "
          "gradient_buffer() the numbers from this place to the end will not change any more in this call.")
      .def("trace", &Class::trace, arg("ids"), arg("targets"), py::kw_only(), arg("scale"), arg("ignore_index") = -100,
           arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0, arg("seed") = 0,
           arg("frames") = std::size_t{1} << 16, arg("tap") = py::none(), arg("documents") = py::none(),
           arg("teaching") = py::none(), arg("between") = py::none(), arg("images") = py::none(), arg("first_row") = 0,
           "Repeats the micro-batch on scratch gradients and names the first tensor that is not finite, with "
           "what made that element; None if all are. ledger() then has the last `frames` tensors up to there. "
           "tap(place, shape, first, elements) is called with each of them as it comes by, or with the next piece of "
           "one.");
}

}  // namespace

void bind_model(py::module_& m) {
  m.def("choices", &choices, "The names that a model's configuration may have, by field.");
  bind_image_encoder(m);
  bind_snapshot_encoder(m);
  bind_transformer<float>(m, "TransformerF32");
  bind_transformer<double>(m, "TransformerF64");
}

}  // namespace loopos::bind
