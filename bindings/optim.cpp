// _core.Optimizer: binds optim/optimizer.h to numpy arrays that it updates in place.
#include "optim/optimizer.h"

#include <pybind11/stl.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>

#include "arrays.h"
#include "optim.h"
#include "optim/rules.h"

namespace loopos::bind {
namespace {

constexpr const char* kFunction = "Optimizer";

/// What follows one rule: (name of the rule, what the learning rate is multiplied by, options by name).
using GroupSpec = std::tuple<std::string, double, std::map<std::string, RuleOptions::Value>>;

/// One optimizer of either dtype, and the arrays it keeps alive.
class Handle {
 public:
  virtual ~Handle() = default;
  virtual py::object step(const py::sequence& grads, double lr, double scale, double norm, bool untouched,
                          const py::object& agree) = 0;
  virtual Index count() const = 0;
  virtual void set_count(Index count) = 0;
  virtual py::dict state(const py::object& self) = 0;
  virtual py::dict moments() = 0;
  virtual std::vector<std::string> not_negative() const = 0;
};

template <class T>
class HandleOf : public Handle {
 public:
  HandleOf(std::vector<OptimizerGroup<T>> groups, std::vector<py::array> arrays, std::vector<ParameterSlot<T>> slots,
           MomentStorage storage)
      : arrays_(std::move(arrays)), optimizer_(std::move(groups), slots, storage) {
    for (const auto& slot : slots) {
      names_.push_back(slot.name);
      shapes_.push_back(slot.shape);
      addresses_.push_back(slot.data);
    }
  }

  py::object step(const py::sequence& grads, double lr, double scale, double norm, bool untouched,
                  const py::object& agree) override {
    require(std::isfinite(lr) && lr >= 0, "Optimizer.step: lr must be finite and not negative, got ", lr);
    require(std::isfinite(scale) && scale >= 0, "Optimizer.step: scale must be finite and not negative, got ", scale);
    require(grads.size() == names_.size(), "Optimizer.step: expected ", names_.size(), " gradients, got ",
            grads.size());
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const auto& array = arrays_[i];
      require(array.data() == addresses_[i] && static_cast<std::size_t>(array.ndim()) == shapes_[i].size() &&
                  std::equal(shapes_[i].begin(), shapes_[i].end(), array.shape()),
              "Optimizer.step: the parameter '", names_[i], "' was resized or moved since the optimizer was made");
    }
    std::vector<Array<T>> kept;
    std::vector<const T*> pointers;
    kept.reserve(names_.size());
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const py::object grad = grads[i];
      // The name is put into words only when there is something to say.
      if (!fits(grad, shapes_[i]))
        input<T>("Optimizer.step", cat("the gradient of '", names_[i], "'").c_str(), grad, shapes_[i]);
      kept.push_back(input<T>("Optimizer.step", "gradient", grad));
      pointers.push_back(kept.back().data);
    }
    std::optional<Refusal> refusal;
    {
      const Computing computing;
      std::lock_guard<std::mutex> lock(mutex_);
      std::function<bool()> asked;
      if (!agree.is_none())
        asked = [&] {
          const py::gil_scoped_acquire locked;
          return agree().cast<bool>();
        };
      refusal = optimizer_.step(pointers, lr, scale, norm, untouched, asked);
    }
    if (!refusal) return py::none();
    if (!refusal->phase) return py::dict();
    const auto tensor = static_cast<std::size_t>(refusal->tensor);
    py::list index;
    Index rest = refusal->flat;
    for (std::size_t axis = shapes_[tensor].size(); axis-- > 0; rest /= shapes_[tensor][axis])
      index.insert(0, rest % shapes_[tensor][axis]);
    py::dict birth;
    birth["phase"] = refusal->phase;
    birth["rule"] = refusal->rule;
    birth["tensor"] = names_[tensor];
    birth["index"] = py::tuple(index);
    birth["value"] = refusal->value;
    birth["result"] = refusal->result;
    birth["dtype"] = dtype_name<T>();
    py::dict operands;
    for (const auto& [name, value] : refusal->operands) operands[py::str(name)] = value;
    birth["operands"] = operands;
    return std::move(birth);
  }

