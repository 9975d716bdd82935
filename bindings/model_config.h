// The configuration of a model as Python hands it over.
#pragma once

#include "arrays.h"
#include "models/gpt.h"
#include "models/snapshot_encoder.h"

namespace loopos::bind {

/// Of the dict that loopos.Model makes of a ModelConfig, which has checked it. A name that is in no table of choices:
/// std::invalid_argument.
GptConfig config_from(const py::dict& d);
ImageConfig image_config_from(const py::dict& d);
SnapshotConfig snapshot_config_from(const py::dict& d);

/// The names that a configuration may have, by field.
py::dict choices();

}  // namespace loopos::bind
