// Row kernels of the activations and of log-softmax's second half; see table.h for what each does, ops/activation.h for
// the formulas. A derivative has reached its limit 0 or 1 long before its argument is infinite; the argument is clamped
// beyond that point, so that no overflow or inf * 0 comes up on the way to the limit. The bounds are where the
// exponential inside is 0.
#pragma once

#include "kernels/rows/basic.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
constexpr T kSigmoidBound = sizeof(T) == 4 ? 120 : 800;  // e^-bound = 0
template <class T>
constexpr T kGeluTanhBound = sizeof(T) == 4 ? 12 : 25;  // e^-2u = 0
template <class T>
constexpr T kGaussBound = sizeof(T) == 4 ? 16 : 40;  // e^(-x^2/2) = 0

// An activation at x: its value, and its slope there.
template <class T>
struct Relu {
  V<T> x;
  explicit Relu(V<T> from) : x(from) {}
  V<T> value() const { return select(V<T>(T(0)) >= x, V<T>(T(0)), x); }  // NaN is not below 0: it stays
  V<T> slope() const { return select(x > V<T>(T(0)), V<T>(T(1)), value()); }
};

template <class T>
struct Relu2 {
  V<T> positive;
  explicit Relu2(V<T> x) : positive(Relu<T>(x).value()) {}
  V<T> value() const { return positive * positive; }
  V<T> slope() const { return positive + positive; }
};

template <class T>
struct Gelu {
  V<T> x;
  Gauss<T> g;
  explicit Gelu(V<T> from) : x(from), g(gauss(abs(from))) {}
  V<T> phi() const { return select(x >= V<T>(T(0)), V<T>(T(1)) - g.tail, g.tail); }
  V<T> value() const { return x * phi(); }
  V<T> slope() const { return phi() + clamp(x, kGaussBound<T>) * g.bell * V<T>(T(0.39894228040143267794)); }
};

template <class T>
struct GeluTanh {
  static constexpr T kTwice = T(1.59576912160573071176), kCube = T(0.044715);  // 2 sqrt(2 / pi)
  static V<T> twice_u(V<T> b) { return V<T>(kTwice) * b * fma(V<T>(kCube) * b, b, V<T>(T(1))); }
  V<T> x, b, e, inverse, phi;  // phi = sigmoid(2u)
  explicit GeluTanh(V<T> from) : x(from), b(clamp(from, kGeluTanhBound<T>)) {
    const Logistic<T> s(twice_u(b));
    e = s.e;
    inverse = V<T>(T(1)) / s.d;
    phi = select(s.positive, V<T>(T(1)), e) * inverse;
  }
  V<T> value() const { return x * phi; }
  V<T> slope() const {
    return fma(b * (e * inverse * inverse), V<T>(kTwice) * fma(V<T>(3 * kCube) * b, b, V<T>(T(1))), phi);
  }
};

template <class T>
struct Silu {
  V<T> x;
  explicit Silu(V<T> from) : x(from) {}
  V<T> value() const { return silu(x); }
  V<T> slope() const {
    const Logistic<T> s(x);
    return s.value() * fma(clamp(x, kSigmoidBound<T>), s.complement(), V<T>(T(1)));
  }
};

template <class T>
struct Sigmoid {
  V<T> x;
  explicit Sigmoid(V<T> from) : x(from) {}
  V<T> value() const { return sigmoid(x); }
  V<T> slope() const { return Logistic<T>(x).slope(); }
};

template <class T>
struct Tanh {
  V<T> x;
  explicit Tanh(V<T> from) : x(from) {}
  V<T> value() const { return tanh(x); }
  V<T> slope() const {  // 1 - tanh^2 = 4 e^-2|x| / (1 + e^-2|x|)^2
    const V<T> b = clamp(x, kSigmoidBound<T>);
    return V<T>(T(4)) * Logistic<T>(b + b).slope();
  }
};

template <class T, template <class> class F>
void activate(const T* x, Index n, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    prefetch_ahead(x + i);
    prefetch_ahead<T, 1>(y + i);
    store<T>(F<T>(load<T>(x + i, count)).value(), y + i, count);
  });
}

template <class T, template <class> class F>
void activate_backward(const T* dy, const T* x, Index n, T* dx) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(load<T>(dy + i, count) * F<T>(load<T>(x + i, count)).slope(), dx + i, count);
  });
}

template <class T, template <class> class F>
void activate_with_slope(T* x, Index n, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    prefetch_ahead<T, 1>(x + i);
    prefetch_ahead<T, 1>(y + i);
    const F<T> f(load<T>(x + i, count));
    store<T>(f.value(), y + i, count);
    store<T>(f.slope(), x + i, count);
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
  for_each_vector<T>(n, [&](Index i, auto count) {
    prefetch_ahead(a + i);
    prefetch_ahead(b + i);
    store<T>(load<T>(a + i, count) * load<T>(b + i, count), y + i, count);
  });
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
