#include "optim/rules.h"

#include "optim/rules/adam.h"
#include "optim/rules/lion.h"
#include "optim/rules/muon.h"
#include "optim/rules/sgd.h"

namespace loopos {
namespace {

template <class T>
using Factory = std::unique_ptr<Rule<T>> (*)(RuleOptions&);

struct Row {
  const char* name;
  Factory<float> f32;
  Factory<double> f64;
};

template <class R, class T>
std::unique_ptr<Rule<T>> make(RuleOptions& options) {
  return std::make_unique<R>(options);
}

template <template <class> class R>
constexpr Row row(const char* name) {
  return {name, make<R<float>, float>, make<R<double>, double>};
}

constexpr Row kRules[] = {
    row<AdamW>("adamw"), row<Adam>("adam"), row<Sgd>("sgd"), row<Lion>("lion"), row<Muon>("muon"),
};

}  // namespace

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const Row& row : kRules) names.emplace_back(row.name);
  return names;
}

template <class T>
std::unique_ptr<Rule<T>> make_rule(const std::string& name, std::map<std::string, RuleOptions::Value> options) {
  std::string known;
  for (const Row& row : kRules) {
    if (name == row.name) {
      RuleOptions reader(name, std::move(options));
      std::unique_ptr<Rule<T>> rule;
      if constexpr (std::is_same_v<T, float>)
        rule = row.f32(reader);
      else
        rule = row.f64(reader);
      reader.require_all_read();
      return rule;
    }
    known += cat(known.empty() ? "'" : ", '", row.name, "'");
  }
  throw std::invalid_argument(cat("Optimizer: there is no rule '", name, "'; there are ", known));
}

template std::unique_ptr<Rule<float>> make_rule(const std::string&, std::map<std::string, RuleOptions::Value>);
template std::unique_ptr<Rule<double>> make_rule(const std::string&, std::map<std::string, RuleOptions::Value>);

}  // namespace loopos
