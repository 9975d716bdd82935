// Optimizer updates of one chunk of a tensor: one pass that reads gradient, weight and moments and writes weight and
// moments. The rules and their order are those of torch.optim (SGD, Adam, AdamW); see optim/rules.
#pragma once

#include "kernels/rows/basic.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// The clip factor comes in two parts, so that a tiny one is not rounded as a subnormal number.
template <class T>
inline V<T> scaled(V<T> g, const UpdateScale<T>& s) {
  return (g * V<T>(s.power)) * V<T>(s.rest);
}

/// Lanes beyond the end set to one: they are divided by, and 0 / 0 would raise a flag that no element of the row
/// raises.
template <class T>
inline V<T> ones_beyond(V<T> x, std::integral_constant<int, V<T>::N>) {
  return x;
}
template <class T>
inline V<T> ones_beyond(V<T> x, int n) {
  T all[V<T>::N];
  x.store(all);
  for (int i = n; i < V<T>::N; ++i) all[i] = T(1);
  return V<T>::load(all);
}

template <class T>
void sgd_update(const SgdUpdate<T>& u, const T* grad, Index n, T* p, T* momentum) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    V<T> g = scaled(load<T>(grad + i, count), u.scale);
    const V<T> w = load<T>(p + i, count);
    if (u.l2 != T(0)) g = fma(V<T>(u.l2), w, g);
    if (momentum) {
      const V<T> b = u.first ? g : fma(V<T>(u.one_minus_dampening), g, V<T>(u.momentum) * load<T>(momentum + i, count));
      store<T>(b, momentum + i, count);
      g = u.nesterov ? fma(V<T>(u.momentum), b, g) : b;
    }
    if (u.move) store<T>(fma(V<T>(-u.lr), g, w), p + i, count);
  });
}

template <class T>
T adam_update(const AdamUpdate<T>& u, const T* grad, Index n, T* p, T* exp_avg, T* exp_avg_sq) {
  V<T> top(T(0));
  for_each_vector<T>(n, [&](Index i, auto count) {
    prefetch_ahead(grad + i);
    prefetch_ahead(p + i);
    prefetch_ahead(exp_avg + i);
    prefetch_ahead(exp_avg_sq + i);
    V<T> g = scaled(load<T>(grad + i, count), u.scale);
    V<T> w = load<T>(p + i, count);
    if (u.l2 != T(0)) g = fma(V<T>(u.l2), w, g);
    V<T> m = load<T>(exp_avg + i, count), v = load<T>(exp_avg_sq + i, count);
    m = fma(V<T>(u.one_minus_beta1), g - m, m);
    v = fma(V<T>(u.one_minus_beta2) * g, g, V<T>(u.beta2) * v);
    store<T>(m, exp_avg + i, count);
    store<T>(v, exp_avg_sq + i, count);
    if (u.move) {
      const V<T> root = sqrt(v) * V<T>(u.inverse_root) + V<T>(u.eps);
      w = fma(V<T>(-u.step_size), m / ones_beyond<T>(root, count), w * V<T>(u.decay));
      store<T>(w, p + i, count);
    }
    top = select(abs(w) > top, abs(w), top);  // beyond the end m and w are zero
  });
  return max_lane(top);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
