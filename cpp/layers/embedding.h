// Token embedding times a scale plus, for learned positions, position embedding; then dropout.
#pragma once

#include "layers/weight.h"
#include "ops/dropout.h"
#include "ops/position_embedding.h"

namespace loopos {

template <class T>
class Embedding {
 public:
  Embedding() = default;
  /// prefix: of the names. positions: rows of the position table, 0 for none.
  Embedding(ParameterSet<T>& set, const std::string& prefix, Index dropout_site, Index vocab, Index width,
            Index positions, double scale, double std)
      : site_{prefix + "embed", -1},
        dropout_site_(dropout_site),
        vocab_(vocab),
        count_(positions),
        width_(width),
        scale_(scale) {
    tokens_ = Weight<T>(set, prefix + "tok_embed.weight", vocab, width, std, Index{-1}, WeightUse::table);
    if (positions) positions_ = set.add(prefix + "pos_embed.weight", {positions, width}, 0, std);
  }

  const Weight<T>& tokens() const { return tokens_; }
  bool trains() const { return tokens_.trains() || (positions_ && positions_->trainable); }

  /// ids (B, T), y (rows, width).
  void forward(const Pass& pass, const Index* ids, T* y) {
    tokens_.look_up(ids, pass.rows(), scale_, y);
    if (positions_) position_embedding_forward(y, positions_->value, pass.positions, pass.batch, pass.time, width_, y);
    if (pass.dropout > 0)
      dropout_forward(y, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_),
                      y);
    site_.see(pass, "forward", "embedding", "y", y, width_, [&](Operands& o) {
      tokens_.look_up_operands(o, ids, scale_);
      if (positions_) position_embedding_operands(o, positions_->value, pass.positions, pass.time, width_);
      o.set("dropout", pass.dropout);
    });
  }

  /// Of the whole batch. dy is changed in place (dropout).
  void parameter_gradients(const Pass& pass, const Index* ids, T* dy) {
    if (!trains()) return;
    if (pass.dropout > 0)
      dropout_backward(dy, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_),
                       dy);
    if (tokens_.trains()) {
      Parameter<T>& table = tokens_.parameter();
      embedding_backward(dy, ids, pass.rows(), width_, vocab_, scale_, table.sum());
      pass.see_gradient("embedding", table,
                        [&](Operands& o) { embedding_backward_operands(o, dy, ids, pass.rows(), width_, scale_); });
    }
    if (!positions_ || !positions_->trainable) return;
    position_embedding_backward(dy, pass.positions, pass.batch, pass.time, count_, width_, positions_->sum());
    pass.see_gradient("embedding", *positions_, [&](Operands& o) {
      position_embedding_backward_operands(o, dy, pass.positions, pass.batch, pass.time, width_);
    });
  }

 private:
  Site site_{"embed", -1};
  Index dropout_site_ = 0, vocab_ = 0, count_ = 0, width_ = 0;  // count_: of the positions
  double scale_ = 1;
  Weight<T> tokens_;
  Parameter<T>* positions_ = nullptr;
};

}  // namespace loopos
