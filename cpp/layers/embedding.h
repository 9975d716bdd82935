// Token embedding plus, for learned positions, position embedding; then dropout.
#pragma once

#include "core/parameter.h"
#include "kernels/isa/table.h"
#include "layers/pass.h"
#include "ops/dropout.h"
#include "ops/embedding.h"

namespace loopos {

template <class T>
class Embedding {
 public:
  Embedding() = default;
  /// positions: rows of the position table, 0 for none.
  Embedding(ParameterSet<T>& set, Index dropout_site, Index vocab, Index width, Index positions, double std)
      : dropout_site_(dropout_site), vocab_(vocab), width_(width) {
    tokens_ = set.add("tok_embed.weight", {vocab, width}, 0, std);
    if (positions) positions_ = set.add("pos_embed.weight", {positions, width}, 0, std);
  }

  Parameter<T>* tokens() const { return tokens_; }

  /// ids (B, T), y (rows, width).
  void forward(const Pass& pass, const Index* ids, T* y) {
    embedding_forward(ids, tokens_->value, pass.rows(), width_, y);
    if (positions_)
      parallel_blocks(pass.rows(), row_grain(width_), [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r)
          kernels::table<T>().add(y + r * width_, positions_->value + (pass.start + r % pass.time) * width_, width_,
                                  y + r * width_);
      });
    if (pass.dropout > 0)
      dropout_forward(y, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_),
                      y);
    site_.see(pass, "forward", "embedding", "y", y, {pass.batch, pass.time, width_}, [&](Operands& o) {
      o.set("id", static_cast<double>(ids[o.row()]));
      o.set("dropout", pass.dropout);
      o.take("token", tokens_->value + ids[o.row()] * width_ + o.column(), 1);
      if (positions_)
        o.take("position", positions_->value + (pass.start + o.row() % pass.time) * width_ + o.column(), 1);
    });
  }

  /// Of the whole batch. dy is changed in place (dropout).
  void parameter_gradients(const Pass& pass, const Index* ids, T* dy) {
    if (pass.dropout > 0) dropout_backward(dy, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), 0, dy);
    embedding_backward(dy, ids, pass.rows(), width_, vocab_, tokens_->sum());
    see(pass, *tokens_, [&](Operands& o) {
      std::vector<T> terms;  // of every place where the token stands
      for (Index r = 0; r < pass.rows(); ++r)
        if (ids[r] == o.row()) terms.push_back(dy[r * width_ + o.column()]);
      o.take("dy", terms.data(), static_cast<Index>(terms.size()));
    });
    if (!positions_) return;
    T* dpositions = positions_->sum();
    // Position t collects row t of every sequence, in the order of the batch.
    parallel_blocks(pass.time, row_grain(width_ * pass.batch), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t)
        for (Index b = 0; b < pass.batch; ++b)
          kernels::table<T>().axpy(dy + (b * pass.time + t) * width_, width_, T(1), dpositions + t * width_);
    });
    see(pass, *positions_,
        [&](Operands& o) { o.take("dy", dy + o.row() * width_ + o.column(), pass.batch, pass.time * width_); });
  }

 private:
  template <class Take>
  static void see(const Pass& pass, const Parameter<T>& p, const Take& take) {
    pass.see("backward", -1, "embedding", "", p.name.c_str(), p.grad, p.shape, take);
  }

  Site site_{"embed", -1};
  Index dropout_site_ = 0, vocab_ = 0, width_ = 0;
  Parameter<T>*tokens_ = nullptr, *positions_ = nullptr;
};

}  // namespace loopos
