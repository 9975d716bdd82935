#pragma once

#include "arrays.h"

namespace loopos::bind {

void bind_samples(py::module_& m);

}  // namespace loopos::bind
