// Low-rank parts of a projection (LoRA: Hu and others, "LoRA: Low-rank adaptation of large language models", 2021).
//   ax = scale dropout(x) A^T,  y[:, first : first + width] += ax B^T
//   dax = scale dy[:, first : first + width] B,  dx += dropout(dax A),  dA += dax^T dropout(x),  dB += dy[...]^T ax
// x, dx (rows, in); A (rank, in), B (width, rank); y, dy (rows, out). ax and dax (rows, the sum of the ranks): the parts
// side by side. ax is kept for backward: it is a few numbers a row. Parts of one projection share x and its dropout; where
// the A of one follows that of another in memory, one product takes both and reads x once.
#pragma once

#include <vector>

#include "kernels/gemm/gemm.h"
#include "trace/operands.h"

namespace loopos {

template <class T>
struct LowRank {
  const T *a, *b;
  Index first, width, rank;  // columns [first, first + width) of y
  double scale;
};
template <class T>
using LowRanks = std::vector<LowRank<T>>;

/// Of x, as ops/dropout.h has it; p 0: none.
struct InputDropout {
  double p = 0;
  std::uint64_t seed = 0, offset = 0;
};

/// Where a gradient goes; null: it is not wanted. add: to what is there, or else that is overwritten.
template <class T>
struct LowRankGradient {
  T *a = nullptr, *b = nullptr;
  bool add_a = true, add_b = true;
};

template <class T>
Index total_rank(const LowRanks<T>& parts) {
  Index sum = 0;
  for (const auto& part : parts) sum += part.rank;
  return sum;
}

/// Overwrites ax.
template <class T>
void low_rank_inner_forward(const T* x, const LowRanks<T>& parts, const InputDropout& dropout, Index rows, Index in,
                            T* ax);
/// Adds to y.
template <class T>
void low_rank_forward(const T* ax, const LowRanks<T>& parts, Index rows, Index out, T* y);

/// Overwrites dax.
template <class T>
void low_rank_inner_backward(const T* dy, const LowRanks<T>& parts, Index rows, Index out, T* dax);
/// Adds to dx.
template <class T>
void low_rank_backward(const T* dax, const LowRanks<T>& parts, const InputDropout& dropout, Index rows, Index in,
                       T* dx);

/// One gradient for each part.
template <class T>
void low_rank_weight_gradients(const T* dy, const T* x, const T* ax, const T* dax, const LowRanks<T>& parts,
                               const InputDropout& dropout, Index rows, Index in, Index out,
                               const std::vector<LowRankGradient<T>>& gradients);

/// What made an element of ax; of y, of which `before` is what was there, and which no part may have touched; of dax;
/// of dx; of dA and dB of part `number`.
template <class T>
void low_rank_inner_operands(Operands& o, const T* x, const LowRanks<T>& parts, const InputDropout& dropout, Index in);
template <class T>
void low_rank_operands(Operands& o, const T* ax, const LowRanks<T>& parts, const T* before, Index out);
template <class T>
void low_rank_inner_backward_operands(Operands& o, const T* dy, const LowRanks<T>& parts, Index out);
template <class T>
void low_rank_backward_operands(Operands& o, const T* dax, const LowRanks<T>& parts, const InputDropout& dropout,
                                const T* before, Index in);
template <class T>
void low_rank_a_operands(Operands& o, const T* x, const T* dax, const LowRanks<T>& parts, const InputDropout& dropout,
                         std::size_t number, Index rows, Index in);
template <class T>
void low_rank_b_operands(Operands& o, const T* dy, const T* ax, const LowRanks<T>& parts, std::size_t number,
                         Index rows, Index out);

}  // namespace loopos
