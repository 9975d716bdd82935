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

/// Depth of the blocks that k is cut into: a function of k alone, of the whole product's also where it is done in
/// slices.
Index block_depth(Index k) {
  const Index blocks = std::max<Index>(1, ceil_div(k, gemm_shape().depth));
  return round_up(ceil_div(k, blocks), 4);
}

template <class T>
void only_extras(Index m, Index n, T* c, Index ldc, const Extras<T>& extras) {
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      T x = extras.accumulate ? c[i * ldc + j] : T(0);
      if (extras.bias) x += extras.bias[j];
      if (extras.residual) x += extras.residual[i * extras.ld_residual + j];
      c[i * ldc + j] = x;
    }
}

struct SerialB;
struct BlockA;
struct BlockB;
struct Shared;

FloatBlock start_block(Index m, Index n, float* c, Index ldc) {
  FloatBlock g{};
  g.m = m;
  g.n = n;
  g.c = c;
  g.ldc = ldc;
  return g;
}

/// Whether B (k, n) is read where it lies: its vectors are whole, and all of it is near (256 KB).
bool b_in_place(bool transposed, Index n, Index k, Index ld) {
  return !transposed && n % gemm_shape().lanes == 0 && k * ld <= Index{1} << 16;
}

/// Whether A is: rows always; columns, of which a tile takes a small piece at each step, if they are near (1 MB) and
/// not gone through for many panels of B.
bool a_in_place(bool transposed, Index n, Index depth, Index ld) {
  return !transposed || (depth * ld <= Index{1} << 18 && n <= 2 * gemm_shape().columns);
}

/// Lets the block read A where it lies: its first element at a.
void point_at_a(FloatBlock& g, bool transposed, const float* a, Index lda) {
  g.a = a;
  g.panel = transposed ? gemm_shape().rows : gemm_shape().rows * lda;
  g.column_stride = transposed ? lda : 1;
  g.row_stride = transposed ? 1 : lda;
}

/// Small products, such as those inside a tile of attention: A is read where it lies, and so is B when its vectors are
/// whole.
void serial_product(Trans ta, Trans tb, Index m, Index n, Index k, const float* a, Index lda, const float* b, Index ldb,
                    float* c, Index ldc, bool accumulate) {
  const GemmShape& s = gemm_shape();
  const bool whole = tb == Trans::no && n % s.lanes == 0;
  const float* packed = b;
  if (!whole) {
    float* memory = scratch<float, SerialB>(round_up(n, s.columns) * k);
    pack_b(b, ldb, tb == Trans::yes, k, n, memory);
    packed = memory;
  }
  FloatBlock g = start_block(m, n, c, ldc);
  g.b_panel = whole ? s.columns : k * s.columns;
  g.b_row = whole ? ldb : s.columns;
  const Index depth = block_depth(k);
  for (Index p = 0; p < k; p += depth) {
    point_at_a(g, ta == Trans::yes, ta == Trans::yes ? a + p * lda : a + p, lda);
    g.k = std::min(depth, k - p);
    g.b = packed + p * g.b_row;
    g.accumulate = accumulate || p > 0;
    multiply_block(g);
  }
}

/// Rows of a block of A that is to stay in the second-level cache: whole panels.
Index block_rows() {
  return 192 / gemm_shape().rows * gemm_shape().rows;
}

/// The operands of a product cut into register panels, block of depth by block of depth.
struct Operand {
  enum Way { in_place, packed, to_pack };  // to_pack: each task packs what it needs

  const float* data;  // as it came, or packed whole
  Index ld;
  bool transposed;  // of the data as it came: depth runs along rows for A, along columns for B
  Index extent;     // rows of A, columns of B
  Way way;
};

/// Lets the block read its part of A, from (row, p): m rows, g.k steps. What is not packed yet is packed here, into
/// memory of this thread.
void take_a(FloatBlock& g, const Operand& a, Index depth, Index row, Index p) {
  const GemmShape& s = gemm_shape();
  const float* from = a.transposed ? a.data + p * a.ld + row : a.data + row * a.ld + p;
  if (a.way == Operand::in_place) return point_at_a(g, a.transposed, from, a.ld);
  g.panel = s.rows * g.k;
  g.row_stride = 1;
  g.column_stride = s.rows;
  if (a.way == Operand::packed) {
    g.a = a.data + p * round_up(a.extent, s.rows) + row * g.k;
  } else {
    float* memory = scratch<float, BlockA>(round_up(g.m, s.rows) * depth);
    pack_a(from, a.ld, a.transposed, g.k, g.m, memory);
    g.a = memory;
  }
}

