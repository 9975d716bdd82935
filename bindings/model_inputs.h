// What a model is handed: ids, targets and documents, checked at the door.
#pragma once

#include "arrays.h"
#include "layers/pass.h"
#include "models/gpt.h"

namespace loopos::bind {

/// (B, T), each from 0 to vocab_size - 1, with 1 <= T <= context_length.
Array<std::int64_t> checked_ids(const char* function, const py::object& ids, const GptConfig& config);

/// Of this shape, each from 0 to outputs - 1, or ignore_index.
Array<std::int64_t> checked_targets(const char* function, const py::object& targets, const Shape& shape, Index outputs,
                                    Index ignore_index);

/// Of this shape, never falling along a row. No data where it is None, as it must be with pictures.
Array<std::int64_t> checked_documents(const char* function, const py::object& documents, const Shape& shape,
                                      const GptConfig& config);

/// (B, height, width, channels) of finite numbers; batch -1: any B.
template <class T>
Array<T> checked_images(const char* function, const py::object& images, Index batch, const PatchGrid& grid);
/// Those of a batch of a model: none where it takes none.
template <class T>
Array<T> pictures_of(const char* function, const py::object& images, Index batch, const GptConfig& config) {
  if (config.pictures) return checked_images<T>(function, images, batch, config.pictures->grid);
  require(images.is_none(), function, ": images are for a captioner, and this model takes tokens alone");
  return {};
}

/// (batch), each from 0 to length. No data where it is None.
Array<std::int64_t> checked_padding(const char* function, const py::object& padding, Index batch, Index length);

/// A pass over ids of this shape.
Pass pass_over(const Shape& shape, const Array<std::int64_t>& documents);

CrossEntropyOptions loss_options(Index ignore_index, double label_smoothing);

}  // namespace loopos::bind
