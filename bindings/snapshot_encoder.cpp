// The network of snapshots as Python sees it. The covariance that is made of what it gives, and the loss, are Python's.
#include <pybind11/stl.h>

#include <optional>

#include "core_model.h"
#include "model.h"
#include "model_config.h"
#include "models/snapshot_encoder.h"

namespace loopos::bind {
namespace {

/// A network with a set of its own.
template <class T>
struct Held {
  Held(const SnapshotConfig& config, std::optional<std::uint64_t> seed) : network(set, config) { set.allocate(seed); }
  ParameterSet<T> set;
  SnapshotEncoder<T> network;
};

template <class T>
class Network : private Held<T>, public CoreModel<T, SnapshotEncoder<T>> {
 public:
  Network(const py::dict& config, std::optional<std::uint64_t> seed)
      : Held<T>(snapshot_config_from(config), seed), CoreModel<T, SnapshotEncoder<T>>(this->network) {}

  void set_trainable(const std::string& name, bool trainable) {
    this->set_trainable_if(name, trainable, [](const Parameter<T>&) {});
  }

  py::array forward(const py::object& rows) {
    const auto in = checked("SnapshotEncoder.forward", rows);
    auto result = output<T>({in.shape[0], config().numbers(in.shape[1])});
    T* out = result.mutable_data();
    this->compute([&] { this->network.forward(pass_over(in), in.data, out); });
    return std::move(result);
  }

  py::tuple accumulate(const py::object& rows, const py::object& numbers, const py::object& between, double, Index,
                       double, const py::object& step, std::uint64_t micro, std::uint64_t seed, bool add,
                       Index first_row, const py::object& final_from) {
    Batch batch(*this, rows, numbers, between);
    batch.begin(*this, step, micro, seed, first_row);
    return this->accumulate_batch(batch, 1.0, add, final_from);
  }
  py::object trace(const py::object& rows, const py::object& numbers, const py::object& between, double, Index, double,
                   const py::object& step, std::uint64_t micro, std::uint64_t seed, std::size_t frames,
                   const py::object& tap, Index first_row) {
    Batch batch(*this, rows, numbers, between);
    batch.begin(*this, step, micro, seed, first_row);
    return this->trace_batch(batch, 1.0, frames, tap);
  }

  double workspace_bytes(Index batch, Index time, bool training, bool, bool) {
    require(batch >= 0 && batch <= kMost, "workspace_bytes: batch must be from 0 to ", kMost, ", got ", batch);
    require(time >= 1 && time <= kMost, "workspace_bytes: time must be from 1 to ", kMost, ", got ", time);
    const auto lock = this->serialise();
    Pass pass = Pass::whole(batch, time);
    pass.stochastic = training;
    pass.dropout = training ? config().dropout : 0;
    return this->network.workspace_bytes(pass, training);
  }

 private:
  static constexpr Index kMost = Index{1} << 24;  // sizes stay within 64 bits

  const SnapshotConfig& config() const { return this->network.config(); }
  Array<T> checked(const char* function, const py::object& rows) const {
    auto in = input<T>(function, "rows", rows, 3);
    require(in.shape[2] == config().channels, function, ": rows must be (B, L, ", config().channels, "), got ",
            text(in.shape));
    require(in.shape[1] > 0, function, ": a sample needs at least one row, got ", text(in.shape));
    for (Index i = 0; i < in.size(); ++i)
      require(std::isfinite(in.data[i]), function, ": rows must be finite, got ", in.data[i], " at number ", i);
    return in;
  }
  static Pass pass_over(const Array<T>& rows) { return Pass::whole(rows.shape[0], rows.shape[1]); }

  struct Batch {
    Array<T> rows;
    py::function fn;
    py::array_t<T> given;
    Array<T> gradient;
    Pass pass;
    Plants::Here planted;

