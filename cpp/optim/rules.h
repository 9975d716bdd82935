// The registry of update rules: the one table of their names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "optim/options.h"
#include "optim/rule.h"

namespace loopos {

/// In the order of the table.
std::vector<std::string> rule_names();

/// ValueError for a name that is not in the table, for an option the rule does not have, and for one out of range.
template <class T>
std::unique_ptr<Rule<T>> make_rule(const std::string& name, std::map<std::string, RuleOptions::Value> options);

}  // namespace loopos
