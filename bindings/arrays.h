// How numpy arrays come in and go out: dtype and shape checks that end in sentences, never a silent cast.
#pragma once

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/thread_pool.h"

namespace loopos::bind {

namespace py = pybind11;
using Shape = std::vector<py::ssize_t>;

std::string text(const Shape& shape);  // "(2, 3)"
template <class T>
const char* dtype_name();

/// Whether `value` is a numpy.ma.MaskedArray. Such a one is an array to numpy's C interface, which drops its mask.
bool is_masked(py::handle value);

/// A read-only input: C-contiguous and aligned; a view that is neither is copied (never cast).
template <class T>
struct Array {
  py::array_t<T> array;
  const T* data = nullptr;
  Shape shape;

  py::ssize_t size() const { return array.size(); }
  py::ssize_t ndim() const { return array.ndim(); }
  py::ssize_t last() const { return shape.back(); }
  py::ssize_t rows() const { return last() == 0 ? leading() : size() / last(); }  // product of all axes but the last
  py::ssize_t leading() const {
    py::ssize_t n = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
  }
};

/// The array `value` as T; TypeError naming function and argument when it is no numpy array, a masked one, or has
/// another dtype.
template <class T>
Array<T> input(const char* function, const char* argument, py::handle value);
/// input() with a fixed number of axes (-1: at least one), or ValueError.
template <class T>
Array<T> input(const char* function, const char* argument, py::handle value, int axes);
/// input() with exactly this shape, or ValueError naming expected and got.
template <class T>
Array<T> input(const char* function, const char* argument, py::handle value, const Shape& expected);

/// Ids or labels: int32 or int64 as int64 (a widening keeps every value); TypeError for anything else.
Array<std::int64_t> integers(const char* function, const char* argument, py::handle value);

/// A number where one is asked for: a Python float or int, a numpy float scalar, or a float array without axes.
/// TypeError for anything else, ValueError for an array with axes.
double scalar(const char* function, const char* argument, py::handle value);

/// True for float64, false for float32, else TypeError: the dtype that all float arguments of the call must share.
bool is_double(const char* function, const char* argument, py::handle value);

/// True for complex128, false for complex64, else TypeError.
bool is_complex_double(const char* function, const char* argument, py::handle value);

/// Calls body(float{}) or body(double{}) after the dtype of `value`.
template <class Body>
auto by_dtype(const char* function, const char* argument, py::handle value, Body&& body) {
  return is_double(function, argument, value) ? body(double{}) : body(float{});
}

/// What every call into the core holds: the GIL released, and the default floating-point mode.
struct Computing {
  py::gil_scoped_release unlocked;
  FpScope fp;
};

/// A whole number (Python or numpy integer, not bool); TypeError for anything else, ValueError for one that 64 bits do
/// not hold.
Index whole(const char* function, const char* argument, py::handle value);

/// A new C-contiguous array, 64-byte aligned, uninitialised. MemoryError when it cannot be had.
template <class T>
py::array_t<T> output(const Shape& shape);
/// output() filled with zeros: for a gradient that an op accumulates into.
template <class T>
py::array_t<T> zeros(const Shape& shape) {
  auto array = output<T>(shape);
  std::fill(array.mutable_data(), array.mutable_data() + array.size(), T(0));
  return array;
}

}  // namespace loopos::bind
