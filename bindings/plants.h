// Faults on purpose: what a pass is to put into its tensors, and in which steps.
#pragma once

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "trace/probe.h"

namespace loopos::bind {

class Plants {
 public:
  struct Planted {
    Plant fault;
    py::object step, micro;  // None: every
  };
  /// Shared: another Python thread may take one out while a pass waits for its turn.
  using Here = std::vector<std::shared_ptr<Planted>>;

  /// Puts a fault into a tensor of every step, or of one, until it is taken out by the number that comes back.
  Index add(const py::dict& d) {
    const Index number = planted_.empty() ? 0 : planted_.rbegin()->first + 1;
    planted_[number] = std::make_shared<Planted>(
        Planted{{d["phase"].cast<std::string>(), d["op"].cast<std::string>(), d["tensor"].cast<std::string>(),
                 d["index"].cast<std::vector<Index>>(), d["value"].cast<double>(), d["flag"].cast<bool>()},
                d["step"],
                d["micro"]});
    return number;
  }
  /// How often it has fired.
  Index remove(Index number) {
    const Index fired = planted_.at(number)->fault.fired;
    planted_.erase(number);
    return fired;
  }

  Here at(const py::object& step, std::uint64_t micro) {
    Here here;
    for (auto& [number, planted] : planted_)
      if ((planted->step.is_none() || planted->step.equal(step)) &&
          (planted->micro.is_none() || planted->micro.equal(py::int_(micro))))
        here.push_back(planted);
    return here;
  }
  static std::vector<Plant*> faults(const Here& planted) {
    std::vector<Plant*> result;
    for (const auto& p : planted) result.push_back(&p->fault);
    return result;
  }

 private:
  std::map<Index, std::shared_ptr<Planted>> planted_;
};

}  // namespace loopos::bind
