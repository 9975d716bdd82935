#include "ops/cross_entropy.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "trace/guards.h"

namespace loopos {
namespace {
Guard fully_masked("cross_entropy");
}

void check_targets(const char* function, const Index* targets, Index rows, Index vocab, Index ignore_index) {
  for (Index r = 0; r < rows; ++r)
    if (targets[r] != ignore_index && (targets[r] < 0 || targets[r] >= vocab))
      throw std::out_of_range(cat(function, ": targets must be from 0 to ", vocab - 1, " or ignore_index (",
                                  ignore_index, "), got ", targets[r], " at position ", r));
}

template <class T>
Index cross_entropy_forward(const T* logits, const Index* targets, Index rows, Index vocab,
                            const CrossEntropyOptions& options, double* losses, T* lse) {
  const auto& k = kernels::table<T>();
  const double s = options.label_smoothing, z = options.z_loss;
  std::atomic<Index> counted{0}, masked{0};
  parallel_blocks(rows, row_grain(vocab, 4), [&](Index begin, Index end) {
    Index count = 0;
    for (Index r = begin; r < end; ++r) {
      losses[r] = 0;
      if (targets[r] == options.ignore_index) continue;
      ++count;
      const T* row = logits + r * vocab;
      const T top = k.max(row, vocab);
      if (top == -std::numeric_limits<T>::infinity()) ++masked;
      const double log_total = std::log(k.exp_sum_only(row, vocab, top)), peak = static_cast<double>(top);
      double loss = peak - static_cast<double>(row[targets[r]]) + log_total;
      if (s > 0) loss = (1 - s) * loss + s * (peak - k.sum(row, vocab) / static_cast<double>(vocab) + log_total);
      if (z > 0) loss += z * (peak + log_total) * (peak + log_total);
      losses[r] = loss;
      if (lse) lse[r] = static_cast<T>(peak + log_total);
    }
    counted += count;
  });
  fully_masked.count(masked);
  return counted;
}

template <class T>
void cross_entropy_backward(const T* dloss, Index dloss_stride, const T* logits, const Index* targets, const T* lse,
                            Index rows, Index vocab, const CrossEntropyOptions& options, T* dlogits) {
  const auto& k = kernels::table<T>();
  const double s = options.label_smoothing, z = options.z_loss;
  parallel_blocks(rows, row_grain(vocab, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* row = logits + r * vocab;
      T* out = dlogits + r * vocab;
      if (targets[r] == options.ignore_index) {
        std::fill(out, out + vocab, T(0));
        continue;
      }
      const double g = static_cast<double>(dloss[r * dloss_stride]);
      const T shift = lse ? lse[r] : k.max(row, vocab);
      const double total = k.exp_sum(row, vocab, shift, out);
      const double target = static_cast<double>(out[targets[r]]);
      const double pull = z > 0 ? 2 * z * (static_cast<double>(shift) + std::log(total)) : 0;
      const double uniform = s / static_cast<double>(vocab);
      const double factor = g * (1 + pull) / total;
      if (s > 0)
        k.scale_add(out, vocab, static_cast<T>(factor), static_cast<T>(-g * uniform), out);
      else
        k.scale(out, vocab, static_cast<T>(factor), out);
      out[targets[r]] = static_cast<T>(g * (pull * target / total - (total - target) / total + (s - uniform)));
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                          \
  template Index cross_entropy_forward(const T*, const Index*, Index, Index, const CrossEntropyOptions&, double*, T*); \
  template void cross_entropy_backward(const T*, Index, const T*, const Index*, const T*, Index, Index,                \
                                       const CrossEntropyOptions&, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