  Index count() const override { return optimizer_.count(); }
  void set_count(Index count) override {
    require(count >= 0, "Optimizer.count: must not be negative, got ", count);
    optimizer_.set_count(count);
  }

  py::dict state(const py::object& self) override {
    py::dict views;
    for (std::size_t w = 0; w < kMostMoments; ++w)
      for (std::size_t i = 0; i < names_.size(); ++i)
        if (w < optimizer_.moments(i).size()) add_views(views, w, i, self);
    return views;
  }

  py::dict moments() override {
    py::dict copies;
    for (std::size_t w = 0; w < kMostMoments; ++w)
      for (std::size_t i = 0; i < names_.size(); ++i) {
        if (w >= optimizer_.moments(i).size()) continue;
        py::array_t<T> copy(shapes_[i]);
        optimizer_.copy_moment(w, i, copy.mutable_data());
        copies[py::str(moment_name(w, i))] = copy;
      }
    return copies;
  }

  std::vector<std::string> not_negative() const override {
    std::vector<std::string> found;
    for (std::size_t i = 0; i < names_.size(); ++i)
      for (std::size_t w = 0; w < optimizer_.moments(i).size(); ++w) {
        if (!optimizer_.moments(i)[w].negative) found.push_back(moment_name(w, i));
        if (optimizer_.storage() == MomentStorage::eight_bit) found.push_back(moment_name(w, i, "_scale"));
      }
    return found;
  }

 private:
  std::string moment_name(std::size_t which, std::size_t tensor, const char* suffix = "") const {
    return optimizer_.moments(tensor)[which].name + suffix + "." + names_[tensor];
  }
  void add_views(py::dict& views, std::size_t which, std::size_t tensor, const py::object& self) {
    const py::str name(moment_name(which, tensor));
    void* kept = optimizer_.moment(which, tensor);
    if (optimizer_.storage() == MomentStorage::full)
      views[name] = py::array_t<T>(shapes_[tensor], static_cast<T*>(kept), self);
    if (optimizer_.storage() == MomentStorage::bfloat16)
      views[name] = py::array_t<std::uint16_t>(shapes_[tensor], static_cast<std::uint16_t*>(kept), self);
    if (optimizer_.storage() == MomentStorage::eight_bit) {
      views[name] = py::array_t<std::uint8_t>(shapes_[tensor], static_cast<std::uint8_t*>(kept), self);
      const Index blocks = (arrays_[tensor].size() + kernels::kMomentBlock - 1) / kernels::kMomentBlock;
      views[py::str(moment_name(which, tensor, "_scale"))] =
          py::array_t<float>(blocks, optimizer_.scales(which, tensor), self);
    }
  }
  static bool fits(const py::object& grad, const Shape& shape) {
    if (!py::isinstance<py::array_t<T>>(grad)) return false;
    const auto array = py::reinterpret_borrow<py::array>(grad);
    return static_cast<std::size_t>(array.ndim()) == shape.size() &&
           std::equal(shape.begin(), shape.end(), array.shape());
  }

  std::vector<std::string> names_;
  std::vector<py::array> arrays_;
  std::vector<Shape> shapes_;
  std::vector<const void*> addresses_;
  Optimizer<T> optimizer_;
  std::mutex mutex_;
};

