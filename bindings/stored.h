// Weights that are stored small, as Python names, fills and reads them.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "arrays.h"
#include "core/parameter.h"

namespace loopos::bind {

/// By its name; ValueError listing the names.
Storage storage_of(const std::string& name);
const char* storage_name(Storage kind);

using StoredWeights = std::deque<StoredWeight>;

/// The one of this name; ValueError when there is none.
StoredWeight& stored_named(StoredWeights& weights, const std::string& name);

/// Of each weight a dict: name, shape, storage, bytes, largest_error and
/// relative_error of its numbers.
py::list describe_stored(const StoredWeights& weights);
/// Stores rows (n, in) of float32 from row `first` on. The flat place of a number that cannot be stored, or -1.
Index store_into(StoredWeight& weight, Index first, const py::object& rows);
/// Rows [first, first + rows) as float32.
py::array load_from(const StoredWeight& weight, Index first, Index rows);
/// Its bytes and errors, and the same put back.
py::tuple stored_state(const StoredWeight& weight);
void set_stored_state(StoredWeight& weight, const py::tuple& state);

/// All weights by name in the order of execution, those that are stored small too.
template <class T>
py::list weight_names(const ParameterSet<T>& set) {
  std::map<std::uint64_t, std::string> names;
  for (const auto& p : set.list()) names[p.number] = p.name;
  for (const auto& w : set.stored()) names[w.number] = w.name;
  py::list result;
  for (const auto& [number, name] : names) result.append(name);
  return result;
}

/// The same of a model: a class with parameter_set() and serialise().
template <class Class>
void bind_stored_weights(py::class_<Class>& c) {
  using py::arg;
  const auto named = [](Class& self, const std::string& name) -> StoredWeight& {
    return stored_named(self.parameter_set().stored(), name);
  };
  c.def(
       "names", [](Class& self) { return weight_names(self.parameter_set()); },
       "All weights, also those that are stored small, in the order of execution.")
      .def(
          "stored", [](Class& self) { return describe_stored(self.parameter_set().stored()); },
          "Of each weight that is stored small a dict: name, shape, storage, bytes, largest_error, relative_error.")
      .def(
          "store",
          [named](Class& self, const std::string& name, Index first, const py::object& rows) {
            const auto lock = self.serialise();
            return store_into(named(self, name), first, rows);
          },
          arg("name"), arg("first"), arg("rows"),
          "Stores rows (n, in) float32 from row `first` on. Returns the flat place of a number that cannot be stored, "
          "or -1.")
      .def(
          "load_stored",
          [named](Class& self, const std::string& name, Index first, Index rows) {
            const auto lock = self.serialise();
            return load_from(named(self, name), first, rows);
          },
          arg("name"), arg("first"), arg("rows"),
          "Rows of a stored weight, as the float32 numbers that products compute with.")
      .def(
          "get_stored", [named](Class& self, const std::string& name) { return stored_state(named(self, name)); },
          arg("name"), "The bytes of a stored weight and its errors, copied.")
      .def(
          "set_stored",
          [named](Class& self, const std::string& name, const py::tuple& state) {
            const auto lock = self.serialise();
            set_stored_state(named(self, name), state);
          },
          arg("name"), arg("state"), "Puts back what get_stored gave.");
}

}  // namespace loopos::bind
