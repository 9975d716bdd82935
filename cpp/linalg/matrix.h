// What the files of this folder share: complex numbers, errors of one matrix of a batch, and the loop over a batch.
//
// Matrices are (batch, N, N), rows one behind the other. A function of Hermitian matrices reads the lower triangle and the
// real part of the diagonal, and refuses a matrix that is not Hermitian (load.h). The gradient of a real loss by a complex
// number is the derivative by its real part plus i times that by its imaginary part (PyTorch's convention, the conjugate
// Wirtinger derivative times 2): the loss changes by the real part of sum conj(gradient) dr. Of a Hermitian matrix it is
// Hermitian.
//
// Inside, every matrix is divided by a power of 2 that brings its largest number near 1, and the result multiplied by the
// power that undoes this: so 1e-38 and 1e38 are as good as 1, and nothing overflows or vanishes on the way.
#pragma once

#include <complex>
#include <exception>
#include <mutex>

#include "core/check.h"
#include "core/thread_pool.h"

namespace loopos {

template <class T>
using Complex = std::complex<T>;

/// One matrix of a batch is refused; what() is a sentence without the number of the matrix.
class MatrixError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
  Index batch = 0;
};

/// Pivot (counted from 0) is what a diagonal element leaves when the ones before it are eliminated.
class NotPositiveDefinite : public MatrixError {
 public:
  NotPositiveDefinite(const std::string& sentence, Index pivot, double value)
      : MatrixError(sentence), pivot(pivot), value(value) {}
  Index pivot;
  double value;
};

class AmplificationRefused : public MatrixError {
 public:
  AmplificationRefused(const std::string& sentence, double trace, double floor, double factor)
      : MatrixError(sentence), trace(trace), floor(floor), factor(factor) {}
  double trace, floor, factor;
};

template <class... Parts>
void require_matrix(bool ok, const Parts&... parts) {
  if (!ok) throw MatrixError(cat(parts...));
}

/// Calls body(b) for every matrix of a batch of matrices with so many numbers, on any thread. Where some are refused, the
/// error is that of the first, whatever the threads did, and the results are not to be used.
template <class Body>
void each_matrix(Index batch, Index numbers, Body&& body) {
  std::mutex mutex;
  std::exception_ptr first;
  Index first_batch = batch;
  parallel_blocks(batch, 4096 / std::max<Index>(1, numbers), [&](Index begin, Index end) {
    for (Index b = begin; b < end; ++b) try {
        body(b);
      } catch (MatrixError& error) {
        error.batch = b;
        const std::lock_guard<std::mutex> lock(mutex);
        if (b >= first_batch) return;
        first_batch = b;
        first = std::current_exception();
        return;
      }
  });
  if (first) std::rethrow_exception(first);
}

/// The real numbers of complex ones.
template <class T>
const T* reals(const Complex<T>* x) {
  return reinterpret_cast<const T*>(x);
}
template <class T>
T* reals(Complex<T>* x) {
  return reinterpret_cast<T*>(x);
}

}  // namespace loopos
