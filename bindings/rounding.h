#pragma once

#include "arrays.h"

namespace loopos::bind {

void bind_rounding(py::module_& m);

}  // namespace loopos::bind