/// The same of B, from (p, column).
void take_b(FloatBlock& g, const Operand& b, Index depth, Index p, Index column) {
  const GemmShape& s = gemm_shape();
  const float* from = b.transposed ? b.data + column * b.ld + p : b.data + p * b.ld + column;
  g.b = b.way == Operand::packed ? b.data + p * round_up(b.extent, s.columns) + column * g.k : from;
  g.b_panel = b.way == Operand::in_place ? s.columns : s.columns * g.k;
  g.b_row = b.way == Operand::in_place ? b.ld : s.columns;
  if (b.way != Operand::to_pack) return;
  float* memory = scratch<float, BlockB>(round_up(g.n, s.columns) * depth);
  pack_b(from, b.ld, b.transposed, g.k, g.n, memory);
  g.b = memory;
}

/// What take_b will have to pack next, of `steps` steps and `columns` columns.
Coming coming_b(const Operand& b, Index p, Index steps, Index column, Index columns) {
  if (b.transposed) return {b.data + column * b.ld + p, columns, ceil_div(steps, kLine), b.ld};
  return {b.data + p * b.ld + column, steps, ceil_div(columns, kLine), b.ld};
}

/// Rows [row, row + m) of C against columns [column, column + n), all at panel borders, over the whole depth. Of a B
/// that is packed here about 128 columns at a time: they, as much that is coming after them and a block of A are about
/// 1 MB, to stay in the second-level cache. (A is then not packed here.)
void multiply_tile(const Operand& a, const Operand& b, Index k, Index depth, Index row, Index m, Index column, Index n,
                   float* c, Index ldc, const Extras<float>& extras) {
  const Index panels = ceil_div(n, gemm_shape().columns), times = std::max<Index>(1, n / 128);
  const Index step = b.way == Operand::to_pack ? ceil_div(panels, times) * gemm_shape().columns : n, end = column + n;
  for (Index j = column; j < end; j += step)
    for (Index p = 0; p < k; p += depth) {
      FloatBlock g = start_block(m, std::min(step, end - j), c + row * ldc + j, ldc);
      const bool last = p + depth >= k;
      g.k = std::min(depth, k - p);
      take_a(g, a, depth, row, p);
      take_b(g, b, depth, p, j);
      const Index next_p = last ? 0 : p + depth, next_j = last ? j + step : j;
      if (b.way == Operand::to_pack && next_j < end)
        g.coming = coming_b(b, next_p, std::min(depth, k - next_p), next_j, std::min(step, end - next_j));
      g.accumulate = extras.accumulate || p > 0;
      if (last) {
        g.bias = extras.bias ? extras.bias + j : nullptr;
        g.residual = extras.residual ? extras.residual + row * extras.ld_residual + j : nullptr;
        g.ld_residual = extras.ld_residual;
      }
      // A block of A stays in the second-level cache while the panels of B go by.
      const Index most = block_rows();
      for (Index i = 0; i < m; i += most) {
        FloatBlock part = g;
        part.m = std::min(most, m - i);
        part.a += i / gemm_shape().rows * g.panel;
        part.c += i * ldc;
        if (part.residual) part.residual += i * part.ld_residual;
        multiply_block(part);
      }
    }
}

/// How many pieces of at most `most` units make up `units`, when there should be at least `wanted`.
Index pieces(Index units, Index most, Index wanted) {
  return std::clamp<Index>(wanted, ceil_div(units, most), std::max<Index>(1, units));
}

/// Tasks are at most one block of rows by 1,024 columns (C too stays in the second-level cache), but many rows where
/// each packs its part of B. There are enough of them to share evenly, if each is worth its hand-over.
void multiply(const Operand& a, const Operand& b, Index k, Index depth, Index n, float* c, Index ldc,
              const Extras<float>& extras) {
  const GemmShape& s = gemm_shape();
  const Index m = a.extent;
  const Index row_panels = ceil_div(m, s.rows), panels = ceil_div(n, s.columns);
  const Index worth = alone() ? 1 : std::clamp<Index>(m * n * k / (Index{1} << 20), 1, 3 * num_threads());
  Index row_tasks, column_tasks;
  if (b.way != Operand::to_pack) {
    row_tasks = pieces(row_panels, block_rows() / s.rows, std::min<Index>(worth, ceil_div(m, 48)));
    column_tasks = pieces(panels, 1024 / s.columns, ceil_div(worth, row_tasks));
  } else {
    column_tasks = pieces(panels, 1024 / s.columns, std::min<Index>(worth, ceil_div(n, 64)));
    row_tasks = pieces(row_panels, 1024 / s.rows, ceil_div(worth, column_tasks));
  }
  const Index rows = ceil_div(row_panels, row_tasks) * s.rows, columns = ceil_div(panels, column_tasks) * s.columns;
  parallel_for(row_tasks * column_tasks, [&](Index task) {
    const Index row = task % row_tasks * rows, column = task / row_tasks * columns;
    if (row >= m || column >= n) return;
    multiply_tile(a, b, k, depth, row, std::min(rows, m - row), column, std::min(columns, n - column), c, ldc, extras);
  });
}

