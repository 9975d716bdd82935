// out = x + dropout(branch): the end of a residual branch; and where a branch begins without a norm, which would take
// the sum along, the sum of the gradients.
#pragma once

#include "layers/plan.h"
#include "ops/add.h"
#include "ops/dropout.h"

namespace loopos {

template <class T>
class Residual {
 public:
  Residual() = default;
  /// last: the branch ends with a projection, which can add x itself.
  Residual(Site site, Index dropout_site, Index width, bool last)
      : site_(std::move(site)), dropout_site_(dropout_site), width_(width), last_(last) {}

  /// dbranch: where the branch's gradient goes when it is not dout.
  void plan_gradients(Rows<T> dbranch) { dbranch_ = dbranch; }

  /// x where the branch's last projection adds it itself (the same bits), as nothing lies between; else null.
  const T* fused(const Pass& pass, const T* x, bool apart) const {
    return last_ && !apart && pass.dropout == 0 && !pass.probe ? x : nullptr;
  }

  /// Unless fused: out = x + dropout(branch). branch becomes dropout(branch) where it stands apart; else it is out.
  void forward(const Pass& pass, const T* x, T* branch, T* out) {
    if (fused(pass, x, branch != out)) return;
    const Index n = pass.rows() * width_;
    const std::vector<T> given = pass.overwritten(branch, width_);
    if (pass.dropout > 0)
      dropout_forward(branch, n, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_), branch);
    add_forward(x, branch, n, out);
    site_.see(pass, "forward", "add", "y", out, width_, [&](Operands& o) {
      add_operands(o, "x", x, "branch", given.data(), width_);
      o.set("dropout", pass.dropout);
    });
  }

  /// dapart: the gradient that comes to dropout(branch) by another way than out, or null.
  void backward(const Pass& pass, const T* dout, const T* dapart) {
    const Index n = pass.rows() * width_;
    T* dbranch = dbranch_.at(pass);
    if (dapart) {
      add_forward(dout, dapart, n, dbranch);
      site_.see(pass, "backward", "add", "dbranch", dbranch, width_,
                [&](Operands& o) { add_operands(o, "x", dout, "branch", dapart, width_); });
    }
    if (pass.dropout > 0)
      dropout_backward(dapart ? dbranch : dout, n, pass.dropout, pass.stream(dropout_site_),
                       pass.elements_before(width_), dbranch);
  }
  /// The gradient of the branch after backward; that of x is dout.
  const T* dbranch(const Pass& pass, const T* dout, bool apart) const {
    return apart || pass.dropout > 0 ? dbranch_.at(pass) : dout;
  }

  /// dx = the gradient that comes through the branch + dskip, what comes around it (may be dx itself).
  void join(const Pass& pass, const T* dbranch, const T* dskip, T* dx) {
    const std::vector<T> skipped = pass.overwritten(dskip, width_);
    add_forward(dskip, dbranch, pass.rows() * width_, dx);
    site_.see(pass, "backward", "add", "dx", dx, width_,
              [&](Operands& o) { add_operands(o, "x", skipped.data(), "branch", dbranch, width_); });
  }

 private:
  Site site_;
  Index dropout_site_ = 0, width_ = 0;
  bool last_ = true;
  Rows<T> dbranch_;
};

}  // namespace loopos
