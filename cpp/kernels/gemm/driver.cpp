#include "kernels/gemm/driver.h"

#include <type_traits>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/pieces/driver.h"
#include "kernels/pieces/products.h"

namespace loopos::kernels {

namespace {

struct SerialB;
struct BlockA;
struct BlockB;
struct Shared;

/// Whether B (k, n) is read in place: its vectors are whole, and the second-level cache holds all of it (256 KB).
template <class Stored>
bool b_in_place(const Matrix<Stored>& b) {
  if constexpr (std::is_same_v<Stored, float>)
    return !b.transposed && b.columns % gemm_shape().lanes == 0 && b.rows * b.stride <= Index{1} << 16;
  else
    return false;
}

/// Whether A is read in place: always as stored rows. Of a transposed A a tile takes a small piece at each step: it is
/// read in place if the cache holds it (1 MB) and B (n columns) has few panels.
template <class Stored>
bool a_in_place(const Matrix<Stored>& a, Index n, Index depth) {
  return std::is_same_v<Stored, float> &&
         (!a.transposed || (depth * a.stride <= Index{1} << 18 && n <= 2 * gemm_shape().columns));
}

/// Lets the block read its part of A in place.
void point_at_a(FloatBlock& g, const Matrix<float>& a) {
  g.a = a.data;
  g.a_panel = a.transposed ? gemm_shape().rows : gemm_shape().rows * a.stride;
  g.column_stride = a.transposed ? a.stride : 1;
  g.row_stride = a.transposed ? 1 : a.stride;
}

/// Rows of a block of A that stays in the second-level cache: whole panels.
Index block_rows() {
  return 192 / gemm_shape().rows * gemm_shape().rows;
}

/// An operand of a product that is cut into register panels, block of depth by block of depth. Only packing and reading
/// in place know how its numbers are stored.
enum class Way { in_place, packed, to_pack };  // to_pack: each task packs what it needs
template <class Stored>
struct Operand {
  Matrix<Stored> source;
  Way way;
  const float* packed;  // all of it, where way is packed
};

/// Lets the block read its part of A, from (row, p): g.m rows, g.k steps. Packs it first, into memory of this thread,
/// where it is neither packed nor read in place.
template <class Stored>
void take_a(FloatBlock& g, const Operand<Stored>& a, Index depth, Index row, Index p) {
  const GemmShape& s = gemm_shape();
  const auto from = block(a.source, row, p, g.m, g.k);
  if constexpr (std::is_same_v<Stored, float>)
    if (a.way == Way::in_place) return point_at_a(g, from);
  g.a_panel = s.rows * g.k;
  g.row_stride = 1;
  g.column_stride = s.rows;
  if (a.way == Way::packed) {
    g.a = a.packed + p * round_up(a.source.rows, s.rows) + row * g.k;
  } else {
    float* memory = scratch<float, BlockA>(round_up(g.m, s.rows) * depth);
    pack_a(from, memory);
    g.a = memory;
  }
}

/// The same of B, from (p, column).
template <class Stored>
void take_b(FloatBlock& g, const Operand<Stored>& b, Index depth, Index p, Index column) {
  const GemmShape& s = gemm_shape();
  const auto from = block(b.source, p, column, g.k, g.n);
  g.b_panel = s.columns * g.k;
  g.b_row = s.columns;
  if constexpr (std::is_same_v<Stored, float>)
    if (b.way == Way::in_place) {
      g.b = from.data;
      g.b_panel = s.columns;
      g.b_row = from.stride;
      return;
    }
  if (b.way == Way::packed) {
    g.b = b.packed + p * round_up(b.source.columns, s.columns) + column * g.k;
  } else {
    float* memory = scratch<float, BlockB>(round_up(g.n, s.columns) * depth);
    pack_b(from, memory);
    g.b = memory;
  }
}

/// Prefetches a part of B that take_b packs next. Other stored types are smaller: their packing waits less.
template <class Stored>
Prefetch prefetch_of(const Matrix<Stored>& b) {
  if constexpr (!std::is_same_v<Stored, float>)
    return {};
  else if (b.transposed)
    return {b.data, b.columns, ceil_div(b.rows, kLine), b.stride};
  else
    return {b.data, b.rows, ceil_div(b.columns, kLine), b.stride};
}

/// Computes rows [row, row + m) and columns [column, column + n) of C, all at panel borders, over the whole depth.
/// Where the task packs B itself, it takes about 128 columns at a time: they, as much again that is prefetched and a
/// block of A are about 1 MB and stay in the second-level cache. (The task then does not pack A.)
template <class A, class B>
void multiply_tile(const Operand<A>& a, const Operand<B>& b, Index depth, Index row, Index m, Index column, Index n,
                   const Output<float>& c, const Epilogue<float>& epilogue) {
  const Index panels = ceil_div(n, gemm_shape().columns), times = std::max<Index>(1, n / 128);
  const Index step = b.way == Way::to_pack ? ceil_div(panels, times) * gemm_shape().columns : n;
  const Index k = a.source.columns, end = column + n;
  for (Index j = column; j < end; j += step)
    for (Index p = 0; p < k; p += depth) {
      FloatBlock g{};
      const bool last = p + depth >= k;
      g.m = m;
      g.n = std::min(step, end - j);
      g.k = std::min(depth, k - p);
      g.c = part(c, row, j);
      take_a(g, a, depth, row, p);
      take_b(g, b, depth, p, j);
      const Index next_p = last ? 0 : p + depth, next_j = last ? j + step : j;
      if (b.way == Way::to_pack && next_j < end)
        g.prefetch =
            prefetch_of(block(b.source, next_p, next_j, std::min(depth, k - next_p), std::min(step, end - next_j)));
      if (last) g.epilogue = part(epilogue, row, j);
      g.epilogue.accumulate = epilogue.accumulate || p > 0;
      // A block of A stays in the second-level cache while the panels of B go by.
      const Index most = block_rows();
      for (Index i = 0; i < m; i += most) {
        FloatBlock rows = g;
        rows.m = std::min(most, m - i);
        rows.a += i / gemm_shape().rows * g.a_panel;
        rows.c = part(g.c, i, 0);
        rows.epilogue = part(g.epilogue, i, 0);
        multiply_block(rows);
      }
    }
}

/// How many pieces of at most `most` units make up `units`, when there should be at least `wanted`.
Index pieces(Index units, Index most, Index wanted) {
  return std::clamp<Index>(wanted, ceil_div(units, most), std::max<Index>(1, units));
}

/// How many tasks a product of so many multiply-adds is worth: each thread some of 20 microseconds, or at least one of
/// a few.
Index tasks_worth(Index size) {
  if (alone()) return 1;
  const Index threads = num_threads(), least = std::clamp<Index>(size >> 18, 1, threads);
  const Index wanted = std::clamp<Index>(size >> 20, least, 3 * threads);
  return wanted < threads ? wanted : wanted / threads * threads;
}

/// Calls body(row, rows, column, columns), in panels, for tasks that each pack their part of B: strips of columns over
/// all rows, or 1,024 of them. All threads get as many strips, as wide: where strips were equal but odd in number, a
/// thread would wait for the last. Panels that are left over are cut by rows, one piece for each thread, unless they are
/// enough to keep most threads busy.
template <class Body>
void each_strip(Index row_panels, Index panels, Index worth, Body&& body) {
  const GemmShape& s = gemm_shape();
  const Index threads = std::min<Index>(worth, num_threads()), lanes = std::min(threads, panels);
  const Index share = panels / lanes, left = panels % lanes, times = pieces(share, 1024 / s.columns, worth / lanes);
  const Index row_tasks = pieces(row_panels, 1024 / s.rows, panels < threads ? ceil_div(worth, panels) : 1);
  const Index rows = ceil_div(row_panels, row_tasks), strips = lanes * times * row_tasks;
  const bool by_rows = 2 * left <= lanes;
  const Index left_rows = by_rows ? ceil_div(row_panels, lanes * row_tasks) : rows;
  const auto task = [&](Index row, Index most, Index column, Index columns) {
    if (row < row_panels) body(row, std::min(most, row_panels - row), column, columns);
  };
  parallel_for(strips + left * row_tasks * (by_rows ? lanes : 1), [&](Index number) {
    if (number < strips) {
      const Index row = number % row_tasks, lane = number / row_tasks % lanes, time = number / row_tasks / lanes;
      const Index begin = time * (share / times) + std::min(time, share % times);  // wider strips come first
      const Index width = share / times + (time < share % times);
      return task(row * rows, rows, lanes * begin + lane * width, width);
    }
    number -= strips;
    if (by_rows)
      task(number / left * left_rows, left_rows, panels - 1 - number % left, 1);
    else
      task(number % row_tasks * rows, rows, panels - 1 - number / row_tasks, 1);
  });
}

/// Computes the first n columns of the product. A task is at most one block of rows by 1,024 columns, so that C too
/// stays in the second-level cache; where each task packs its part of B it has many rows. There are enough tasks to
/// share evenly, as long as each is worth its hand-over.
template <class A, class B>
void multiply(const Operand<A>& a, const Operand<B>& b, Index depth, Index n, const Output<float>& c,
              const Epilogue<float>& epilogue) {
  const GemmShape& s = gemm_shape();
  const Index m = a.source.rows, k = a.source.columns;
  const Index row_panels = ceil_div(m, s.rows), panels = ceil_div(n, s.columns);
  const Index worth = tasks_worth(m * n * k);
  const auto tile = [&](Index row, Index rows, Index column, Index columns) {  // in panels
    row *= s.rows;
    column *= s.columns;
    multiply_tile(a, b, depth, row, std::min(rows * s.rows, m - row), column, std::min(columns * s.columns, n - column),
                  c, epilogue);
  };
  if (b.way == Way::to_pack) return each_strip(row_panels, panels, worth, tile);
  const Index row_tasks = pieces(row_panels, block_rows() / s.rows, std::min<Index>(worth, ceil_div(m, 48)));
  const Index column_tasks = pieces(panels, 1024 / s.columns, ceil_div(worth, row_tasks));
  parallel_for(row_tasks * column_tasks, [&](Index task) {
    const Index i = task % row_tasks, j = task / row_tasks;
    const Index row = row_panels * i / row_tasks, column = panels * j / column_tasks;
    tile(row, row_panels * (i + 1) / row_tasks - row, column, panels * (j + 1) / column_tasks - column);
  });
}

/// Packs columns [begin, end) of B (k, n) to where they belong in the packed B; begin is at a panel's border.
template <class Stored>
void pack_columns(const Matrix<Stored>& b, Index depth, Index begin, Index end, float* memory) {
  const Index n = round_up(b.columns, gemm_shape().columns);
  for (Index p = 0; p < b.rows; p += depth) {
    const Index steps = std::min(depth, b.rows - p);
    pack_b(block(b, p, begin, steps, end - begin), memory + p * n + begin * steps);
  }
}

/// Packs rows [begin, end) of A (m, k), likewise.
template <class Stored>
void pack_rows(const Matrix<Stored>& a, Index depth, Index begin, Index end, float* memory) {
  const Index m = round_up(a.rows, gemm_shape().rows);
  for (Index p = 0; p < a.columns; p += depth) {
    const Index steps = std::min(depth, a.columns - p);
    pack_a(block(a, begin, p, end - begin, steps), memory + p * m + begin * steps);
  }
}

/// pack(begin, end) over [0, extent), on several threads, some tens of kilobytes at a time.
template <class Pack>
void pack_in_parallel(Index extent, Index width, Index k, Pack&& pack) {
  parallel_blocks(extent, std::max<Index>(1, 16384 / (k * width)) * width, pack);
}

}  // namespace

template <class A, class B>
void parallel_product(const Matrix<A>& a, const Matrix<B>& b, const Output<float>& c, const Epilogue<float>& epilogue) {
  const GemmShape& s = gemm_shape();
  const Index m = a.rows, n = b.columns, k = a.columns;
  // Of what is not read in place, the smaller operand is packed first and shared, and the task that needs a part of the
  // larger one packs that part. The shared operand is packed in slices of the depth: of 2 MB, or of 4,096 steps where
  // those are more, to stay within 8 MB (or one block of depth). Stored rows of A are packed, too, where very many tasks
  // read them.
  const bool share_a = m < n;
  const Index extent = share_a ? round_up(m, s.rows) : round_up(n, s.columns), depth = block_depth(k);
  Operand<A> x{a, a_in_place(a, n, depth) ? Way::in_place : Way::to_pack, nullptr};
  Operand<B> y{b, b_in_place(b) ? Way::in_place : Way::to_pack, nullptr};
  const Way small = share_a ? x.way : y.way;
  const bool share = y.way == Way::to_pack && (small == Way::to_pack || (!a.transposed && n > 4 * m));
  const Index most = std::clamp<Index>(4096 * extent, Index{1} << 19, Index{1} << 21);
  const Index slice = share ? std::min(k, std::max<Index>(1, most / (extent * depth)) * depth) : k;
  float* shared = share ? scratch<float, Shared>(extent * slice) : nullptr;
  for (Index p = 0; p < k; p += slice) {
    const Index steps = std::min(slice, k - p);
    x.source = block(a, 0, p, m, steps);
    y.source = block(b, p, 0, steps, n);
    if (share && share_a) {
      pack_in_parallel(m, s.rows, steps,
                       [&](Index begin, Index end) { pack_rows(x.source, depth, begin, end, shared); });
      x.packed = shared;
      x.way = Way::packed;
    } else if (share) {
      pack_in_parallel(n, s.columns, steps,
                       [&](Index begin, Index end) { pack_columns(y.source, depth, begin, end, shared); });
      y.packed = shared;
      y.way = Way::packed;
    }
    Epilogue<float> here;
    if (p + slice >= k) here = epilogue;
    here.accumulate = epilogue.accumulate || p > 0;
    multiply(x, y, depth, n, c, here);
  }
}

/// A is read in place, and so is B when its vectors are whole.
void serial_product(const Matrix<float>& a, const Matrix<float>& b, const Output<float>& c, bool accumulate) {
  const GemmShape& s = gemm_shape();
  const Index m = a.rows, n = b.columns, k = a.columns;
  const bool whole = !b.transposed && n % s.lanes == 0;
  const float* packed = b.data;
  if (!whole) {
    float* memory = scratch<float, SerialB>(round_up(n, s.columns) * k);
    pack_b(b, memory);
    packed = memory;
  }
  FloatBlock g{};
  g.m = m;
  g.n = n;
  g.c = c;
  g.b_panel = whole ? s.columns : k * s.columns;
  g.b_row = whole ? b.stride : s.columns;
  const Index depth = block_depth(k);
  for (Index p = 0; p < k; p += depth) {
    g.k = std::min(depth, k - p);
    point_at_a(g, block(a, 0, p, m, g.k));
    g.b = packed + p * g.b_row;
    g.epilogue.accumulate = accumulate || p > 0;
    multiply_block(g);
  }
}

namespace {
/// How many bfloat16 pieces stand for a factor of a product with this matrix; 0: none.
template <class Stored>
int pieces_with(const PackedMatrix<Stored>& b) {
  return pieces_of(b.precision, b.source.rows, b.source.columns);
}
}  // namespace

template <class Stored>
Index PackedMatrix<Stored>::size() const {
  if (const int pieces = pieces_with(*this)) return packed_pieces_size(source.rows, source.columns, pieces);
  return b_in_place(source) ? 0 : round_up(source.columns, gemm_shape().columns) * source.rows;
}
template <class Stored>
void PackedMatrix<Stored>::pack(Index begin, Index end) const {
  if (const int pieces = pieces_with(*this)) return pack_pieces(source, begin, end, pieces, memory);
  pack_columns(source, block_depth(source.rows), begin, end, memory);
}
template <class A, class B>
void gemm_packed(const Matrix<A>& a, const PackedMatrix<B>& b, Index n, const Output<Compute<A>>& c,
                 const Epilogue<Compute<A>>& epilogue) {
  require_inner(a, b.source);
  if (a.rows == 0 || n == 0) return;
  if (a.columns == 0) return epilogue_only(a.rows, n, c, epilogue);
  if constexpr (std::is_same_v<A, float> && std::is_same_v<B, float>)
    if (const int pieces = pieces_with(b)) return packed_piece_product(a, b.source, b.memory, n, c, epilogue, pieces);
  const Index depth = block_depth(a.columns);
  const Operand<A> x{a, a_in_place(a, n, depth) ? Way::in_place : Way::to_pack, nullptr};
  const Operand<B> y{b.source, b.size() > 0 ? Way::packed : Way::in_place, b.memory};
  multiply(x, y, depth, n, c, epilogue);
}

// One line for each pair of stored types.
#define LOOPOS_INSTANTIATE(A, B)                                                                                    \
  template void parallel_product(const Matrix<A>&, const Matrix<B>&, const Output<float>&, const Epilogue<float>&); \
  template void gemm_packed(const Matrix<A>&, const PackedMatrix<B>&, Index, const Output<float>&,                  \
                            const Epilogue<float>&);
LOOPOS_INSTANTIATE(float, float)
LOOPOS_INSTANTIATE(float, Panels<Storage::bfloat16>)
LOOPOS_INSTANTIATE(float, Panels<Storage::int8>)
LOOPOS_INSTANTIATE(float, Panels<Storage::nf4>)
LOOPOS_INSTANTIATE(float, Panels<Storage::int4>)

template Index PackedMatrix<float>::size() const;
template void PackedMatrix<float>::pack(Index, Index) const;

}  // namespace loopos::kernels
