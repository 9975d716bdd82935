#include "ops/column_sums.h"

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {

template <class T>
void add_column_sums(const T* x, Index rows, Index n, Index stride, T* sums) {
  constexpr Index kRows = 512, kColumns = 128;
  if (rows == 0 || n == 0) return;
  const auto& k = kernels::table<T>();
  const Index row_blocks = (rows + kRows - 1) / kRows, column_blocks = (n + kColumns - 1) / kColumns;
  struct Slots;
  double* slots = scratch<double, Slots>(row_blocks * n);
  const auto sum_block = [&](Index task) {
    const Index row = task / column_blocks * kRows, column = task % column_blocks * kColumns;
    k.column_sums(x + row * stride + column, stride, nullptr, 0, std::min(kRows, rows - row),
                  std::min(kColumns, n - column), slots + task / column_blocks * n + column);
  };
  const Index tasks = row_blocks * column_blocks;
  if (rows * n <= 16384)
    for (Index task = 0; task < tasks; ++task) sum_block(task);
  else
    parallel_for(tasks, sum_block);
  for (Index block = 1; block < row_blocks; ++block)
    for (Index c = 0; c < n; ++c) slots[c] += slots[block * n + c];
  for (Index c = 0; c < n; ++c) sums[c] += static_cast<T>(slots[c]);
}

template void add_column_sums(const float*, Index, Index, Index, float*);
template void add_column_sums(const double*, Index, Index, Index, double*);

}  // namespace loopos
