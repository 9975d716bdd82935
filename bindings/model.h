#pragma once

#include "arrays.h"

namespace loopos::bind {

void bind_model(py::module_& m);
void bind_image_encoder(py::module_& m);
void bind_snapshot_encoder(py::module_& m);

}  // namespace loopos::bind
