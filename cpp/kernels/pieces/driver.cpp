#include "kernels/pieces/driver.h"

#include <type_traits>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/pieces/products.h"

namespace loopos::kernels {

namespace {

struct Shared;
struct Own;
struct Wide;

/// Numbers of a step of a panel.
Index step_size(int pieces) {
  return 2 * pieces * kTile;
}
/// Pieces of B where A has so many: a bfloat16 number is one.
template <class B>
int pieces_of_b(int pieces) {
  return std::is_same_v<B, Panels<Storage::bfloat16>> ? 1 : pieces;
}
Index panels_of(Index units) {
  return ceil_div(units, kUnits);
}
Index steps_of(Index k) {
  return ceil_div(k, kTileDepth);
}

/// Depth of the slices that k is cut into: a function of k and the precision alone. The sums of a slice begin at zero.
Index slice_depth(Index k, int pieces) {
  const Index most = pieces == 1 ? 2048 : pieces == 2 ? 1024 : 768;
  return round_up(ceil_div(k, ceil_div(k, most)), kTileDepth);
}

Units units_of(const Matrix<float>& x, bool is_a) {
  return {x.data, x.stride, is_a ? x.rows : x.columns, is_a ? x.columns : x.rows, is_a != x.transposed};
}

/// Units [begin, end) of an operand into panels; begin at a panel.
void pack_operand(const Matrix<float>& x, bool is_a, Index begin, Index end, int pieces, Bf16* panels) {
  const auto part = is_a ? block(x, begin, 0, end - begin, x.columns) : block(x, 0, begin, x.rows, end - begin);
  piece_kernels().pack(units_of(part, is_a), is_a, pieces, panels);
}
/// A weight that is stored small is read as panels of floats first.
template <Storage kind>
void pack_operand(const Matrix<Panels<kind>>& x, bool, Index begin, Index end, int pieces, Bf16* panels) {
  const Index width = std::max(gemm_shape().columns, kUnits), k = x.rows;
  const Index panel = steps_of(k) * step_size(pieces);
  float* wide = scratch<float, Wide>(width * k);
  for (Index j = begin; j < end; j += width) {
    const Index columns = std::min(width, end - j), each = gemm_shape().columns;
    pack_b(block(x, 0, j, k, columns), wide);
    for (Index i = 0; i < columns; i += kUnits) {  // panels of floats may be narrower than those of pieces
      const Index units = std::min(kUnits, columns - i);
      if (each >= kUnits) {
        piece_kernels().pack({wide + i, each, units, k, false}, false, pieces, panels);
      } else {
        float* joined = scratch<float, Own>(kUnits * k);
        for (Index p = 0; p < k; ++p)
          for (Index u = 0; u < units; ++u)
            joined[p * kUnits + u] = wide[(i + u) / each * each * k + p * each + (i + u) % each];
        piece_kernels().pack({joined, kUnits, units, k, false}, false, pieces, panels);
      }
      panels += panel;
    }
  }
}

template <class A, class B>
struct Slice {
  Matrix<A> a;
  Matrix<B> b;

  static void multiply(const void* product, Index row, Index column, Index rows, Index columns, float* sums) {
    const auto& s = *static_cast<const Slice*>(product);
    const Index k = s.a.columns;
    static_assert(kUnits < fewest_piece_rows(Precision::float32));  // so it is one of multiply-adds
    gemm_serial(block(s.a, row, 0, rows, k), block(s.b, 0, column, k, columns), {sums, kUnits});
  }
};

/// What a product of pieces is cut by. One operand is packed by all threads and shared; the other by the tasks, each of
/// which takes some panels of it that stay in the second-level cache while those of the shared one go by.
struct Cut {
  bool share_a;
  Index panels, tasks;  // of the operand that is not shared

  Cut(Index m, Index n, Index depth, int a_pieces, int b_pieces, Index threads, bool b_is_packed) {
    constexpr Index kBytes = Index{1} << 20, kMostShared = Index{16} << 20;
    const Index steps = steps_of(depth), number = static_cast<Index>(sizeof(Bf16)),
                a_panel = steps * step_size(a_pieces) * number, b_panel = steps * step_size(b_pieces) * number;
    // To go along the rows of C is faster than down its columns, where the columns are enough for all threads.
    const bool along = n >= 384 * threads && panels_of(m) * a_panel <= kMostShared;
    share_a = !b_is_packed && (m <= n || along);
    panels = panels_of(share_a ? n : m);
    const Index most = std::clamp<Index>(kBytes / (share_a ? b_panel : a_panel), 1, a_pieces == 1 ? 16 : 12);
    tasks = ceil_div(panels, most);
    if (threads > 1) tasks = round_up(tasks, threads);
    tasks = std::min(tasks, panels);
  }
  Index begin(Index task) const { return panels * task / tasks; }
};

/// The block of C that a task computes: panels [first, last) of the operand that is its own, and all of the other.
template <class A, class B>
struct Product {
  Matrix<A> a;
  Matrix<B> b;
  Output<float> c;
  Epilogue<float> epilogue;
  int a_pieces, b_pieces;
  Cut cut;

  int own_pieces() const { return cut.share_a ? b_pieces : a_pieces; }
  int shared_pieces() const { return cut.share_a ? a_pieces : b_pieces; }
  Index m() const { return a.rows; }
  Index n() const { return b.columns; }

