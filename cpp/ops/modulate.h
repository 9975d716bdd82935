// The modulation of a row x by a gate and an added part, both made elsewhere (layers/modulation.h):
//   y = gate(z) x + scale d,  dx = dy gate(z),  dz = dy x gate'(z),  dd = scale dy
// Backward needs x and z. A gate is offset + factor f(z) of a bounded f, so no finite z makes it overflow or vanish:
//   sigmoid   1/2 + sigmoid(z)       from 1/2 to 3/2, 1 at 0, slope 1/4 there
//   tanh      1 + tanh(z) / 2        from 1/2 to 3/2, 1 at 0, slope 1/2 there
//   document  1/2 + sigmoid(z) / 2   from 1/2 to 1, 3/4 at 0, slope 1/8 there: as it was published, said to reach 3/2.
//                                    Layer after layer takes a quarter away, 0.75^32 = 1e-4
// At z = 0 the first two are exactly 1 in either dtype. Special values: ops/activation.h; dz multiplies by the slope
// first, so that no product overflows on the way to 0.
#pragma once

#include <string>
#include <vector>

#include "ops/activation.h"

namespace loopos {

struct GateKind {
  const char* name;
  Activation f;
  double factor, offset;
};
/// The gates that a user may choose. The only list: Python reads it too.
const std::vector<GateKind>& gate_kinds();
/// ValueError (std::invalid_argument) that begins with `what` and names the choices.
const GateKind& gate_kind(const char* what, const std::string& name);

/// x, z, d, y (n). z null: no gate, y = x + scale d. y may be x.
template <class T>
void modulate_forward(const GateKind& gate, const T* x, const T* z, const T* d, Index n, double scale, T* y);

/// dy, x, z and the results (n); z null: no gate, and no dz. A null result skips its work; dx may be dy.
template <class T>
void modulate_backward(const GateKind& gate, const T* dy, const T* x, const T* z, Index n, double scale, T* dx, T* dz,
                       T* dd);

/// Arguments as given to modulate_forward, in rows of n numbers. dy null: of y; else of dx, dz or dd.
template <class T>
void modulate_operands(Operands& o, const GateKind& gate, const T* x, const T* z, const T* d, Index n, double scale,
                       const T* dy = nullptr);

}  // namespace loopos
