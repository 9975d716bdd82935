#include "ops/activation.h"

#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

constexpr Index kGrain = 8192;  // elements per block

struct Named {
  const char* name;
  Activation f;
};
#define LOOPOS_ROW(name, Struct) {#name, Activation::name},
constexpr Named kNamed[] = {LOOPOS_ACTIVATIONS(LOOPOS_ROW)};
#undef LOOPOS_ROW

}  // namespace

Activation activation_named(const char* what, const std::string& name) {
  return choice(what, name, kNamed).f;
}

const std::vector<FeedForwardActivation>& feed_forward_activations() {
  // clang-format off: one row a line
  static const std::vector<FeedForwardActivation> choices = {
      {"gelu_tanh", Activation::gelu_tanh, false, "gelu"},
      {"gelu", Activation::gelu, false, "gelu"},
      {"relu", Activation::relu, false, "relu"},
      {"swiglu", Activation::silu, true, "swiglu"},
      {"silu", Activation::silu, false, "silu"},
      {"relu2", Activation::relu2, false, "relu2"},
      {"geglu", Activation::gelu, true, "geglu"},
      {"geglu_tanh", Activation::gelu_tanh, true, "geglu_tanh"},
  };
  // clang-format on
  return choices;
}

const FeedForwardActivation& feed_forward_activation(const std::string& name) {
  return choice("activation", name, feed_forward_activations());
}

template <class T>
const kernels::Pointwise<T>& activation_kernel(Activation kind) {
  return kernels::table<T>().activation[static_cast<int>(kind)];
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
