// The hyper-parameters of a rule by name, as they come from Python. A rule reads each with its default and its range;
// a name that no rule reads is refused.
#pragma once

#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/check.h"

namespace loopos {

class RuleOptions {
 public:
  using Value = std::variant<bool, double, std::string>;

  RuleOptions(std::string rule, std::map<std::string, Value> values)
      : rule_(std::move(rule)), values_(std::move(values)) {}

  /// Finite, and in [0, below).
  double number(const std::string& name, double otherwise, double below = std::numeric_limits<double>::infinity()) {
    const double value = read(name, otherwise);
    const std::string wanted = std::isinf(below) ? "finite and not negative" : cat("in [0, ", below, ")");
    require(value >= 0 && value < below, "Optimizer: ", name, " of '", rule_, "' must be ", wanted, ", got ", value);
    return value;
  }

  /// Finite, of either sign.
  double real(const std::string& name, double otherwise) {
    const double value = read(name, otherwise);
    require(std::isfinite(value), "Optimizer: ", name, " of '", rule_, "' must be finite, got ", value);
    return value;
  }

  Index whole(const std::string& name, Index otherwise, Index low, Index high) {
    const double value = read(name, static_cast<double>(otherwise));
    require(value >= static_cast<double>(low) && value <= static_cast<double>(high) && value == std::floor(value),
            "Optimizer: ", name, " of '", rule_, "' must be a whole number in [", low, ", ", high, "], got ", value);
    return static_cast<Index>(value);
  }

  bool flag(const std::string& name, bool otherwise) { return read(name, otherwise); }

  /// One of `choices`; its place among them. The first is the default.
  std::size_t choice(const std::string& name, std::initializer_list<const char*> choices) {
    const std::string value = read(name, std::string(*choices.begin()));
    std::string listed;
    std::size_t place = 0;
    for (const char* each : choices) {
      if (value == each) return place;
      listed += cat(place++ ? ", '" : "'", each, "'");
    }
    throw std::invalid_argument(
        cat("Optimizer: ", name, " of '", rule_, "' must be one of ", listed, ", got '", value, "'"));
  }

  /// ValueError for a name that was not read.
  void require_all_read() const {
    std::string known;
    for (const auto& name : read_) known += (known.empty() ? "" : ", ") + name;
    for (const auto& [name, value] : values_) {
      bool found = false;
      for (const auto& each : read_) found = found || each == name;
      require(found, "Optimizer: '", rule_, "' has no option '", name, "'; it has ", known.empty() ? "none" : known);
    }
  }

 private:
  template <class V>
  V read(const std::string& name, V otherwise) {
    read_.push_back(name);
    const auto found = values_.find(name);
    if (found == values_.end()) return otherwise;
    const V* value = std::get_if<V>(&found->second);
    require(value != nullptr, "Optimizer: ", name, " of '", rule_, "' is not of the type it must be");
    return *value;
  }

  std::string rule_;
  std::map<std::string, Value> values_;
  std::vector<std::string> read_;
};

}  // namespace loopos
