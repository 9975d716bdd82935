#include "layers/adapter.h"

#include <cmath>
#include <map>
#include <set>

namespace loopos {
namespace {

constexpr const char* kFunction = "add_adapter";

/// The parts of each slot, by its number.
using PartsOf = std::map<std::size_t, std::vector<LowRankSpec>>;

void check_beside(const LowRankSpec& part, const std::vector<LowRankSpec>& others) {
  for (const auto& other : others) {
    require(part.first >= other.first + other.rows || other.first >= part.first + part.rows, kFunction, ": parts ",
            other.name, " and ", part.name, " overlap: both act on row ", std::max(part.first, other.first), " of ",
            part.projection, "; give each a range of its own");
    require(part.dropout == other.dropout, kFunction, ": parts ", other.name, " and ", part.name, " of ",
            part.projection, " share their input and its dropout; expected one dropout, got ", other.dropout, " and ",
            part.dropout);
  }
}

template <class T>
PartsOf sorted(const ParameterSet<T>& set, const typename Adapter<T>::Slots& slots,
               const std::vector<LowRankSpec>& parts) {
  require(!parts.empty(), kFunction, ": there are no parts; give one at least");
  PartsOf result;
  std::set<std::string> names;
  for (const auto& p : set.list()) names.insert(p.name);
  for (const auto& part : parts) {
    std::size_t i = 0;
    while (i < slots.size() && (*slots[i])->site().name != part.projection) ++i;
    if (i == slots.size()) {
      std::string known;
      for (const auto* slot : slots) known += (known.empty() ? "" : ", ") + (*slot)->site().name;
      throw std::invalid_argument(cat(kFunction, ": part ", part.name, " is for the projection '", part.projection,
                                      "', which the model does not have; it has ", known));
    }
    const Index out = (*slots[i])->out();
    require(part.first >= 0 && part.rows >= 1 && part.first < out && part.rows <= out - part.first, kFunction,
            ": part ", part.name, " must lie within the ", out, " rows of ", part.projection, ", got first ",
            part.first, " and rows ", part.rows);
    require(part.rank >= 1, kFunction, ": the rank of part ", part.name, " must be 1 at least, got ", part.rank);
    require(std::isfinite(part.scale), kFunction, ": the scale of part ", part.name, " must be finite, got ",
            part.scale);
    require(part.dropout >= 0 && part.dropout < 1, kFunction, ": the dropout of part ", part.name,
            " must be in [0, 1), got ", part.dropout);
    for (const char* matrix : {".lora_A", ".lora_B", ".lora_magnitude"})
      require(names.insert(part.name + matrix).second, kFunction, ": there would be two parameters ", part.name, matrix,
              "; give each part a name of its own");
    check_beside(part, result[i]);
    result[i].push_back(part);
  }
  return result;
}

}  // namespace

template <class T>
void Adapter<T>::add(ParameterSet<T>& set, const Slots& slots, Index first_dropout_site,
                     const std::vector<LowRankSpec>& parts) {
  require(!present(), kFunction, ": the model has an adapter already; remove it first");
  const PartsOf of = sorted<T>(set, slots, parts);
  wrapped_.reserve(of.size());
  try {
    addition_.begin(set, "the adapter and its gradients", [&] {
      for (const auto& [number, specs] : of) {
        auto& slot = *slots[number];
        const Index dropout_site = first_dropout_site + static_cast<Index>(number);
        auto adapted = std::make_unique<Adapted<T>>(set, *slot, dropout_site, specs);
        adapted->wrap(std::move(slot));
        wrapped_.push_back({&slot, adapted.get()});
        slot = std::move(adapted);
      }
    });
    for (auto& each : wrapped_) each.adapted->set_out();
  } catch (...) {
    remove(set);
    throw;
  }
}

template <class T>
void Adapter<T>::remove(ParameterSet<T>& set) {
  for (auto& [slot, adapted] : wrapped_) {
    auto base = adapted->release();
    *slot = std::move(base);
  }
  wrapped_.clear();
  addition_.end(set);
}

template <class T>
void Adapter<T>::enable(bool on) {
  for (auto& each : wrapped_) each.adapted->enable(on);
}

template class Adapter<float>;
template class Adapter<double>;

}  // namespace loopos
