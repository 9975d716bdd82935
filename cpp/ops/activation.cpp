#include "ops/activation.h"

#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

constexpr Index kGrain = 8192;  // elements per block

}  // namespace

const std::vector<FeedForwardActivation>& feed_forward_activations() {
  // clang-format off: one row a line
  static const std::vector<FeedForwardActivation> choices = {
      {"gelu_tanh", Activation::gelu_tanh, false, "gelu"},
      {"gelu", Activation::gelu, false, "gelu"},
      {"relu", Activation::relu, false, "relu"},
      {"swiglu", Activation::silu, true, "swiglu"},
      {"silu", Activation::silu, false, "silu"},
  };
  // clang-format on
  return choices;
}

const FeedForwardActivation& feed_forward_activation(const std::string& name) {
  return choice("activation", name, feed_forward_activations());
}

template <class T>
const kernels::Pointwise<T>& activation_kernel(Activation kind) {
  const auto& k = kernels::table<T>();
  switch (kind) {
    case Activation::relu:
      return k.relu;
    case Activation::gelu:
      return k.gelu;
    case Activation::gelu_tanh:
      return k.gelu_tanh;
    case Activation::silu:
      return k.silu;
    case Activation::sigmoid:
      return k.sigmoid;
    case Activation::tanh:
      return k.tanh;
  }
  throw std::logic_error("activation: unknown kind");
}

template <class T>
void activation_forward(Activation kind, const T* x, Index n, T* y) {
  const auto& f = activation_kernel<T>(kind);
  parallel_blocks(n, kGrain, [&](Index begin, Index end) { f.forward(x + begin, end - begin, y + begin); });
}

template <class T>
void activation_forward_with_slope(Activation kind, T* x, Index n, T* y) {
  const auto& f = activation_kernel<T>(kind);
  parallel_blocks(n, kGrain, [&](Index begin, Index end) { f.with_slope(x + begin, end - begin, y + begin); });
}

template <class T>
void apply_slope(const T* dy, const T* slope, Index n, T* dx) {
  parallel_blocks(n, kGrain, [&](Index begin, Index end) {
    kernels::table<T>().multiply(dy + begin, slope + begin, end - begin, dx + begin);
  });
}

template <class T>
void activation_backward(Activation kind, const T* dy, const T* x, Index n, T* dx) {
  const auto& f = activation_kernel<T>(kind);
  parallel_blocks(n, kGrain,
                  [&](Index begin, Index end) { f.backward(dy + begin, x + begin, end - begin, dx + begin); });
}

#define LOOPOS_INSTANTIATE(T)                                             \
  template const kernels::Pointwise<T>& activation_kernel(Activation);    \
  template void activation_forward(Activation, const T*, Index, T*);      \
  template void activation_forward_with_slope(Activation, T*, Index, T*); \
  template void apply_slope(const T*, const T*, Index, T*);               \
  template void activation_backward(Activation, const T*, const T*, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
