// What a pass of training is told beside ids and targets: a teacher to learn from, or a loss that Python works out.
#pragma once

#include <pybind11/stl.h>

#include <cmath>
#include <string>

#include "arrays.h"
#include "models/gpt.h"

namespace loopos::bind {

/// teaching: None, or a dict of "loss" ("kl", or a name of kRowLosses), "hidden" (B, T, C of the teacher; with "layers"
/// "all" (L, B, T, C), of each block), "temperature", "weight", "cross_entropy" and "teacher", which the caller has
/// resolved to a model. between: None, or a pair ("hidden", "logits" or "losses", fn): fn(array) -> (loss, gradient of
/// the array's shape and dtype) is called once, with what the whole batch gave. Made, and given up, with the
/// interpreter's lock.
template <class T>
class Objective {
 public:
  Objective(const py::object& teaching, const Gpt<T>* teacher, const py::object& between, const Shape& shape,
            const GptConfig& config)
      : shape_(shape) {
    require(teaching.is_none() || between.is_none(),
            "Model: teaching and between are two losses; expected one of them");
    if (!teaching.is_none()) teach(teaching.cast<py::dict>(), *teacher, config);
    if (!between.is_none()) take(between.cast<py::tuple>(), config);
  }

  /// Without the interpreter's lock.
  LossSum accumulate(Gpt<T>& gpt, const Pass& pass, const Inputs<T>& in, const Index* targets,
                     const CrossEntropyOptions& options, double scale, bool add) {
    if (!fn_) return gpt.accumulate(pass, in, targets, options, scale, add, taught_ ? &teaching_ : nullptr);
    between_.compute = [&] { return call(gpt); };
    LossSum result = gpt.accumulate_with(pass, in, targets, options, add, between_);
    result.sum = loss_;
    return result;
  }

 private:
  void teach(const py::dict& d, const Gpt<T>& teacher, const GptConfig& config) {
    const auto number = [&](const char* key) { return d[key].cast<double>(); };
    const auto name = d["loss"].cast<std::string>();
    const GptConfig& other = teacher.config();
    const auto layers = static_cast<Index>(other.layers.size());
    const bool all = d.contains("layers") && d["layers"].cast<std::string>() == "all";
    const Shape rows{shape_[0], shape_[1], other.d_model};
    hidden_ = input<T>("Model", "hidden", d["hidden"], all ? Shape{layers, rows[0], rows[1], rows[2]} : rows);
    teaching_.hidden = hidden_.data;
    teaching_.width = other.d_model;
    teaching_.temperature = number("temperature");
    teaching_.weight = number("weight");
    teaching_.cross_entropy = number("cross_entropy");
    if (name == "kl") {
      teaching_.head = &teacher.head_weight();
      require(other.outputs() == config.outputs(), "Model: kl compares logits; a teacher of ", other.outputs(),
              " logits does not fit a student of ", config.outputs());
    } else {
      teaching_.rows = choice("loss", name, kRowLosses).kind;
      require(other.d_model == config.d_model, "Model: ", name, " compares hidden states; a teacher of d_model ",
              other.d_model, " does not fit a student of ", config.d_model);
    }
    if (all) {
      require(!config.pictures, "Model: the blocks of a captioner have rows of pictures too, so ", name,
              " of all of them has no teacher; compare the last hidden states");
      require(name != "kl" && layers == static_cast<Index>(config.layers.size()), "Model: ", name, " of all ", layers,
              " blocks of a teacher does not fit a student of ", config.layers.size());
      teaching_.streams = layers - 1;
      teaching_.stride = rows[0] * rows[1] * rows[2];
      teaching_.stream = hidden_.data;
      teaching_.hidden = hidden_.data + teaching_.streams * teaching_.stride;
      teaching_.weight /= static_cast<double>(layers);  // the mean over them
    }
    taught_ = true;
  }

  void take(const py::tuple& between, const GptConfig& config) {
    using Of = typename Between<T>::Of;
    struct Kind {
      const char* name;
      Of of;
    };
    constexpr Kind kKinds[] = {{"hidden", Of::hidden}, {"logits", Of::logits}, {"losses", Of::losses}};
    between_.of = choice("between", between[0].cast<std::string>(), kKinds).of;
    fn_ = between[1];
    if (between_.of == Of::losses) return;
    values_ = output<T>({shape_[0], shape_[1], between_.of == Of::logits ? config.outputs() : config.d_model});
    between_.values = values_.mutable_data();
  }

  const T* call(Gpt<T>& gpt) {
    const py::gil_scoped_acquire locked;
    const bool by_row = between_.of == Between<T>::Of::losses;
    py::object given = values_;
    if (by_row) {
      auto losses = output<double>(shape_);
      std::copy(gpt.losses().begin(), gpt.losses().end(), losses.mutable_data());
      given = losses;
    }
    const int raised = FpScope::fresh();
    const py::object result = fn_(given);
    FpScope::fresh();  // whatever the function raised is no operation's
    FpScope::add(raised);
    if (!py::isinstance<py::tuple>(result) || py::len(result) != 2)
      throw py::type_error("loss: expected a pair (value, gradient) from the function");
    const auto pair = result.cast<py::tuple>();
    loss_ = scalar("loss", "value", pair[0]);
    if (!by_row) {
      gradient_ = input<T>("loss", "gradient", pair[1], Shape(values_.shape(), values_.shape() + values_.ndim()));
      return gradient_.data;
    }
    const auto weights = input<double>("loss", "gradient", pair[1], shape_);
    rows_.assign(weights.data, weights.data + weights.size());
    return rows_.data();
  }

  Shape shape_;
  bool taught_ = false;
  Teaching<T> teaching_;
  Array<T> hidden_, gradient_;
  Between<T> between_;
  py::object fn_;
  py::array_t<T> values_;
  std::vector<T> rows_;
  double loss_ = 0;
};

}  // namespace loopos::bind
