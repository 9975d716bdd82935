// The elementwise functions y = f(x), dx = dy f'(x): the one list of them. A row is a name and the struct of
// kernels/rows/activation.h that computes value and slope; enum, table of kernels and names are made from it.
//   relu       max(x, 0), slope 0 at 0
//   relu2      max(x, 0)^2, slope 2 max(x, 0)
//   gelu       x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2        slope Phi(x) + x e^(-x^2/2) / sqrt(2 pi)
//   gelu_tanh  x (1 + tanh u) / 2 = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
//   silu       x sigmoid(x)                                    slope s (1 + x (1 - s))
//   sigmoid    1 / (1 + e^-x)                                  slope e^-|x| / (1 + e^-|x|)^2
//   tanh                                                       slope 1 - tanh^2, from e^-2|x| without cancellation
// Sources: the two gelu, D. Hendrycks, K. Gimpel, arXiv:1606.08415; silu, P. Ramachandran and others, arXiv:1710.05941;
// relu2, D. So and others, arXiv:2109.08668. Stability: erfc instead of 1 + erf keeps the digits of the negative tail;
// no exponential has a positive argument, so no finite x overflows, except where relu2's value or slope is. A
// NaN in x or dy reaches the result (also at a slope of 0); gelu and silu of -inf are -inf * 0 = NaN, as in torch.
// Slopes at +-inf are their limits.
#pragma once

#define LOOPOS_ACTIVATIONS(X) \
  X(relu, Relu)               \
  X(relu2, Relu2)             \
  X(gelu, Gelu)               \
  X(gelu_tanh, GeluTanh)      \
  X(silu, Silu)               \
  X(sigmoid, Sigmoid)         \
  X(tanh, Tanh)

namespace loopos {

#define LOOPOS_NAME(name, Struct) name,
enum class Activation { LOOPOS_ACTIVATIONS(LOOPOS_NAME) };
#undef LOOPOS_NAME

#define LOOPOS_ONE(name, Struct) +1
constexpr int kActivations = 0 LOOPOS_ACTIVATIONS(LOOPOS_ONE);
#undef LOOPOS_ONE

}  // namespace loopos
