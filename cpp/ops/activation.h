// Elementwise activations, y = f(x) and dx = dy f'(x). Backward needs x alone.
//   relu       max(x, 0), slope 0 at 0
//   gelu       x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2        slope Phi(x) + x e^(-x^2/2) / sqrt(2 pi)
//   gelu_tanh  x (1 + tanh u) / 2 = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
//   silu       x sigmoid(x)                                    slope s (1 + x (1 - s))
//   sigmoid    1 / (1 + e^-x)                                  slope e^-|x| / (1 + e^-|x|)^2
//   tanh                                                       slope 1 - tanh^2, from e^-2|x| without cancellation
// Source of the two gelu: D. Hendrycks, K. Gimpel, arXiv:1606.08415; of silu: P. Ramachandran and others,
// arXiv:1710.05941. Stability: erfc instead of 1 + erf keeps the digits of the negative tail; no exponential has a
// positive argument, so no finite x overflows. A NaN in x or dy reaches the result (also at a slope of 0); gelu and
// silu of -inf are -inf * 0 = NaN, as in torch. Slopes at +-inf are their limits.
#pragma once

#include <string>
#include <vector>

#include "kernels/isa/table.h"
#include "trace/operands.h"

namespace loopos {

enum class Activation { relu, gelu, gelu_tanh, silu, sigmoid, tanh };

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
