#include "kernels/gemm.h"

#include <algorithm>
#include <cstring>

#include "core/buffer.h"
#include "core/thread_pool.h"

namespace loopos::kernels {
namespace {

Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}
Index round_up(Index a, Index b) {
  return ceil_div(a, b) * b;
}

template <class T>
void clear(Index m, Index n, T* c, Index ldc) {
  for (Index i = 0; i < m; ++i) std::memset(c + i * ldc, 0, sizeof(T) * static_cast<std::size_t>(n));
}

struct SerialB;
struct SharedA;
struct SharedB;

/// Where the operands of one product lie, whether packed or in place. Row panel p of A starts at a + p a_panel, a step
/// of k further at a + p a_panel + a_step; likewise for B and its column panels.
struct Operands {
  const float* a;
  Index a_panel, a_step, row_stride, column_stride;
  const float* b;
  Index b_panel, b_row;
  Index k;
};

/// C block [row, row + m) x [column, column + n), both at panel borders, over the whole depth in steps of KC.
void multiply_tile(const Operands& x, Index row, Index m, Index column, Index n, float* c, Index ldc, bool accumulate) {
  const GemmShape& s = gemm_shape();
  for (Index p = 0; p < x.k; p += s.depth) {
    FloatBlock block;
    block.m = m;
    block.n = n;
    block.k = std::min(s.depth, x.k - p);
    block.a = x.a + row / s.rows * x.a_panel + p * x.a_step;
    block.panel = x.a_panel;
    block.row_stride = x.row_stride;
    block.column_stride = x.column_stride;
    block.b = x.b + column / s.columns * x.b_panel + p * x.b_row;
    block.b_panel = x.b_panel;
    block.b_row = x.b_row;
    block.c = c + row * ldc + column;
    block.ldc = ldc;
    block.accumulate = accumulate || p > 0;
    multiply_block(block);
  }
}

Operands in_place_a(Trans ta, Index k, const float* a, Index lda) {
  const Index rows = gemm_shape().rows;
  Operands x{};
  x.a = a;
  x.k = k;
  x.a_panel = ta == Trans::yes ? rows : rows * lda;
  x.a_step = x.column_stride = ta == Trans::yes ? lda : 1;
  x.row_stride = ta == Trans::yes ? 1 : lda;
  return x;
}

void packed_b(Operands& x, const float* b) {
  x.b = b;
  x.b_row = gemm_shape().columns;
  x.b_panel = x.k * x.b_row;
}

/// Small products, such as those inside a tile of attention: A is read where it lies, and so is B when its panels are
/// whole.
void serial_product(Trans ta, Trans tb, Index m, Index n, Index k, const float* a, Index lda, const float* b, Index ldb,
                    float* c, Index ldc, bool accumulate) {
  const GemmShape& s = gemm_shape();
  Operands x = in_place_a(ta, k, a, lda);
  if (tb == Trans::no && n % s.columns == 0) {
    x.b = b;
    x.b_panel = s.columns;
    x.b_row = ldb;
  } else {
    float* packed = scratch<float, SerialB>(round_up(n, s.columns) * k);
    pack_b(b, ldb, tb == Trans::yes, k, n, packed);
    packed_b(x, packed);
  }
  multiply_tile(x, 0, m, 0, n, c, ldc, accumulate);
}

void parallel_product(Trans ta, Trans tb, Index m, Index n, Index k, const float* a, Index lda, const float* b,
                      Index ldb, float* c, Index ldc, bool accumulate) {
  const GemmShape& s = gemm_shape();
  // Columns in slices so that the packed B stays within 16 MB, whatever the vocabulary.
  const Index slice =
      std::min(round_up(n, s.columns), std::max(s.columns, (Index{4} << 20) / k / s.columns * s.columns));
  float* shared_b = scratch<float, SharedB>(slice * k);
  Operands x = in_place_a(ta, k, a, lda);
  packed_b(x, shared_b);
  float* shared_a = nullptr;
  if (ta == Trans::yes) {  // read in place, its columns would fall into few sets of the cache
    shared_a = scratch<float, SharedA>(round_up(m, s.rows) * k);
    x.a = shared_a;
    x.a_panel = s.rows * k;
    x.a_step = x.column_stride = s.rows;
    x.row_stride = 1;
  }

  // Tiles of about 240 rows (an A block of 240 x KC stays in the second-level cache) by as many panels as make a task
  // worth its hand-over.
  const Index row_blocks = ceil_div(m, 20 * s.rows);
  const Index rows = round_up(ceil_div(m, row_blocks), s.rows);
  const Index panels_per_task = std::clamp<Index>((Index{2} << 20) / std::max<Index>(1, rows * k * s.columns), 1, 8);
  const Index panels_per_pack = std::max<Index>(1, 16384 / (k * s.columns));
  const Index row_panels_per_pack = std::max<Index>(1, 16384 / (k * s.rows));

  for (Index first = 0; first < n; first += slice) {
    const Index width = std::min(slice, n - first);
    const Index panels = ceil_div(width, s.columns);
    const Index b_packs = ceil_div(panels, panels_per_pack);
    const Index a_packs = shared_a && first == 0 ? ceil_div(ceil_div(m, s.rows), row_panels_per_pack) : 0;
    parallel_for(b_packs + a_packs, [&](Index task) {
      if (task < b_packs) {
        const Index from = task * panels_per_pack * s.columns, to = std::min(width, from + panels_per_pack * s.columns);
        const float* source = tb == Trans::yes ? b + (first + from) * ldb : b + first + from;
        pack_b(source, ldb, tb == Trans::yes, k, to - from, shared_b + from * k);
      } else {
        const Index from = (task - b_packs) * row_panels_per_pack * s.rows,
                    to = std::min(m, from + row_panels_per_pack * s.rows);
        pack_a(a + from, lda, k, to - from, shared_a + from * k);
      }
    });
    const Index column_tasks = ceil_div(panels, panels_per_task);
    parallel_for(column_tasks * row_blocks, [&](Index task) {
      const Index row = task % row_blocks * rows, column = task / row_blocks * panels_per_task * s.columns;
      if (row >= m) return;
      multiply_tile(x, row, std::min(rows, m - row), column, std::min(panels_per_task * s.columns, width - column),
                    c + first, ldc, accumulate);
    });
  }
}

void product(bool serial, Trans ta, Trans tb, Index m, Index n, Index k, const float* a, Index lda, const float* b,
             Index ldb, float* c, Index ldc, bool accumulate) {
  (serial ? serial_product : parallel_product)(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

void product(bool serial, Trans ta, Trans tb, Index m, Index n, Index k, const double* a, Index lda, const double* b,
             Index ldb, double* c, Index ldc, bool accumulate) {
  constexpr Index kRows = 64, kColumns = 256;
  const Index row_blocks = ceil_div(m, kRows), column_blocks = ceil_div(n, kColumns);
  const auto block = [&](Index task) {
    const Index row = task % row_blocks * kRows, column = task / row_blocks * kColumns;
    GemmBlock<double> g;
    g.transpose_a = ta == Trans::yes;
    g.transpose_b = tb == Trans::yes;
    g.m = std::min(kRows, m - row);
    g.n = std::min(kColumns, n - column);
    g.k = k;
    g.a = g.transpose_a ? a + row : a + row * lda;
    g.lda = lda;
    g.b = g.transpose_b ? b + column * ldb : b + column;
    g.ldb = ldb;
    g.c = c + row * ldc + column;
    g.ldc = ldc;
    g.accumulate = accumulate;
    multiply_block(g);
  };
  if (serial)
    for (Index task = 0; task < row_blocks * column_blocks; ++task) block(task);
  else
    parallel_for(row_blocks * column_blocks, block);
}

template <class T>
void checked_product(bool serial, Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b,
                     Index ldb, T* c, Index ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!accumulate) clear(m, n, c, ldc);
    return;
  }
  product(serial, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

}  // namespace

template <class T>
void gemm(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c, Index ldc,
          bool accumulate) {
  constexpr Index kSmall = 64 * 64 * 32;  // below this a second thread costs more than it brings
  checked_product(m * n * k <= kSmall, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

template <class T>
void gemm_serial(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c,
                 Index ldc, bool accumulate) {
  checked_product(true, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

#define LOOPOS_INSTANTIATE(T)                                                                               \
  template void gemm(Trans, Trans, Index, Index, Index, const T*, Index, const T*, Index, T*, Index, bool); \
  template void gemm_serial(Trans, Trans, Index, Index, Index, const T*, Index, const T*, Index, T*, Index, bool);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos::kernels
