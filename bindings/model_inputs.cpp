#include "model_inputs.h"

#include <algorithm>
#include <cmath>

#include "ops/embedding.h"

namespace loopos::bind {

Array<std::int64_t> checked_ids(const char* function, const py::object& ids, const GptConfig& config) {
  auto in = integers(function, "ids", ids);
  require(in.ndim() == 2, function, ": ids must have shape (B, T), got ", text(in.shape));
  require(in.shape[1] >= 1 && in.shape[1] <= config.context_length, function, ": ids must have 1 to ",
          config.context_length, " positions (the model's context_length), got ", in.shape[1]);
  check_ids(function, "ids", in.data, in.size(), config.vocab_size);
  return in;
}

Array<std::int64_t> checked_targets(const char* function, const py::object& targets, const Shape& shape, Index outputs,
                                    Index ignore_index) {
  auto labels = integers(function, "targets", targets);
  require(labels.shape == shape, function, ": targets must have the shape of ids ", text(shape), ", got ",
          text(labels.shape));
  check_targets(function, labels.data, labels.size(), outputs, ignore_index);
  return labels;
}

Array<std::int64_t> checked_documents(const char* function, const py::object& documents, const Shape& shape,
                                      const GptConfig& config) {
  if (documents.is_none()) return {};
  require(!config.pictures, function, ": documents that share a row have no picture of their own; give each a row");
  auto own = integers(function, "documents", documents);
  require(own.shape == shape, function, ": documents must have the shape of ids ", text(shape), ", got ",
          text(own.shape));
  const Index time = shape[1];
  for (Index at = 1; at < own.size(); ++at)
    require(at % time == 0 || own.data[at] >= own.data[at - 1], function,
            ": documents must never fall along a row (a document is a run of equal numbers), got ", own.data[at],
            " after ", own.data[at - 1], " at [", at / time, ", ", at % time, "]");
  return own;
}

template <class T>
Array<T> checked_images(const char* function, const py::object& images, Index batch, const PatchGrid& grid) {
  auto in = input<T>(function, "images", images, 4);
  const Shape wanted{batch < 0 ? in.shape[0] : batch, grid.height, grid.width, grid.channels};
  require(in.shape == wanted, function, ": images must have shape (B, height, width, channels) = ", text(wanted),
          ", got ", text(in.shape));
  const T* bad = std::find_if_not(in.data, in.data + in.size(), [](T x) { return std::isfinite(x); });
  const Index at = bad - in.data, size = grid.image_size(), line = grid.width * grid.channels;
  require(at == in.size(), function, ": images must be finite, got ", at < in.size() ? *bad : T(0), " at [", at / size,
          ", ", at % size / line, ", ", at % line / grid.channels, ", ", at % grid.channels, "]");
  return in;
}
template Array<float> checked_images(const char*, const py::object&, Index, const PatchGrid&);
template Array<double> checked_images(const char*, const py::object&, Index, const PatchGrid&);

Array<std::int64_t> checked_padding(const char* function, const py::object& padding, Index batch, Index length) {
  if (padding.is_none()) return {};
  auto before = integers(function, "padding", padding);
  require(before.shape == Shape{batch}, function, ": padding must have shape (B,) = ", text(Shape{batch}), ", got ",
          text(before.shape));
  for (Index b = 0; b < batch; ++b)
    require(before.data[b] >= 0 && before.data[b] <= length, function, ": padding must be from 0 to ", length, ", got ",
            before.data[b], " in row ", b);
  return before;
}

Pass pass_over(const Shape& shape, const Array<std::int64_t>& documents) {
  Pass pass = Pass::whole(shape[0], shape[1]);
  pass.documents = documents.data;
  return pass;
}

CrossEntropyOptions loss_options(Index ignore_index, double label_smoothing) {
  require(label_smoothing >= 0 && label_smoothing <= 1, "Model: label_smoothing must be from 0 to 1, got ",
          label_smoothing);
  return {ignore_index, label_smoothing};
}

}  // namespace loopos::bind
