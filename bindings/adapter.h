// What Python asks of an adapter, as the core takes it.
#pragma once

#include <string>
#include <vector>

#include "arrays.h"
#include "layers/adapted.h"
#include "layers/modulation.h"

namespace loopos::bind {

/// A list of dicts; ValueError names a key that is missing or unknown, TypeError a value of another type.
std::vector<LowRankSpec> parts_from(const py::list& parts);

/// The methods of a model that adapt it. Class has changing() and serialise(), see model.cpp.
template <class Class>
void bind_adapter(py::class_<Class>& c) {
  using py::arg;
  c.def(
       "add_adapter",
       [](Class& self, const py::list& parts) {
         const auto specs = parts_from(parts);
         const auto lock = self.serialise();
         self.changing().add_adapter(specs);
       },
       arg("parts"),
       "Adds low-rank parts to projections and freezes the model's own parameters. parts: dicts of projection "
       "(blocks.0.attn.qkv_proj), name (of its parameters, before .lora_A and .lora_B), first and rows (of the "
       "projection's output), rank, scale, dropout (of its input in training steps), and dora (False unless given: "
       "with True there is "
       ".lora_magnitude, too). A and B begin as 0, magnitudes as the lengths of the weight's rows.")
      .def(
          "add_modulation",
          [](Class& self, Index rank, const std::string& gate, double additive_scale, bool safe_mode) {
            const GateKind& kind = gate_kind("add_modulation: gate", gate);
            const auto lock = self.serialise();
            self.changing().add_modulation({rank, kind, additive_scale, safe_mode});
          },
          arg("rank"), arg("gate"), arg("additive_scale"), arg("safe_mode"),
          "Adds to every block what its attention does to the input of its feed-forward (layers/modulation.h), and "
          "freezes the model's own parameters. gate: as of ops.modulate; safe_mode: none. Every matrix begins as 0.")
      .def(
          "remove_adapter",
          [](Class& self) {
            const auto lock = self.serialise();
            self.changing().remove_adapter();
          },
          "Without it, and with every parameter trainable or frozen as it was before.")
      .def(
          "adapter_enabled",
          [](Class& self, bool on) {
            const auto lock = self.serialise();
            self.changing().enable_adapter(on);
          },
          arg("on"), "False: the model computes as without its adapter, which stays.");
}

}  // namespace loopos::bind
