// Row kernels of the activations and of log-softmax's second half; see table.h for what each does, ops/activation.h for
// the formulas. A derivative has reached its limit 0 or 1 long before its argument is infinite; the argument is clamped
// beyond that point, so that no overflow or inf * 0 comes up on the way to the limit. The bounds are where the
// exponential inside is 0.
#pragma once

#include "kernels/vecmath.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
constexpr T kSigmoidBound = sizeof(T) == 4 ? 120 : 800;  // e^-bound = 0
template <class T>
constexpr T kGeluTanhBound = sizeof(T) == 4 ? 12 : 25;  // e^-2u = 0
template <class T>
constexpr T kGaussBound = sizeof(T) == 4 ? 16 : 40;  // e^(-x^2/2) = 0

template <class T>
struct Relu {
  static V<T> value(V<T> x) { return select(V<T>(T(0)) >= x, V<T>(T(0)), x); }  // NaN is not below 0: it stays
  static V<T> slope(V<T> x) { return select(x > V<T>(T(0)), V<T>(T(1)), value(x)); }
};

template <class T>
struct Gelu {
  static V<T> phi(V<T> x, const Gauss<T>& g) { return select(x >= V<T>(T(0)), V<T>(T(1)) - g.tail, g.tail); }
  static V<T> value(V<T> x) { return x * phi(x, gauss(abs(x))); }
  static V<T> slope(V<T> x) {
    const Gauss<T> g = gauss(abs(x));
    return phi(x, g) + clamp(x, kGaussBound<T>) * g.bell * V<T>(T(0.39894228040143267794));
  }
};

template <class T>
struct GeluTanh {
  static constexpr T kTwice = T(1.59576912160573071176), kCube = T(0.044715);  // 2 sqrt(2 / pi)
  static V<T> twice_u(V<T> b) { return V<T>(kTwice) * b * fma(V<T>(kCube) * b, b, V<T>(T(1))); }
  static V<T> value(V<T> x) { return x * sigmoid(twice_u(clamp(x, kGeluTanhBound<T>))); }
  static V<T> slope(V<T> x) {
    const V<T> b = clamp(x, kGeluTanhBound<T>);
    const Logistic<T> s(twice_u(b));
    const V<T> inverse = V<T>(T(1)) / s.d, value = select(s.positive, V<T>(T(1)), s.e) * inverse;
    return fma(b * (s.e * inverse * inverse), V<T>(kTwice) * fma(V<T>(3 * kCube) * b, b, V<T>(T(1))), value);
  }
};

template <class T>
struct Silu {
  static V<T> value(V<T> x) { return silu(x); }
  static V<T> slope(V<T> x) {
    const Logistic<T> s(x);
    return s.value() * fma(clamp(x, kSigmoidBound<T>), s.complement(), V<T>(T(1)));
  }
};

template <class T>
struct Sigmoid {
  static V<T> value(V<T> x) { return sigmoid(x); }
  static V<T> slope(V<T> x) { return Logistic<T>(x).slope(); }
};

template <class T>
struct Tanh {
  static V<T> value(V<T> x) { return tanh(x); }
  static V<T> slope(V<T> x) {  // 1 - tanh^2 = 4 e^-2|x| / (1 + e^-2|x|)^2
    const V<T> b = clamp(x, kSigmoidBound<T>);
    return V<T>(T(4)) * Logistic<T>(b + b).slope();
  }
};

template <class T, template <class> class F>
void activate(const T* x, Index n, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) { store<T>(F<T>::value(load<T>(x + i, count)), y + i, count); });
}

template <class T, template <class> class F>
void activate_backward(const T* dy, const T* x, Index n, T* dx) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(load<T>(dy + i, count) * F<T>::slope(load<T>(x + i, count)), dx + i, count);
  });
}

template <class T>
void swiglu(const T* gate, const T* up, Index n, T* y) {
  for_each_vector<T>(
      n, [&](Index i, auto count) { store<T>(silu(load<T>(gate + i, count)) * load<T>(up + i, count), y + i, count); });
}

template <class T>
void swiglu_backward(const T* dy, const T* gate, const T* up, Index n, T* dgate, T* dup) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    const V<T> g = load<T>(gate + i, count), u = load<T>(up + i, count), d = load<T>(dy + i, count);
    const Logistic<T> s(g);
    const V<T> value = s.value();
    store<T>(d * (g * value), dup + i, count);
    store<T>(d * u * (value * fma(clamp(g, kSigmoidBound<T>), s.complement(), V<T>(T(1)))), dgate + i, count);
  });
}

template <class T>
void subtract_twice(const T* x, Index n, T first, T second, T* y) {
  for_each_vector<T>(
      n, [&](Index i, auto count) { store<T>(load<T>(x + i, count) - V<T>(first) - V<T>(second), y + i, count); });
}

template <class T>
void log_softmax_backward(const T* dy, const T* y, Index n, T total, T* dx) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(load<T>(dy + i, count) - exp(load<T>(y + i, count)) * V<T>(total), dx + i, count);
  });
}

template <class T>
void scale_add(const T* x, Index n, T factor, T constant, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(fma(V<T>(factor), load<T>(x + i, count), V<T>(constant)), y + i, count);
  });
}

template <class T>
void multiply(const T* a, const T* b, Index n, T* y) {
  for_each_vector<T>(
      n, [&](Index i, auto count) { store<T>(load<T>(a + i, count) * load<T>(b + i, count), y + i, count); });
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
