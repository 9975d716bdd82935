#pragma once

#include "arrays.h"

namespace loopos::bind {

void bind_optim(py::module_& m);

}  // namespace loopos::bind
