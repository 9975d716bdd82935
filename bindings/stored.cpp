#include "stored.h"

#include <cmath>
#include <cstring>

#include "ops/stored_linear.h"

namespace loopos::bind {
namespace {

struct Name {
  const char* name;
  Storage kind;
};
constexpr Name kNames[] = {
    {"bfloat16", Storage::bfloat16}, {"int8", Storage::int8}, {"nf4", Storage::nf4}, {"int4-symmetric", Storage::int4}};

}  // namespace

Storage storage_of(const std::string& name) {
  for (const auto& entry : kNames)
    if (name == entry.name) return entry.kind;
  throw std::invalid_argument(cat("storage must be 'bfloat16', 'int8', 'nf4' or 'int4-symmetric', got '", name, "'"));
}

const char* storage_name(Storage kind) {
  for (const auto& entry : kNames)
    if (kind == entry.kind) return entry.name;
  return "plain";
}

StoredWeight& stored_named(StoredWeights& weights, const std::string& name) {
  for (auto& weight : weights)
    if (weight.name == name) return weight;
  throw std::invalid_argument(cat("there is no stored weight ", name));
}

py::list describe_stored(const StoredWeights& weights) {
  py::list result;
  for (const auto& w : weights) {
    py::dict d;
    d["name"] = w.name;
    d["shape"] = py::make_tuple(w.out, w.in);
    d["storage"] = storage_name(w.kind);
    d["bytes"] = w.bytes.size();
    d["largest_error"] = w.largest_error;
    d["relative_error"] = w.squares > 0 ? std::sqrt(w.error_squares / w.squares) : 0.0;
    result.append(std::move(d));
  }
  return result;
}

Index store_into(StoredWeight& weight, Index first, const py::object& rows) {
  const auto from = input<float>("store", "rows", rows, 2);
  require(from.last() == weight.in && first >= 0 && first <= weight.out - from.shape[0], "store: ", from.shape[0],
          " rows from ", first, " on, of ", from.last(), " columns, do not lie in a weight (", weight.out, ", ",
          weight.in, ")");
  const Computing computing;
  return store_rows(weight, from.data, first, from.shape[0]);
}

py::array load_from(const StoredWeight& weight, Index first, Index rows) {
  require(first >= 0 && rows >= 0 && rows <= weight.out && first <= weight.out - rows, "load: ", rows, " rows from ",
          first, " on do not lie in a weight of ", weight.out, " rows");
  auto array = output<float>({rows, weight.in});
  float* to = array.mutable_data();
  const Computing computing;
  load_stored(weight, first, rows, to);
  return std::move(array);
}

py::tuple stored_state(const StoredWeight& weight) {
  py::array_t<std::uint8_t> bytes(weight.bytes.size());
  std::memcpy(bytes.mutable_data(), weight.bytes.data(), static_cast<std::size_t>(weight.bytes.size()));
  return py::make_tuple(std::move(bytes), weight.largest_error, weight.error_squares, weight.squares);
}

void set_stored_state(StoredWeight& weight, const py::tuple& state) {
  const auto bytes = py::array_t<std::uint8_t, py::array::c_style>::ensure(state[0]);
  require(bytes && bytes.size() == weight.bytes.size(), "the state of ", weight.name, " must have ",
          weight.bytes.size(), " bytes");
  std::memcpy(weight.bytes.data(), bytes.data(), static_cast<std::size_t>(weight.bytes.size()));
  weight.largest_error = state[1].cast<double>();
  weight.error_squares = state[2].cast<double>();
  weight.squares = state[3].cast<double>();
}

}  // namespace loopos::bind
