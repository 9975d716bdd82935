#include "arrays.h"

#include <limits>

#include "core/buffer.h"
#include "core/memory.h"

namespace loopos::bind {

bool is_masked(py::handle value) {
  const auto* plain = py::detail::npy_api::get().PyArray_Type_;
  if (Py_TYPE(value.ptr()) == plain || !py::isinstance<py::array>(value)) return false;
  // Until somebody has imported numpy.ma there is no masked array.
  const auto modules = py::reinterpret_borrow<py::dict>(PyImport_GetModuleDict());
  return modules.contains("numpy.ma") && py::isinstance(value, modules["numpy.ma"].attr("MaskedArray"));
}

namespace {

std::string describe(py::handle value) {
  if (is_masked(value)) return "a masked array, whose mask no function here looks at: pass its .filled(...) or .data";
  if (py::isinstance<py::array>(value))
    return "an array of dtype " + std::string(py::str(py::reinterpret_borrow<py::array>(value).dtype()));
  return "a " + std::string(py::str(py::type::handle_of(value).attr("__name__")));
}

template <class T>
bool has_dtype(py::handle value) {
  // Exact and native: '>f4' would need a conversion, and conversions are never silent here. Nor is a mask dropped.
  return py::isinstance<py::array>(value) && !is_masked(value) &&
         py::reinterpret_borrow<py::array>(value).dtype().equal(py::dtype::of<T>()) &&
         py::reinterpret_borrow<py::array>(value).dtype().byteorder() != '>';
}

Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

template <class T>
Array<T> wrap(const char* function, const char* argument, py::handle value) {
  // Integers index memory: they are copied, so that what was checked is what is read, whatever another thread writes
  // meanwhile.
  constexpr int ensure_copy = std::is_integral<T>::value ? 0x0020 : 0;  // NPY_ARRAY_ENSURECOPY
  constexpr int flags =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_ | ensure_copy;
  auto& api = py::detail::npy_api::get();
  auto array = py::reinterpret_steal<py::array>(
      api.PyArray_FromAny_(value.ptr(), py::dtype::of<T>().release().ptr(), 0, 0, flags, nullptr));
  if (!array) throw py::error_already_set();
  Array<T> result{py::reinterpret_borrow<py::array_t<T>>(array), nullptr, shape_of(array)};
  result.data = static_cast<const T*>(array.data());
  (void)function, (void)argument;
  return result;
}

}  // namespace

std::string text(const Shape& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

template <>
const char* dtype_name<float>() {
  return "float32";
}
template <>
const char* dtype_name<double>() {
  return "float64";
}
template <>
const char* dtype_name<std::complex<float>>() {
  return "complex64";
}
template <>
const char* dtype_name<std::complex<double>>() {
  return "complex128";
}

template <class T>
Array<T> input(const char* function, const char* argument, py::handle value) {
  if (!has_dtype<T>(value))
    throw py::type_error(cat(function, ": ", argument, " must be a numpy array of dtype ", dtype_name<T>(),
                             " (all float arguments of one call share one dtype, nothing is cast), got ",
                             describe(value)));
  return wrap<T>(function, argument, value);
}

template <class T>
Array<T> input(const char* function, const char* argument, py::handle value, int axes) {
  Array<T> array = input<T>(function, argument, value);
  if (axes < 0)
    require(array.ndim() >= 1, function, ": ", argument, " must have at least one axis, got shape ()");
  else
    require(array.ndim() == axes, function, ": ", argument, " must have ", axes, " axes, got shape ",
            text(array.shape));
  return array;
}

template <class T>
Array<T> input(const char* function, const char* argument, py::handle value, const Shape& expected) {
  Array<T> array = input<T>(function, argument, value);
  require(array.shape == expected, function, ": ", argument, " must have shape ", text(expected), ", got ",
          text(array.shape));
  return array;
}

Array<std::int64_t> integers(const char* function, const char* argument, py::handle value) {
  if (!has_dtype<std::int64_t>(value) && !has_dtype<std::int32_t>(value))
    throw py::type_error(
        cat(function, ": ", argument, " must be a numpy array of dtype int32 or int64, got ", describe(value)));
  return wrap<std::int64_t>(function, argument, value);
}

Index whole(const char* function, const char* argument, py::handle value) {
  const bool boolean = PyBool_Check(value.ptr()) || py::isinstance<py::array>(value);
  const auto number = py::reinterpret_steal<py::object>(boolean ? nullptr : PyNumber_Index(value.ptr()));
  if (!number) {
    PyErr_Clear();
    throw py::type_error(cat(function, ": ", argument, " must be an integer, got ", describe(value)));
  }
  int overflow = 0;
  const Index result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  require(overflow == 0, function, ": ", argument, " does not fit 64 bits");
  return result;
}

double scalar(const char* function, const char* argument, py::handle value) {
  const bool number = PyFloat_Check(value.ptr()) || (PyLong_Check(value.ptr()) && !PyBool_Check(value.ptr()));
  const bool array = py::isinstance<py::array>(value);
  bool floats = number;
  if (!number && !is_masked(value) && py::hasattr(value, "dtype")) {  // numpy scalars have a dtype too
    const py::object dtype = value.attr("dtype");
    floats = dtype.equal(py::dtype::of<float>()) || dtype.equal(py::dtype::of<double>());
  }
  if (!floats) throw py::type_error(cat(function, ": ", argument, " must be a float, got ", describe(value)));
  if (array) {
    const auto shape = shape_of(py::reinterpret_borrow<py::array>(value));
    require(shape.empty(), function, ": ", argument, " must be a scalar, got an array of shape ", text(shape));
  }
  const double result = PyFloat_AsDouble(value.ptr());
  if (result == -1 && PyErr_Occurred()) throw py::error_already_set();
  return result;
}

bool is_double(const char* function, const char* argument, py::handle value) {
  if (has_dtype<double>(value)) return true;
  if (has_dtype<float>(value)) return false;
  throw py::type_error(
      cat(function, ": ", argument, " must be a numpy array of dtype float32 or float64, got ", describe(value)));
}

bool is_complex_double(const char* function, const char* argument, py::handle value) {
  if (has_dtype<std::complex<double>>(value)) return true;
  if (has_dtype<std::complex<float>>(value)) return false;
  throw py::type_error(
      cat(function, ": ", argument, " must be a numpy array of dtype complex64 or complex128, got ", describe(value)));
}

template <class T>
py::array_t<T> output(const Shape& shape) {
  Index size = 1;
  for (py::ssize_t n : shape)
    if (__builtin_mul_overflow(size, static_cast<Index>(n), &size)) throw std::bad_alloc();
  require_memory("the result of shape " + text(shape), static_cast<double>(size) * sizeof(T));
  auto* buffer = new Buffer<T>(size);
  py::capsule owner(buffer, [](void* p) { delete static_cast<Buffer<T>*>(p); });
  return py::array_t<T>(shape, buffer->data(), owner);
}

#define LOOPOS_INSTANTIATE(T)                                                  \
  template Array<T> input(const char*, const char*, py::handle);               \
  template Array<T> input(const char*, const char*, py::handle, int);          \
  template Array<T> input(const char*, const char*, py::handle, const Shape&); \
  template py::array_t<T> output(const Shape&);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)
LOOPOS_INSTANTIATE(std::complex<float>)
LOOPOS_INSTANTIATE(std::complex<double>)

}  // namespace loopos::bind
