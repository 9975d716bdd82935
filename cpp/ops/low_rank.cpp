#include "ops/low_rank.h"

#include <algorithm>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "ops/add.h"
#include "ops/dropout.h"

namespace loopos {
namespace {

using kernels::matrix;
using kernels::transpose;

constexpr Index kRows = 256;  // whose dropout is held at once

struct DroppedX;

/// body(x', first, n) with x' = dropout(x) for rows [first, first + n), a group of rows after another.
template <class T, class Body>
void each_dropped(const T* x, const InputDropout& dropout, Index rows, Index in, Body&& body) {
  if (dropout.p == 0) return body(x, Index{0}, rows);
  T* dropped = scratch<T, DroppedX>(std::min(rows, kRows) * in);
  for (Index first = 0; first < rows; first += kRows) {
    const Index n = std::min(kRows, rows - first);
    dropout_forward(x + first * in, n * in, dropout.p, dropout.seed,
                    dropout.offset + static_cast<std::uint64_t>(first * in), dropped);
    body(static_cast<const T*>(dropped), first, n);
  }
}

/// Parts [begin, end) whose pieces of memory follow one another: one matrix of `rank` rows, at column `at` of ax.
struct Run {
  std::size_t begin, end;
  Index at, rank;
};

/// body(run) for the fewest runs of which joined(i) says whether part i follows the one before it.
template <class T, class Joined, class Body>
void each_run(const LowRanks<T>& parts, Joined&& joined, Body&& body) {
  Index at = 0;
  for (std::size_t i = 0; i < parts.size();) {
    Run run{i, i + 1, at, parts[i].rank};
    while (run.end < parts.size() && joined(run.end)) run.rank += parts[run.end++].rank;
    body(run);
    at += run.rank;
    i = run.end;
  }
}
template <class T, class Body>
void each_run(const LowRanks<T>& parts, Index in, Body&& body) {
  each_run(parts, [&](std::size_t i) { return parts[i].a == parts[i - 1].a + parts[i - 1].rank * in; }, body);
}

/// body(part, at): each part with its column of ax.
template <class T, class Body>
void each_part(const LowRanks<T>& parts, Body&& body) {
  Index at = 0;
  for (const auto& part : parts) {
    body(part, at);
    at += part.rank;
  }
}

/// ax (rows, total) times the scales of the parts.
template <class T>
void scale_parts(const LowRanks<T>& parts, Index rows, Index total, T* ax) {
  const auto& k = kernels::table<T>();
  const bool one = std::all_of(parts.begin(), parts.end(),
                               [&](const LowRank<T>& part) { return part.scale == parts.front().scale; });
  if (parts.empty() || (one && parts.front().scale == 1)) return;
  parallel_blocks(rows, row_grain(total), [&](Index begin, Index end) {
    if (one)
      return k.scale(ax + begin * total, (end - begin) * total, static_cast<T>(parts.front().scale),
                     ax + begin * total);
    for (Index row = begin; row < end; ++row)
      each_part(parts, [&](const LowRank<T>& part, Index at) {
        T* x = ax + row * total + at;
        k.scale(x, part.rank, static_cast<T>(part.scale), x);
      });
  });
}

/// The part that holds column c of ax, and which of its columns that is.
template <class T>
const LowRank<T>& part_of(const LowRanks<T>& parts, Index& c) {
  std::size_t i = 0;
  while (c >= parts[i].rank) c -= parts[i++].rank;
  return parts[i];
}
template <class T>
Index column_of(const LowRanks<T>& parts, std::size_t number) {
  Index at = 0;
  for (std::size_t i = 0; i < number; ++i) at += parts[i].rank;
  return at;
}

/// What dropout multiplies element `at` by.
template <class T>
T dropped(const InputDropout& dropout, Index at) {
  T scale = 1;
  if (dropout.p > 0)
    dropout_scales(dropout.seed, dropout.offset + static_cast<std::uint64_t>(at), 1, dropout.p, &scale);
  return scale;
}

}  // namespace

template <class T>
void low_rank_inner_forward(const T* x, const LowRanks<T>& parts, const InputDropout& dropout, Index rows, Index in,
                            T* ax) {
  const Index total = total_rank(parts);
  each_dropped(x, dropout, rows, in, [&](const T* from, Index first, Index n) {
    each_run(parts, in, [&](const Run& run) {
      gemm(matrix(from, n, in), transpose(matrix(parts[run.begin].a, run.rank, in)),
           {ax + first * total + run.at, total});
    });
  });
  scale_parts(parts, rows, total, ax);
}

template <class T>
void low_rank_forward(const T* ax, const LowRanks<T>& parts, Index rows, Index out, T* y) {
  const Index total = total_rank(parts);
  each_part(parts, [&](const LowRank<T>& part, Index at) {
    gemm(matrix(ax + at, rows, part.rank, total), transpose(matrix(part.b, part.width, part.rank)),
         {y + part.first, out}, {true});
  });
}

template <class T>
void low_rank_inner_backward(const T* dy, const LowRanks<T>& parts, Index rows, Index out, T* dax) {
  const Index total = total_rank(parts);
  each_part(parts, [&](const LowRank<T>& part, Index at) {
    gemm(matrix(dy + part.first, rows, part.width, out), matrix(part.b, part.width, part.rank), {dax + at, total});
  });
  scale_parts(parts, rows, total, dax);
}

template <class T>
void low_rank_backward(const T* dax, const LowRanks<T>& parts, const InputDropout& dropout, Index rows, Index in,
                       T* dx) {
  const Index total = total_rank(parts);
  const auto multiply = [&](const T* from, Index n, T* to, bool add) {
    each_run(parts, in, [&](const Run& run) {
      gemm(matrix(from + run.at, n, run.rank, total), matrix(parts[run.begin].a, run.rank, in), {to, in},
           {add || run.begin > 0});
    });
  };
  if (dropout.p == 0) return multiply(dax, rows, dx, true);
  T* through = scratch<T, DroppedX>(std::min(rows, kRows) * in);
  for (Index first = 0; first < rows; first += kRows) {
    const Index n = std::min(kRows, rows - first);
    multiply(dax + first * total, n, through, false);
    dropout_backward(through, n * in, dropout.p, dropout.seed, dropout.offset + static_cast<std::uint64_t>(first * in),
                     through);
    add_forward(dx + first * in, through, n * in, dx + first * in);
  }
}

template <class T>
void low_rank_weight_gradients(const T* dy, const T* x, const T* ax, const T* dax, const LowRanks<T>& parts,
                               const InputDropout& dropout, Index rows, Index in, Index out,
                               const std::vector<LowRankGradient<T>>& gradients) {
  const Index total = total_rank(parts);
  const auto joined = [&](std::size_t i) {
    return gradients[i].a && gradients[i - 1].a && gradients[i].add_a == gradients[i - 1].add_a &&
           gradients[i].a == gradients[i - 1].a + parts[i - 1].rank * in;
  };
  const bool any = std::any_of(gradients.begin(), gradients.end(), [](const auto& to) { return to.a; });
  if (any)
    each_dropped(x, dropout, rows, in, [&](const T* from, Index first, Index n) {
      each_run(parts, joined, [&](const Run& run) {
        const auto& to = gradients[run.begin];
        if (to.a)
          gemm(transpose(matrix(dax + first * total + run.at, n, run.rank, total)), matrix(from, n, in), {to.a, in},
               {to.add_a || first > 0});
      });
    });
  std::size_t number = 0;
  each_part(parts, [&](const LowRank<T>& part, Index at) {
    const auto& to = gradients[number++];
    if (to.b)
      gemm(transpose(matrix(dy + part.first, rows, part.width, out)), matrix(ax + at, rows, part.rank, total),
           {to.b, part.rank}, {to.add_b});
  });
}

template <class T>
void low_rank_inner_operands(Operands& o, const T* x, const LowRanks<T>& parts, const InputDropout& dropout, Index in) {
  Index c = o.column();
  const auto& part = part_of(parts, c);
  std::vector<T> row(x + o.row() * in, x + o.row() * in + in);
  for (Index i = 0; i < in; ++i) row[static_cast<std::size_t>(i)] *= dropped<T>(dropout, o.row() * in + i);
  o.take("x", row);
  o.take("weight", part.a + c * in, in);
  o.set("low_rank_scale", part.scale);
}

template <class T>
void low_rank_operands(Operands& o, const T* ax, const LowRanks<T>& parts, const T* before, Index out) {
  o.take("bias", before + o.row() * out + o.column(), 1);
  each_part(parts, [&](const LowRank<T>& part, Index at) {
    const Index c = o.column() - part.first;
    if (c < 0 || c >= part.width) return;
    o.take("x", ax + o.row() * total_rank(parts) + at, part.rank);
    o.take("weight", part.b + c * part.rank, part.rank);
  });
}

template <class T>
void low_rank_inner_backward_operands(Operands& o, const T* dy, const LowRanks<T>& parts, Index out) {
  Index c = o.column();
  const auto& part = part_of(parts, c);
  o.take("dy", dy + o.row() * out + part.first, part.width);
  o.take("weight", part.b + c, part.width, part.rank);
  o.set("low_rank_scale", part.scale);
}

template <class T>
void low_rank_backward_operands(Operands& o, const T* dax, const LowRanks<T>& parts, const InputDropout& dropout,
                                const T* before, Index in) {
  const Index total = total_rank(parts), at = o.row() * in + o.column();
  std::vector<T> column;
  for (const auto& part : parts)
    for (Index r = 0; r < part.rank; ++r) column.push_back(part.a[r * in + o.column()] * dropped<T>(dropout, at));
  o.take("dy", dax + o.row() * total, total);
  o.take("weight", column);
  o.take("bias", before + at, 1);
}

template <class T>
void low_rank_a_operands(Operands& o, const T* x, const T* dax, const LowRanks<T>& parts, const InputDropout& dropout,
                         std::size_t number, Index rows, Index in) {
  std::vector<T> column;
  for (Index r = 0; r < rows; ++r) {
    const Index at = r * in + o.column();
    column.push_back(x[at] * dropped<T>(dropout, at));
  }
  o.take("dy", dax + column_of(parts, number) + o.row(), rows, total_rank(parts));
  o.take("x", column);
}

template <class T>
void low_rank_b_operands(Operands& o, const T* dy, const T* ax, const LowRanks<T>& parts, std::size_t number,
                         Index rows, Index out) {
  o.take("dy", dy + parts[number].first + o.row(), rows, out);
  o.take("x", ax + column_of(parts, number) + o.column(), rows, total_rank(parts));
}

#define LOOPOS_INSTANTIATE(T)                                                                                      \
  template void low_rank_inner_forward(const T*, const LowRanks<T>&, const InputDropout&, Index, Index, T*);       \
  template void low_rank_forward(const T*, const LowRanks<T>&, Index, Index, T*);                                  \
  template void low_rank_inner_backward(const T*, const LowRanks<T>&, Index, Index, T*);                           \
  template void low_rank_backward(const T*, const LowRanks<T>&, const InputDropout&, Index, Index, T*);            \
  template void low_rank_weight_gradients(const T*, const T*, const T*, const T*, const LowRanks<T>&,              \
                                          const InputDropout&, Index, Index, Index,                                \
                                          const std::vector<LowRankGradient<T>>&);                                 \
  template void low_rank_inner_operands(Operands&, const T*, const LowRanks<T>&, const InputDropout&, Index);      \
  template void low_rank_operands(Operands&, const T*, const LowRanks<T>&, const T*, Index);                       \
  template void low_rank_inner_backward_operands(Operands&, const T*, const LowRanks<T>&, Index);                  \
  template void low_rank_backward_operands(Operands&, const T*, const LowRanks<T>&, const InputDropout&, const T*, \
                                           Index);                                                                 \
  template void low_rank_a_operands(Operands&, const T*, const T*, const LowRanks<T>&, const InputDropout&,        \
                                    std::size_t, Index, Index);                                                    \
  template void low_rank_b_operands(Operands&, const T*, const T*, const LowRanks<T>&, std::size_t, Index, Index);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
