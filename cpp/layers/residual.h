// out = x + dropout(branch): the end of a residual branch.
#pragma once

#include "kernels/isa/table.h"
#include "layers/pass.h"
#include "ops/dropout.h"

namespace loopos {

template <class T>
class Residual {
 public:
  Residual() = default;
  Residual(Site site, Index dropout_site, Index width)
      : site_(std::move(site)), dropout_site_(dropout_site), width_(width) {}

  /// Whether the branch's last projection adds x itself (the same bits): nothing lies between.
  bool fused(const Pass& pass) const { return pass.dropout == 0 && !pass.probe; }

  /// Unless fused: branch is changed in place; out may be branch.
  void forward(const Pass& pass, const T* x, T* branch, T* out) {
    if (fused(pass)) return;
    const Index n = pass.rows() * width_;
    std::vector<T> before;  // for a trace: out may take the place of branch
    if (pass.looking()) before.assign(branch, branch + n);
    if (pass.dropout > 0)
      dropout_forward(branch, n, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_), branch);
    parallel_blocks(n, 1 << 15, [&](Index begin, Index end) {
      kernels::table<T>().add(x + begin, branch + begin, end - begin, out + begin);
    });
    site_.see(pass, "forward", "add", "y", out, {pass.batch, pass.time, width_}, [&](Operands& o) {
      const Index at = o.row() * width_ + o.column();
      o.set("dropout", pass.dropout);
      o.take("x", x + at, 1);
      o.take("branch", before.data() + at, 1);
    });
  }

  /// The gradient of the branch: dout itself, or its dropped copy in `memory`. The gradient of x is dout.
  const T* backward(const Pass& pass, const T* dout, T* memory) {
    if (pass.dropout == 0) return dout;
    dropout_backward(dout, pass.rows() * width_, pass.dropout, pass.stream(dropout_site_), pass.elements_before(width_),
                     memory);
    return memory;
  }

 private:
  Site site_;
  Index dropout_site_ = 0, width_ = 0;
};

}  // namespace loopos
