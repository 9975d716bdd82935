// Functions of Hermitian matrices by their eigenvalues: f(R) = V diag(f(w)) V^H. Backward: linalg/spectrum.h, with
//   log           F = log(a / b) / (a - b), by log1p where a and b are close
//   sqrt          F = 1 / (sqrt a + sqrt b)
//   inverse_sqrt  F = -1 / (sqrt a sqrt b (sqrt a + sqrt b))
//   exp           F = e^b (e^(a - b) - 1) / (a - b), by expm1 where a and b are close
// All but exp need eigenvalues above 0 (NotPositiveDefinite otherwise, naming the first that is not). A result beyond the
// range of T is refused.
#pragma once

#include "linalg/spectrum.h"

namespace loopos {

enum class SpectralFunction { log, sqrt, inverse_sqrt, exp };
struct SpectralName {
  const char* name;
  SpectralFunction value;
};
constexpr SpectralName kSpectralFunctions[] = {{"log", SpectralFunction::log},
                                               {"sqrt", SpectralFunction::sqrt},
                                               {"inverse_sqrt", SpectralFunction::inverse_sqrt},
                                               {"exp", SpectralFunction::exp}};

/// r, y (batch, n, n), Hermitian. known: what eigh_forward gave for r, where that is at hand.
template <class T>
void spectral_function_forward(const Complex<T>* r, Index batch, Index n, SpectralFunction function, Complex<T>* y,
                               const Eigensystem<T>& known = {});

template <class T>
void spectral_function_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n,
                                SpectralFunction function, Complex<T>* dr, const Eigensystem<T>& known = {});

}  // namespace loopos
