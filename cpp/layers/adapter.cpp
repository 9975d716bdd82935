#include "layers/adapter.h"

#include <cmath>
#include <map>
#include <set>

namespace loopos {
namespace {

constexpr const char* kFunction = "add_adapter";

template <class T>
using Slots = std::vector<std::unique_ptr<Projection<T>>*>;  // where the stack keeps its projections

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
PartsOf sorted(const ParameterSet<T>& set, const Slots<T>& slots, const std::vector<LowRankSpec>& parts) {
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

template <class T>
void require_none(const char* function, const Addition<T>& addition) {
  require(!addition.present(), function, ": the model has an adapter already; remove it first");
}

}  // namespace

/// place(): puts the adapter in its places and adds its parameters. Where it throws, all is as before.
template <class T>
template <class Place>
void Adapter<T>::begin(const char* what, Place&& place) {
  try {
    addition_.begin(set_, what, place);
    for (auto& each : wrapped_) each.adapted->set_out();
  } catch (...) {
    remove();
    throw;
  }
}

template <class T>
void Adapter<T>::add(const std::vector<LowRankSpec>& parts) {
  require_none<T>(kFunction, addition_);
  Slots<T> slots;
  stack_.visit_projections([&](auto& slot) { slots.push_back(&slot); });
  const PartsOf of = sorted<T>(set_, slots, parts);
  wrapped_.reserve(of.size());
  begin("the adapter and its gradients", [&] {
    for (const auto& [number, specs] : of) {
      auto& slot = *slots[number];
      const Index dropout_site = first_dropout_site_ + static_cast<Index>(number);
      auto adapted = std::make_unique<Adapted<T>>(set_, *slot, dropout_site, specs);
      adapted->wrap(std::move(slot));
      wrapped_.push_back({&slot, adapted.get()});
      slot = std::move(adapted);
    }
  });
}

template <class T>
void Adapter<T>::modulate(const ModulationConfig& config) {
  constexpr const char* kHere = "add_modulation";
  require_none<T>(kHere, addition_);
  require(config.rank >= 1, kHere, ": rank must be 1 at least, got ", config.rank);
  require(std::isfinite(config.additive_scale), kHere, ": additive_scale must be finite, got ", config.additive_scale);
  begin("the modulation and its gradients", [&] { stack_.modulate(set_, config); });
}

template <class T>
void Adapter<T>::remove() {
  for (auto& [slot, adapted] : wrapped_) {
    auto base = adapted->release();
    *slot = std::move(base);
  }
  wrapped_.clear();
  stack_.unmodulate();
  addition_.end(set_);
}

template <class T>
void Adapter<T>::enable(bool on) {
  for (auto& each : wrapped_) each.adapted->enable(on);
  stack_.enable_modulation(on);
}

template class Adapter<float>;
template class Adapter<double>;

}  // namespace loopos
