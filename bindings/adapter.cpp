#include "adapter.h"

#include <pybind11/stl.h>

#include <array>
#include <string>
#include <type_traits>

namespace loopos::bind {
namespace {

constexpr const char* kFunction = "add_adapter";

template <class X>
X entry(const py::dict& part, const char* key, const char* kind) {
  require(part.contains(key), kFunction, ": a part must have '", key, "', got ", py::repr(part).cast<std::string>());
  try {
    if (std::is_same_v<X, bool> && !py::isinstance<py::bool_>(part[key])) throw py::cast_error();
    return py::object(part[key]).cast<X>();
  } catch (const py::cast_error&) {
    throw py::type_error(
        cat(kFunction, ": '", key, "' of a part must be ", kind, ", got ", py::repr(part[key]).cast<std::string>()));
  }
}

LowRankSpec part_from(const py::dict& part) {
  constexpr std::array kKeys = {"projection", "name", "first", "rows", "rank", "scale", "dropout", "dora"};
  for (const auto& [key, value] : part)
    require(std::any_of(kKeys.begin(), kKeys.end(), [&](const char* known) { return key.equal(py::str(known)); }),
            kFunction, ": a part has projection, name, first, rows, rank, scale, dropout and perhaps dora, got also ",
            py::repr(key).cast<std::string>());
  const char *text = "a str", *integer = "an int", *number = "a float";
  return {entry<std::string>(part, "projection", text), entry<std::string>(part, "name", text),
          entry<Index>(part, "first", integer),         entry<Index>(part, "rows", integer),
          entry<Index>(part, "rank", integer),          entry<double>(part, "scale", number),
          entry<double>(part, "dropout", number),       part.contains("dora") && entry<bool>(part, "dora", "a bool")};
}

}  // namespace

std::vector<LowRankSpec> parts_from(const py::list& parts) {
  std::vector<LowRankSpec> result;
  for (const auto& part : parts) {
    if (!py::isinstance<py::dict>(part))
      throw py::type_error(cat(kFunction, ": a part must be a dict, got ", py::repr(part).cast<std::string>()));
    result.push_back(part_from(py::reinterpret_borrow<py::dict>(part)));
  }
  return result;
}

}  // namespace loopos::bind