template <class T>
std::unique_ptr<Handle> make_handle(std::vector<GroupSpec> specs, const std::vector<std::string>& names,
                                    const py::sequence& params, const std::vector<double>& decay,
                                    const std::vector<std::size_t>& group_of, MomentStorage storage) {
  std::vector<OptimizerGroup<T>> groups;
  for (auto& [rule, rate, options] : specs) {
    require(std::isfinite(rate) && rate >= 0, kFunction, ": the rate of '", rule,
            "' must be finite and not negative, got ", rate);
    groups.push_back({rule, make_rule<T>(rule, std::move(options)), rate});
  }
  std::vector<py::array> arrays;
  std::vector<ParameterSlot<T>> slots;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string what = cat("the parameter '", names[i], "'");
    const py::object value = params[i];
    const auto checked = input<T>(kFunction, what.c_str(), value);
    auto array = py::reinterpret_borrow<py::array>(value);
    require(checked.array.data() == array.data() || array.size() == 0, kFunction, ": ", what,
            " must be C-contiguous and aligned, to be updated in place");
    require(array.writeable(), kFunction, ": ", what, " must be writeable: it is updated in place");
    require(std::isfinite(decay[i]) && decay[i] >= 0, kFunction, ": weight_decay of ", what,
            " must be finite and not negative, got ", decay[i]);
    require(group_of[i] < groups.size(), kFunction, ": the group of ", what, " must be below ", groups.size(), ", got ",
            group_of[i]);
    slots.push_back({names[i], Shape(array.shape(), array.shape() + array.ndim()),
                     static_cast<T*>(array.mutable_data()), array.size(), decay[i], group_of[i]});
    arrays.push_back(std::move(array));
  }
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < slots.size(); ++i)
    if (slots[i].size > 0) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return slots[a].data < slots[b].data; });
  for (std::size_t i = 1; i < order.size(); ++i)
    require(slots[order[i - 1]].data + slots[order[i - 1]].size <= slots[order[i]].data, kFunction,
            ": the parameters '", names[order[i - 1]], "' and '", names[order[i]],
            "' share memory: each number may be updated by one of them only");
  return std::make_unique<HandleOf<T>>(std::move(groups), std::move(arrays), std::move(slots), storage);
}

std::unique_ptr<Handle> make(const std::vector<GroupSpec>& groups, const std::vector<std::string>& names,
                             const py::sequence& params, const std::vector<double>& decay,
                             const std::vector<std::size_t>& group_of, const std::string& moments) {
  const MomentStorage storage = moment_storage(moments);
  const bool alike = names.size() == params.size() && names.size() == decay.size() && names.size() == group_of.size();
  require(alike, kFunction, ": names, params, weight_decay and group_of must have one length, got ", names.size(), ", ",
          params.size(), ", ", decay.size(), " and ", group_of.size());
  if (names.empty()) return make_handle<float>(groups, names, params, decay, group_of, storage);
  return by_dtype(kFunction, cat("the parameter '", names[0], "'").c_str(), params[0],
                  [&](auto t) { return make_handle<decltype(t)>(groups, names, params, decay, group_of, storage); });
}

}  // namespace

void bind_optim(py::module_& m) {
  using py::arg;
  py::class_<Handle>(
      m, "Optimizer",
      R"(Arrays updated in place, by one rule or by several; see loopos.optim for the public classes. groups: of each
(rule, what the learning rate is multiplied by, the rule's options); group_of: the group of each parameter. moments:
"float32", as the weights are, "bfloat16" or "8bit".)")
      .def(py::init(&make), arg("groups"), arg("names"), arg("params"), arg("weight_decay"), arg("group_of"),
           arg("moments") = "float32")
      .def(
          "step", &Handle::step, arg("grads"), arg("lr"), arg("scale") = 1.0,
          arg("norm") = std::numeric_limits<double>::quiet_NaN(), arg("untouched") = false, arg("agree") = py::none(),
          R"(One update with gradients multiplied by `scale`. norm: that of the gradients where it is known, which saves reading
them once more; untouched: nobody has written to the weights since the last step, which saves reading them once more.
agree: None, or a function that is asked once the update is known to be safe and before anything is written: where it
gives False the update is not made, and an empty dict comes back.
None; or, when a gradient is not finite (phase "backward") or a weight or moment would not be
(phase "update"), a dict of phase, rule, tensor, index, value, result, dtype, operands, and nothing was changed.)")
      .def_property("count", &Handle::count, &Handle::set_count, "The number of updates done.")
      .def(
          "state", [](const py::object& self) { return self.cast<Handle&>().state(self); },
          R"(Writable views of the moments as they are kept, by '<moment>.<name>': of "bfloat16" their bits (uint16); of
"8bit" codes (uint8), and by '<moment>_scale.<name>' the scale of each 128 numbers. Fetch them anew before writing,
between two steps.)")
      .def("moments", &Handle::moments, "Copies of the moments as numbers, by '<moment>.<name>'.")
      .def("not_negative", &Handle::not_negative, "The moments, by the names of state(), that are never below zero.");
  m.def("optimizer_rules", &rule_names, "The names of the update rules.");
}

}  // namespace loopos::bind