    Batch(const Network& model, const py::object& rows_in, const py::object& numbers, const py::object& between)
        : rows(model.checked("SnapshotEncoder", rows_in)), pass(pass_over(rows)) {
      const auto one_each = integers("SnapshotEncoder", "numbers", numbers);
      require(one_each.shape == Shape{rows.shape[0]}, "SnapshotEncoder: numbers must be (", rows.shape[0],
              "), one a sample, got ", text(one_each.shape));
      if (!py::isinstance<py::function>(between))
        throw py::type_error("SnapshotEncoder: between must be a function of the network's output");
      fn = between;
      given = output<T>({rows.shape[0], model.config().numbers(rows.shape[1])});
    }
    void begin(Network& model, const py::object& step, std::uint64_t micro, std::uint64_t seed, Index first_row) {
      planted = model.plants().at(step, micro);
      Network::begin_step(pass, model.config().dropout, step, micro, seed, first_row);
    }
    LossSum accumulate(SnapshotEncoder<T>& network, double, bool add) {
      const SnapshotLoss<T> loss{given.mutable_data(), [this] { return call(); }};
      return {network.accumulate(pass, rows.data, add, loss), pass.batch};
    }

   private:
    typename SnapshotLoss<T>::Result call() {
      const py::gil_scoped_acquire locked;
      const int raised = FpScope::fresh();
      const py::object result = fn(given);
      FpScope::fresh();  // whatever the function raised is no operation's
      FpScope::add(raised);
      if (!py::isinstance<py::tuple>(result) || py::len(result) != 3)
        throw py::type_error("SnapshotEncoder: expected (loss, gradient of the output, gradient of the blend)");
      const auto parts = result.cast<py::tuple>();
      gradient = input<T>("SnapshotEncoder", "gradient", parts[1], Shape{given.shape(0), given.shape(1)});
      return {scalar("SnapshotEncoder", "loss", parts[0]), gradient.data, scalar("SnapshotEncoder", "blend", parts[2])};
    }
  };
};

template <class T>
void bind_network(py::module_& m, const char* name) {
  using Class = Network<T>;
  using py::arg;
  py::class_<Class> c(m, name,
                      "A network of snapshots of one dtype; loopos.covariance.CovarianceNetwork is its public face.");
  bind_core_model(c);
  c.def("forward", &Class::forward, arg("rows"),
        "(B, outputs) of rows (B, L, channels); (B, L outputs) where each row has its own.")
      .def("workspace_bytes", &Class::workspace_bytes, arg("batch"), arg("time"), arg("training"), py::kw_only(),
           arg("scored") = true, arg("compared") = false,
           "Bytes that a pass over so many samples of `time` rows takes beside weights and gradients: planned, "
           "not taken.")
      .def("accumulate", &Class::accumulate, arg("rows"), arg("numbers"), py::kw_only(), arg("between"),
           arg("scale") = 1.0, arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("step") = py::none(),
           arg("micro") = 0, arg("seed") = 0, arg("add") = false, arg("first_row") = 0, arg("final_from") = py::none(),
           "numbers (B): one for each sample, which nothing here reads. between(output) -> (sum of losses, gradient of "
           "the output, gradient by the blend) is called once, and its gradients are taken as they are: scale, "
           "ignore_index and label_smoothing, of a transformer, do nothing.")
      .def("trace", &Class::trace, arg("rows"), arg("numbers"), py::kw_only(), arg("between"), arg("scale") = 1.0,
           arg("ignore_index") = -100, arg("label_smoothing") = 0.0, arg("step") = py::none(), arg("micro") = 0,
           arg("seed") = 0, arg("frames") = std::size_t{1} << 16, arg("tap") = py::none(), arg("first_row") = 0,
           "As trace of a transformer.");
}

}  // namespace

void bind_snapshot_encoder(py::module_& m) {
  bind_network<float>(m, "SnapshotEncoderF32");
  bind_network<double>(m, "SnapshotEncoderF64");
}

}  // namespace loopos::bind
