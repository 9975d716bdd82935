#include "trace/flags.h"

#include <string_view>
#include <utility>

namespace loopos {
namespace {

std::vector<Raised>::const_iterator find(const std::vector<Raised>& list, const Raised& wanted) {
  return std::find_if(list.begin(), list.end(), [&](const Raised& r) {
    return r.tensor == wanted.tensor && std::string_view(r.phase) == wanted.phase &&
           std::string_view(r.op) == wanted.op;
  });
}

}  // namespace

void FlagRecord::add(Raised raised) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto same = find(list_, raised);
  if (same == list_.end()) return list_.push_back(std::move(raised));
  Raised& known = list_[static_cast<std::size_t>(same - list_.cbegin())];
  known.flags |= raised.flags;
  known.finite &= raised.finite;
}

int FlagRecord::flags() const {
  int all = 0;
  for (const Raised& r : list_) all |= r.flags;
  return all;
}

void FlagRecord::sort_like(const std::vector<Raised>& all) {
  std::vector<std::pair<std::ptrdiff_t, Raised>> placed;
  for (Raised& r : list_) placed.emplace_back(find(all, r) - all.begin(), std::move(r));
  std::sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (std::size_t i = 0; i < placed.size(); ++i) list_[i] = std::move(placed[i].second);
}

}  // namespace loopos
