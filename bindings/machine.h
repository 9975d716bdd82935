#pragma once

#include "arrays.h"

namespace loopos::bind {

void bind_machine(py::module_& m);

}  // namespace loopos::bind