  /// One slice of k. shared: its panels, `stride` numbers apart.
  void run_task(Index task, const Slice<A, B>& slice, const Bf16* shared, Index stride,
                const Epilogue<float>& e) const {
    const Index steps = steps_of(slice.a.columns), own_panel = steps * step_size(own_pieces());
    const Index first = cut.begin(task) * kUnits,
                last = std::min(cut.begin(task + 1) * kUnits, cut.share_a ? n() : m());
    Bf16* own = scratch<Bf16, Own>(panels_of(last - first) * own_panel);
    PieceBlock g{};
    g.steps = steps;
    g.a_pieces = a_pieces;
    g.b_pieces = b_pieces;
    g.again = Slice<A, B>::multiply;
    Slice<A, B> here = slice;
    if (cut.share_a) {
      pack_operand(slice.b, false, first, last, b_pieces, own);
      here.b = block(slice.b, 0, first, slice.b.rows, last - first);
      g.c = part(c, 0, first);
      g.epilogue = part(e, 0, first);
    } else {
      pack_operand(slice.a, true, first, last, a_pieces, own);
      here.a = block(slice.a, first, 0, last - first, slice.a.columns);
      g.c = part(c, first, 0);
      g.epilogue = part(e, first, 0);
    }
    g.m = here.a.rows;
    g.n = here.b.columns;
    g.a = cut.share_a ? shared : own;
    g.b = cut.share_a ? own : shared;
    g.a_panel = cut.share_a ? stride : own_panel;
    g.b_panel = cut.share_a ? own_panel : stride;
    g.down = !cut.share_a;
    g.product = &here;
    piece_kernels().multiply(g);
  }

  /// packed: B, packed beforehand over all of k, or null.
  void run(Index threads, const Bf16* packed) const {
    const Index k = a.columns, depth = slice_depth(k, a_pieces), size = step_size(shared_pieces());
    const Index extent = cut.share_a ? m() : n(), count = panels_of(extent);
    Bf16* memory = packed ? nullptr : scratch<Bf16, Shared>(count * steps_of(depth) * size);
    for (Index p = 0; p < k; p += depth) {
      const Index deep = std::min(depth, k - p), panel = steps_of(deep) * size;
      const Slice<A, B> slice{block(a, 0, p, m(), deep), block(b, p, 0, deep, n())};
      const auto pack = [&](Index begin, Index end) {  // panels
        const Index from = begin * kUnits, to = std::min(end * kUnits, extent);
        if (cut.share_a)
          pack_operand(slice.a, true, from, to, a_pieces, memory + begin * panel);
        else
          pack_operand(slice.b, false, from, to, b_pieces, memory + begin * panel);
      };
      Epilogue<float> e;
      if (p + deep >= k) e = epilogue;
      e.accumulate = epilogue.accumulate || p > 0;
      const Bf16* shared = packed ? packed + p / kTileDepth * size : memory;
      const Index stride = packed ? steps_of(k) * size : panel;
      const auto task = [&](Index number) { run_task(number, slice, shared, stride, e); };
      if (threads == 1) {
        if (!packed) pack(0, count);
        for (Index number = 0; number < cut.tasks; ++number) task(number);
      } else {
        const Index grain = std::max<Index>(2, 32768 / (kUnits * deep) * 2);  // panels: some tens of microseconds
        if (!packed) parallel_blocks(count, grain, pack);
        parallel_for(cut.tasks, task);
      }
    }
  }
};

template <class A, class B>
void run_product(bool serial, const Matrix<A>& a, const Matrix<B>& b, const Bf16* packed, const Output<float>& c,
                 const Epilogue<float>& epilogue, int pieces) {
  const Index threads = serial || alone() ? 1 : num_threads();
  const int of_b = pieces_of_b<B>(pieces);
  const Cut cut(a.rows, b.columns, slice_depth(a.columns, pieces), pieces, of_b, threads, packed != nullptr);
  Product<A, B>{a, b, c, epilogue, pieces, of_b, cut}.run(threads, packed);
}

}  // namespace

template <class A, class B>
void piece_product(bool serial, const Matrix<A>& a, const Matrix<B>& b, const Output<float>& c,
                   const Epilogue<float>& epilogue, int pieces) {
  run_product(serial, a, b, nullptr, c, epilogue, pieces);
}

Index packed_pieces_size(Index k, Index n, int pieces) {
  return panels_of(n) * steps_of(k) * step_size(pieces) / 2;
}

template <class B>
void pack_pieces(const Matrix<B>& b, Index begin, Index end, int pieces, float* memory) {
  const Index panel = steps_of(b.rows) * step_size(pieces);
  pack_operand(b, false, begin, end, pieces, reinterpret_cast<Bf16*>(memory) + begin / kUnits * panel);
}

template <class A, class B>
void packed_piece_product(const Matrix<A>& a, const Matrix<B>& b, const float* memory, Index n, const Output<float>& c,
                          const Epilogue<float>& epilogue, int pieces) {
  run_product(false, a, block(b, 0, 0, b.rows, n), reinterpret_cast<const Bf16*>(memory), c, epilogue, pieces);
}

// One line for each pair of stored types.
#define LOOPOS_INSTANTIATE(A, B)                                                                                      \
  template void piece_product(bool, const Matrix<A>&, const Matrix<B>&, const Output<float>&, const Epilogue<float>&, \
                              int);
LOOPOS_INSTANTIATE(float, float)
LOOPOS_INSTANTIATE(float, Panels<Storage::bfloat16>)
LOOPOS_INSTANTIATE(float, Panels<Storage::int8>)
LOOPOS_INSTANTIATE(float, Panels<Storage::nf4>)
LOOPOS_INSTANTIATE(float, Panels<Storage::int4>)
template void pack_pieces(const Matrix<float>&, Index, Index, int, float*);
template void packed_piece_product(const Matrix<float>&, const Matrix<float>&, const float*, Index,
                                   const Output<float>&, const Epilogue<float>&, int);

}  // namespace loopos::kernels
