// The encoder of pictures as Python sees it, alone or as a classifier.
#include <pybind11/stl.h>

#include <optional>

#include "core_model.h"
#include "model.h"
#include "model_config.h"
#include "model_inputs.h"
#include "models/image_encoder.h"

namespace loopos::bind {
namespace {

/// An encoder with a set of its own.
template <class T>
struct Held {
  Held(const ImageConfig& config, std::optional<std::uint64_t> seed) : encoder(set, "", 0, config) {
    set.allocate(seed);
  }
  ParameterSet<T> set;
  ImageEncoder<T> encoder;
};

template <class T>
class Encoder : private Held<T>, public CoreModel<T, ImageEncoder<T>> {
 public:
  Encoder(const py::dict& config, std::optional<std::uint64_t> seed)
      : Held<T>(image_config_from(config), seed), CoreModel<T, ImageEncoder<T>>(this->encoder) {}

  void set_trainable(const std::string& name, bool trainable) {
    this->set_trainable_if(name, trainable, [](const Parameter<T>&) {});
  }

  py::array forward(const py::object& images) {
    const auto in = checked("ImageEncoder.forward", images);
    auto result = output<T>({in.shape[0], config().grid.rows(), config().outputs()});
    T* out = result.mutable_data();
    this->compute([&] { this->encoder.forward(pass_over(in), in.data, out); });
    return std::move(result);
  }
  py::array logits(const py::object& images) {
    const auto in = checked("ImageEncoder.logits", images);
    require_classes("ImageEncoder.logits");
    auto result = output<T>({in.shape[0], config().num_classes});
    T* out = result.mutable_data();
    this->compute([&] { this->encoder.logits(pass_over(in), in.data, out); });
    return std::move(result);
  }
  py::tuple loss(const py::object& images, const py::object& labels, Index ignore_index) {
    Batch in(*this, "ImageEncoder.loss", images, labels, ignore_index, 0);
    const LossSum sum =
        this->compute([&] { return this->encoder.loss(in.pass, in.images.data, in.labels.data, in.options); });
    return py::make_tuple(sum.sum, sum.count);
  }

  py::tuple accumulate(const py::object& images, const py::object& labels, double scale, Index ignore_index,
                       double label_smoothing, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                       bool add, Index first_row, const py::object& final_from) {
    Batch batch(*this, "ImageEncoder", images, labels, ignore_index, label_smoothing);
    batch.begin(*this, step, micro, seed, first_row);
    return this->accumulate_batch(batch, scale, add, final_from);
  }
  py::object trace(const py::object& images, const py::object& labels, double scale, Index ignore_index,
                   double label_smoothing, const py::object& step, std::uint64_t micro, std::uint64_t seed,
                   std::size_t frames, const py::object& tap, Index first_row) {
    Batch batch(*this, "ImageEncoder", images, labels, ignore_index, label_smoothing);
    batch.begin(*this, step, micro, seed, first_row);
    return this->trace_batch(batch, scale, frames, tap);
  }

  double workspace_bytes(Index batch, Index time, bool training, bool scored, bool compared) {
    require(batch >= 0 && batch <= kMostPictures, "workspace_bytes: batch must be from 0 to ", kMostPictures, ", got ",
            batch);
    require(time == 1, "workspace_bytes: time must be 1, a class a picture, got ", time);
    require(scored && !compared, "workspace_bytes: an encoder of pictures is scored and compared with nothing");
    const auto lock = this->serialise();
    Pass pass = Pass::whole(batch, 1);
    pass.stochastic = training;
    return this->encoder.workspace_bytes(pass, training);
  }

 private:
  static constexpr Index kMostPictures = Index{1} << 30;  // sizes stay within 64 bits

  const ImageConfig& config() const { return this->encoder.config(); }
  Array<T> checked(const char* function, const py::object& images) const {
    return checked_images<T>(function, images, -1, config().grid);
  }
  void require_classes(const char* function) const {
    require(config().num_classes > 0, function,
            ": this encoder has no classes; give its configuration num_classes to make it a classifier");
  }
  static Pass pass_over(const Array<T>& images) { return Pass::whole(images.shape[0], 1); }

  struct Batch {
    Array<T> images;
    Array<std::int64_t> labels;
    CrossEntropyOptions options;
    Pass pass;
    Plants::Here planted;

    Batch(const Encoder& model, const char* function, const py::object& images_in, const py::object& labels_in,
          Index ignore_index, double label_smoothing)
        : images(model.checked(function, images_in)),
          options(loss_options(ignore_index, label_smoothing)),
          pass(pass_over(images)) {
      model.require_classes(function);
      labels = checked_targets(function, labels_in, {images.shape[0]}, model.config().num_classes, ignore_index);
    }
    void begin(Encoder& model, const py::object& step, std::uint64_t micro, std::uint64_t seed, Index first_row) {
      planted = model.plants().at(step, micro);
      Encoder::begin_step(pass, model.config().dropout, step, micro, seed, first_row);
    }
    LossSum accumulate(ImageEncoder<T>& encoder, double scale, bool add) {
      return encoder.accumulate(pass, images.data, labels.data, options, scale, add);
    }
  };
};

template <class T>
void bind_encoder(py::module_& m, const char* name) {
  using Class = Encoder<T>;
  using py::arg;
  py::class_<Class> c(m, name, "An encoder of pictures of one dtype; loopos.vision.ImageEncoder is its public face.");
  bind_core_model(c);
  c.def("forward", &Class::forward, arg("images"),
        "Rows (B, P, C) of images (B, height, width, channels): the result of the final norm.")
      .def("logits", &Class::logits, arg("images"), "Of a classifier: (B, num_classes).")
      .def("loss", &Class::loss, arg("images"), arg("labels"), arg("ignore_index") = -100,
           "(sum of losses, number of labels (B) that count).")
      .def("workspace_bytes", &Class::workspace_bytes, arg("batch"), arg("time"), arg("training"), py::kw_only(),
           arg("scored") = true, arg("compared") = false,
           "Bytes that a pass over so many pictures takes beside weights and gradients: planned, not taken. The "
           "arguments are those of a transformer; time is 1.")
      .def("accumulate", &Class::accumulate, arg("images"), arg("labels"), py::kw_only(), arg("scale"),
           arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0,
           arg("seed") = 0, arg("add") = false, arg("first_row") = 0, arg("final_from") = py::none(),
           "As accumulate of a transformer.")
      .def("trace", &Class::trace, arg("images"), arg("labels"), py::kw_only(), arg("scale"),
           arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0,
           arg("seed") = 0, arg("frames") = std::size_t{1} << 16, arg("tap") = py::none(), arg("first_row") = 0,
           "As trace of a transformer.");
}

}  // namespace

void bind_image_encoder(py::module_& m) {
  bind_encoder<float>(m, "ImageEncoderF32");
  bind_encoder<double>(m, "ImageEncoderF64");
}

}  // namespace loopos::bind