/// Packs [begin, end) of the operand's extent, as multiply_tile expects it in the whole; begin at a panel's border.
void pack_some(const Operand& x, Index k, Index depth, bool is_a, Index begin, Index end, float* memory) {
  const Index width = is_a ? gemm_shape().rows : gemm_shape().columns;
  for (Index p = 0; p < k; p += depth) {
    const Index kk = std::min(depth, k - p);
    const bool down = is_a == x.transposed;  // depth runs down the rows of what is stored
    const float* from = down ? x.data + p * x.ld + begin : x.data + begin * x.ld + p;
    (is_a ? pack_a : pack_b)(from, x.ld, x.transposed, kk, end - begin,
                             memory + p * round_up(x.extent, width) + begin * kk);
  }
}

void pack_operand(const Operand& x, Index k, Index depth, bool is_a, float* memory) {
  const Index width = is_a ? gemm_shape().rows : gemm_shape().columns;
  const Index step = std::max<Index>(1, 16384 / (k * width)) * width;  // some tens of kilobytes
  parallel_blocks(x.extent, step, [&](Index begin, Index end) { pack_some(x, k, depth, is_a, begin, end, memory); });
}

void parallel_product(Trans ta, Trans tb, Index m, Index n, Index k, const float* a, Index lda, const float* b,
                      Index ldb, float* c, Index ldc, const Extras<float>& extras) {
  const GemmShape& s = gemm_shape();
  // Of what is not read where it lies, the smaller operand is packed first and shared; each part of the larger one is
  // packed by the task that needs it. In slices of the depth, so that what is shared stays within 8 MB (or one block of
  // depth). Rows of A are packed, too, where very many tasks read them.
  const bool share_a = m < n;
  const Index extent = share_a ? round_up(m, s.rows) : round_up(n, s.columns), depth = block_depth(k);
  Operand x{a, lda, ta == Trans::yes, m,
            a_in_place(ta == Trans::yes, n, depth, lda) ? Operand::in_place : Operand::to_pack};
  Operand y{b, ldb, tb == Trans::yes, n,
            b_in_place(tb == Trans::yes, n, k, ldb) ? Operand::in_place : Operand::to_pack};
  Operand& small = share_a ? x : y;
  const bool share = y.way == Operand::to_pack && (small.way == Operand::to_pack || (!x.transposed && n > 4 * m));
  const Index slice = share ? std::min(k, std::max<Index>(1, (Index{2} << 20) / (extent * depth)) * depth) : k;
  float* shared = share ? scratch<float, Shared>(extent * slice) : nullptr;
  for (Index p = 0; p < k; p += slice) {
    const Index kk = std::min(slice, k - p);
    x.data = x.transposed ? a + p * lda : a + p;
    y.data = y.transposed ? b + p : b + p * ldb;
    if (share) {
      pack_operand(small, kk, depth, share_a, shared);
      small.data = shared;
      small.way = Operand::packed;
    }
    Extras<float> here;
    if (p + slice >= k) here = extras;
    here.accumulate = extras.accumulate || p > 0;
    multiply(x, y, kk, depth, n, c, ldc, here);
  }
}

/// One row against a weight stored (n, k), as in generation: bound by reading the weight, which is read once, as it
/// lies.
void row_product(bool serial, Index n, Index k, const float* a, const float* b, Index ldb, float* c,
                 const Extras<float>& extras) {
  const Index depth = block_depth(k), step = serial ? n : std::max<Index>(1, 4096 / k) * 16;
  parallel_blocks(n, step, [&](Index begin, Index end) {
    struct Products;
    float* sums = scratch<float, Products>(end - begin);
    for (Index p = 0; p < k; p += depth) {
      multiply_row(a + p, b + begin * ldb + p, ldb, end - begin, std::min(depth, k - p), sums);
      for (Index j = begin; j < end; ++j) c[j] = extras.accumulate || p > 0 ? c[j] + sums[j - begin] : sums[j - begin];
    }
    if (extras.bias)
      for (Index j = begin; j < end; ++j) c[j] = extras.bias[j] + c[j];
    if (extras.residual)
      for (Index j = begin; j < end; ++j) c[j] = extras.residual[j] + c[j];
  });
}

