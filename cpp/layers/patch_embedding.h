// Pictures as rows: the projection of their patches, a class token before them or none, plus a learned position for each
// of the rows; then dropout.
#pragma once

#include "layers/projection.h"
#include "ops/column_sums.h"
#include "ops/dropout.h"
#include "ops/patches.h"
#include "ops/position_embedding.h"

namespace loopos {

/// Standard deviation of initial positions. At 0.02 a patch's own row drowns its position, and a small encoder takes hundreds
/// of updates to tell its patches apart.
constexpr double kPositionStd = 0.3;

struct PatchConfig {
  PatchGrid grid;  // lead: 1 with a class token, else 0
  bool bias;
  double std;
};

template <class T>
class PatchEmbedding {
 public:
  /// prefix: of the names.
  PatchEmbedding(ParameterSet<T>& set, const std::string& prefix, Index dropout_site, Index width,
                 const PatchConfig& config)
      : site_{prefix + "embed", -1},
        dropout_site_(dropout_site),
        width_(width),
        grid_(config.grid),
        proj_(make_projection(set, {prefix + "patch", -1}, {grid_.row_width(), width, config.bias, config.std})) {
    if (grid_.lead) class_token_ = set.add(prefix + "class_token", {width}, 0, config.std);
    positions_ = set.add(prefix + "pos_embed.weight", {grid_.rows(), width}, 0, kPositionStd);
  }

  const PatchGrid& grid() const { return grid_; }
  bool trains() const { return proj_->trains() || positions_->trainable || (class_token_ && class_token_->trainable); }

  void visit_weights(const WeightVisitor<T>& visitor) { proj_->visit_weights(visitor); }

  void plan(Arena<T>& arena, const Pass& pass) { patches_ = take_rows(arena, pass, grid_.row_width()); }

  /// images (B, height, width, channels) of the part; y (rows, width).
  void forward(const Pass& pass, const T* images, T* y) {
    T* patches = patches_.at(pass);
    patches_forward(images, pass.batch, grid_, patches);
    proj_->forward(pass, patches, nullptr, y);
    if (class_token_)
      for (Index b = 0; b < pass.batch; ++b) std::copy_n(class_token_->value, width_, y + b * pass.time * width_);
    const std::vector<T> tokens = pass.overwritten(y, width_);
    position_embedding_forward(y, positions_->value, pass.positions, pass.batch, pass.time, width_, y);
    if (pass.dropout > 0)
      dropout_forward(y, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_),
                      y);
    site_.see(pass, "forward", "embedding", "y", y, width_, [&](Operands& o) {
      o.set("embedding_scale", 1.0);
      o.take("token", tokens.data() + o.row() * width_ + o.column(), 1);
      position_embedding_operands(o, positions_->value, pass.positions, pass.time, width_);
      o.set("dropout", pass.dropout);
    });
  }

  /// Of the whole batch. dy is changed in place (dropout, and the rows of class tokens).
  void parameter_gradients(const Pass& pass, T* dy) {
    if (!trains()) return;
    if (pass.dropout > 0)
      dropout_backward(dy, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_),
                       dy);
    if (positions_->trainable) {
      position_embedding_backward(dy, pass.positions, pass.batch, pass.time, grid_.rows(), width_, positions_->sum());
      pass.see_gradient("embedding", *positions_, [&](Operands& o) {
        position_embedding_backward_operands(o, dy, pass.positions, pass.batch, pass.time, width_);
      });
    }
    if (class_token_) {
      const Index sequence = pass.time * width_;
      if (class_token_->trainable) {
        add_column_sums(dy, pass.batch, width_, sequence, class_token_->sum());
        pass.see_gradient("embedding", *class_token_,
                          [&](Operands& o) { column_sums_operands(o, dy, pass.batch, sequence); });
      }
      for (Index b = 0; b < pass.batch; ++b) std::fill_n(dy + b * sequence, width_, T(0));  // no patches made them
    }
    proj_->parameter_gradients(pass, dy, patches_.at(pass));
  }

 private:
  Site site_;
  Index dropout_site_, width_;
  PatchGrid grid_;
  std::unique_ptr<Projection<T>> proj_;
  Parameter<T>*class_token_ = nullptr, *positions_ = nullptr;
  Rows<T> patches_;
};

}  // namespace loopos
