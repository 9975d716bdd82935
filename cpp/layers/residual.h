// out = x + dropout(branch): the end of a residual branch.
#pragma once

#include "layers/plan.h"
#include "ops/add.h"
#include "ops/dropout.h"

namespace loopos {

template <class T>
class Residual {
 public:
  Residual() = default;
  Residual(Site site, Index dropout_site, Index width)
      : site_(std::move(site)), dropout_site_(dropout_site), width_(width) {}

  /// dbranch: where the branch's gradient goes when there is dropout.
  void plan_gradients(Rows<T> dbranch) { dbranch_ = dbranch; }

  /// x where the branch's last projection adds it itself (the same bits), as nothing lies between; else null.
  const T* fused(const Pass& pass, const T* x) const { return pass.dropout == 0 && !pass.probe ? x : nullptr; }

  /// Unless fused: out, which holds the branch, becomes x + dropout(branch).
  void forward(const Pass& pass, const T* x, T* out) {
    if (fused(pass, x)) return;
    const Index n = pass.rows() * width_;
    std::vector<T> branch;  // for a trace
    if (pass.looking()) branch.assign(out, out + n);
    if (pass.dropout > 0)
      dropout_forward(out, n, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_), out);
    add_forward(x, out, n, out);
    site_.see(pass, "forward", "add", "y", out, width_, [&](Operands& o) {
      add_operands(o, "x", x, "branch", branch.data(), width_);
      o.set("dropout", pass.dropout);
    });
  }

  void backward(const Pass& pass, const T* dout) {
    if (pass.dropout > 0)
      dropout_backward(dout, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_),
                       pass.elements_before(width_), dbranch_.at(pass));
  }
  /// The gradient of the branch after backward; that of x is dout.
  const T* dbranch(const Pass& pass, const T* dout) const { return pass.dropout > 0 ? dbranch_.at(pass) : dout; }

 private:
  Site site_;
  Index dropout_site_ = 0, width_ = 0;
  Rows<T> dbranch_;
};

}  // namespace loopos