void product(bool serial, Trans ta, Trans tb, Index m, Index n, Index k, const float* a, Index lda, const float* b,
             Index ldb, float* c, Index ldc, const Extras<float>& extras) {
  if (m == 1 && tb == Trans::yes && (ta == Trans::no || lda == 1))
    row_product(serial, n, k, a, b, ldb, c, extras);
  else if (serial && !extras.bias && !extras.residual)
    serial_product(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, extras.accumulate);
  else
    parallel_product(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, extras);
}

void product(bool serial, Trans ta, Trans tb, Index m, Index n, Index k, const double* a, Index lda, const double* b,
             Index ldb, double* c, Index ldc, const Extras<double>& extras) {
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
    g.accumulate = extras.accumulate;
    multiply_block(g);
    if (!extras.bias && !extras.residual) return;
    Extras<double> rest = extras;
    rest.accumulate = true;
    if (rest.bias) rest.bias += column;
    if (rest.residual) rest.residual += row * rest.ld_residual + column;
    only_extras(g.m, g.n, g.c, ldc, rest);
  };
  if (serial)
    for (Index task = 0; task < row_blocks * column_blocks; ++task) block(task);
  else
    parallel_for(row_blocks * column_blocks, block);
}

template <class T>
void checked_product(bool serial, Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b,
                     Index ldb, T* c, Index ldc, const Extras<T>& extras) {
  if (m == 0 || n == 0) return;
  if (k == 0) return only_extras(m, n, c, ldc, extras);
  product(serial, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, extras);
}

}  // namespace

template <class T>
void gemm(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c, Index ldc,
          const Extras<T>& extras) {
  constexpr Index kSmall = 64 * 64 * 32;  // below this a second thread costs more than it brings
  checked_product(m * n * k <= kSmall, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, extras);
}

template <class T>
void gemm_serial(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c,
                 Index ldc, bool accumulate) {
  Extras<T> extras;
  extras.accumulate = accumulate;
  checked_product(true, ta, tb, m, n, k, a, lda, b, ldb, c, ldc, extras);
}

template <>
Index Panels<float>::size() const {
  return b_in_place(tb == Trans::yes, n, k, ldb) ? 0 : round_up(n, gemm_shape().columns) * k;
}
template <>
Index Panels<double>::size() const {
  return 0;
}
template <>
void Panels<float>::pack(Index begin, Index end) const {
  pack_some({b, ldb, tb == Trans::yes, n, Operand::to_pack}, k, block_depth(k), false, begin, end, memory);
}
template <>
void Panels<double>::pack(Index, Index) const {}

template <>
void gemm_panels(Trans ta, Index m, Index n, const float* a, Index lda, const Panels<float>& b, float* c, Index ldc,
                 const Extras<float>& extras) {
  if (m == 0 || n == 0) return;
  if (b.k == 0) return only_extras(m, n, c, ldc, extras);
  const Index depth = block_depth(b.k);
  const auto a_way = a_in_place(ta == Trans::yes, n, depth, lda) ? Operand::in_place : Operand::to_pack;
  const auto b_way = b.size() > 0 ? Operand::packed : Operand::in_place;
  multiply({a, lda, ta == Trans::yes, m, a_way},
           {b_way == Operand::packed ? b.memory : b.b, b.ldb, b.tb == Trans::yes, b.n, b_way}, b.k, depth, n, c, ldc,
           extras);
}
template <>
void gemm_panels(Trans ta, Index m, Index n, const double* a, Index lda, const Panels<double>& b, double* c, Index ldc,
                 const Extras<double>& extras) {
  checked_product(false, ta, b.tb, m, n, b.k, a, lda, b.b, b.ldb, c, ldc, extras);
}

#define LOOPOS_INSTANTIATE(T)                                                                        \
  template void gemm(Trans, Trans, Index, Index, Index, const T*, Index, const T*, Index, T*, Index, \
                     const Extras<T>&);                                                              \
  template void gemm_serial(Trans, Trans, Index, Index, Index, const T*, Index, const T*, Index, T*, Index, bool);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos::kernels
