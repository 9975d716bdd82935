// A weight (out, in) that rows are multiplied by, whatever it is stored as: a parameter, or frozen and stored small.
// What holds one (projections, head, embedding) never asks which.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <type_traits>

#include "layers/pass.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/stored_linear.h"

namespace loopos {

/// Called with every weight (out, in) that is a factor of products: its values, in, out, and where it can be packed.
/// Values null: it is stored small, and every product packs what it reads.
template <class T>
using WeightVisitor = std::function<void(const T* weight, Index in, Index out, PackedWeight<T>& packed)>;

/// What decides how a weight is stored: as the set stores its projections, or its token tables; or plain all the same.
enum class WeightUse { projection, table, learns };

template <class T>
class Weight {
 public:
  Weight() = default;
  /// std: of the initial values.
  Weight(ParameterSet<T>& set, const std::string& name, Index out, Index in, double std, Index layer, WeightUse use) {
    if (use == WeightUse::learns || set.storage() == Storage::plain) {
      parameter_ = set.add(name, {out, in}, 0, std, layer);
      parameter_->learns = use == WeightUse::learns;
    } else {
      stored_ = set.add_stored(name, out, in, std, layer);
      if (use == WeightUse::table) stored_->kind = table_storage(stored_->kind);
    }
    in_ = in;
    out_ = out;
    precision_ = &set.precision;
  }

  Index size() const { return in_ * out_; }
  Precision precision() const { return *precision_; }
  bool trains() const { return parameter_ && parameter_->trainable; }
  /// The parameter whose gradient is wanted where it trains.
  Parameter<T>& parameter() const { return *parameter_; }
  void visit(const WeightVisitor<T>& visitor) { visitor(parameter_ ? parameter_->value : nullptr, in_, out_, packed_); }

  /// y (rows, out) = x W^T + bias + residual; the last two may be null.
  void forward(const Pass& pass, const T* x, const T* bias, Index rows, T* y, const T* residual) const {
    if constexpr (kStorable)
      if (stored_) return stored_linear_forward(x, *stored_, bias, rows, y, residual, precision());
    linear_forward(x, values(), bias, rows, in_, out_, y, residual, packed(pass), precision());
  }
  /// dx (rows, in) = dy W, overwritten.
  void backward(const Pass& pass, const T* dy, Index rows, T* dx) const {
    if constexpr (kStorable)
      if (stored_) return stored_linear_backward(dy, *stored_, rows, dx, precision());
    linear_backward(dy, values(), rows, in_, out_, dx, packed(pass), precision());
  }
  /// dW += dy^T x, or what was there is overwritten where it is stale. Only where it trains.
  void gradient(const T* dy, const T* x, Index rows) const {
    linear_weight_gradient(dy, x, rows, in_, out_, !parameter_->take_stale(), parameter_->grad, precision());
  }

  /// What made an element of y, and of dx; dy begins at row `first`.
  void operands(Operands& o, const T* x, const T* bias) const {
    if constexpr (kStorable)
      if (stored_) return stored_linear_operands(o, x, *stored_, bias);
    linear_operands(o, x, values(), bias, in_);
  }
  void backward_operands(Operands& o, const T* dy, Index first = 0) const {
    if constexpr (kStorable)
      if (stored_) return stored_linear_backward_operands(o, dy, *stored_, first);
    linear_backward_operands(o, dy, values(), in_, out_, first);
  }

  /// Writes rows [first, first + rows), as products take them.
  void read_rows(Index first, Index rows, T* to) const {
    if constexpr (kStorable)
      if (stored_) return load_stored(*stored_, first, rows, to);
    std::copy_n(values() + first * in_, rows * in_, to);
  }

  /// As a table: its rows ids[0], ids[1], ..., each number times scale.
  void look_up(const Index* ids, Index rows, double scale, T* y) const {
    if constexpr (kStorable)
      if (stored_) return look_up_stored(ids, *stored_, rows, scale, y);
    embedding_forward(ids, values(), rows, in_, scale, y);
  }
  void look_up_operands(Operands& o, const Index* ids, double scale) const {
    if constexpr (kStorable)
      if (stored_) return look_up_stored_operands(o, ids, *stored_, scale);
    embedding_operands(o, ids, values(), in_, scale);
  }

 private:
  static constexpr bool kStorable = std::is_same_v<T, float>;  // one of float64 is never stored small

  const T* values() const { return parameter_->value; }
  const PackedWeight<T>* packed(const Pass& pass) const { return pass.packed ? &packed_ : nullptr; }

  Index in_ = 0, out_ = 0;
  Parameter<T>* parameter_ = nullptr;
  StoredWeight* stored_ = nullptr;
  const Precision* precision_ = nullptr;  // the set's, which a run may change
  PackedWeight<T> packed_;
};

}  // namespace loopos
