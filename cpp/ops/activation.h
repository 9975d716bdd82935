// Elementwise activations, y = f(x) and dx = dy f'(x). Backward needs x alone. The functions, their formulas and what
// they do at the ends of the range: kernels/isa/activations.h.
#pragma once

#include <string>
#include <vector>

#include "kernels/isa/table.h"
#include "trace/operands.h"

namespace loopos {

/// f by its name. ValueError (std::invalid_argument) that begins with `what` and names the choices.
Activation activation_named(const char* what, const std::string& name);

/// What a feed-forward calls its activation: y = f(x), or gated y = f(gate) up (ops/gated.h); op is its name in
/// reports.
struct FeedForwardActivation {
  const char* name;
  Activation f;
  bool gated;
  const char* op;
};
/// The choices of a model's configuration. The only list: Python reads it too.
const std::vector<FeedForwardActivation>& feed_forward_activations();
/// ValueError (std::invalid_argument) naming the choices.
const FeedForwardActivation& feed_forward_activation(const std::string& name);

template <class T>
const kernels::Pointwise<T>& activation_kernel(Activation kind);

/// x, y (n); y may be x.
template <class T>
void activation_forward(Activation kind, const T* x, Index n, T* y);

/// The same y, and x becomes f'(x), of which dx = dy f'(x) is made later, to the bits of activation_backward.
template <class T>
void activation_forward_with_slope(Activation kind, T* x, Index n, T* y);

/// dx = dy slope, all (n); dx may be dy or slope.
template <class T>
void apply_slope(const T* dy, const T* slope, Index n, T* dx);

/// dy, x, dx (n); dx may be dy or x.
template <class T>
void activation_backward(Activation kind, const T* dy, const T* x, Index n, T* dx);

/// x as given to activation_forward. dy null: of y; else of dx.
template <class T>
void activation_operands(Operands& o, const T* x, Index n, const T* dy = nullptr) {
  const Index at = o.row() * n + o.column();
  o.take("x", x + at, 1);
  if (dy) o.take("dy", dy + at, 1);
}

}  // namespace loopos
