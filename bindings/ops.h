// One function per file of operation bindings; module.cpp calls them all.
#pragma once

#include <string>

#include "arrays.h"
#include "core/precision.h"

namespace loopos::bind {

inline Precision precision_from(const char* function, const std::string& name) {
  return choice(cat(function, ": precision").c_str(), name, kPrecisions).value;
}

void bind_add(py::module_& ops);
void bind_softmax(py::module_& ops);
void bind_attention(py::module_& ops);
void bind_cross_entropy(py::module_& ops);
void bind_activation(py::module_& ops);
void bind_modulate(py::module_& ops);
void bind_dora(py::module_& ops);
void bind_dropout(py::module_& ops);
void bind_linear(py::module_& ops);
void bind_low_rank(py::module_& ops);
void bind_stored(py::module_& ops);
void bind_pictures(py::module_& ops);
void bind_norm(py::module_& ops);
void bind_global_norm(py::module_& ops);
void bind_losses(py::module_& losses);

}  // namespace loopos::bind
