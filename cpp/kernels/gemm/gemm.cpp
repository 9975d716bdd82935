#include "kernels/gemm/gemm.h"

#include <type_traits>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/gemm/driver.h"
#include "kernels/pieces/driver.h"
#include "kernels/pieces/products.h"

namespace loopos::kernels {

namespace {

/// One row (k) times a weight (n, k), as in generation: reading the weight bounds it, so it is read once and in place.
void row_product(bool serial, const float* row, const Matrix<float>& weight, float* c,
                 const Epilogue<float>& epilogue) {
  const Index n = weight.rows, k = weight.columns;
  const Index step = serial ? n : std::max<Index>(1, 4096 / k) * 16;
  parallel_blocks(n, step, [&](Index begin, Index end) {
    multiply_row(row, block(weight, begin, 0, end - begin, k), block_depth(k), epilogue.accumulate, c + begin);
    if (epilogue.bias)
      for (Index j = begin; j < end; ++j) c[j] = epilogue.bias[j] + c[j];
    if (epilogue.residual)
      for (Index j = begin; j < end; ++j) c[j] = epilogue.residual[j] + c[j];
  });
}

/// A few rows times a weight that is stored in panels, read in place. A task takes some panels: as many as there are
/// chains of sums to keep the arithmetic busy, in tasks that two threads share evenly.
constexpr Index kFewRows = 8;
template <Storage kind>
void rows_product(bool serial, const Matrix<float>& x, const Matrix<Panels<kind>>& weight, const Output<float>& c,
                  const Epilogue<float>& epilogue) {
  const Index n = weight.rows, panels = ceil_div(n, kPanelRows);
  Index most = 4;
  while (most > 1 && panels < 64 && ceil_div(panels, most) % 2) --most;
  parallel_blocks(n, serial ? n : most * kPanelRows, [&](Index begin, Index end) {
    multiply_rows<kind>({x.data, x.rows, x.stride, block_depth(x.columns),
                         block(weight, begin, 0, end - begin, x.columns), part(c, 0, begin), part(epilogue, 0, begin)});
  });
}

template <class B>
struct IsPanels : std::false_type {};
template <Storage kind>
struct IsPanels<Panels<kind>> : std::true_type {};

template <class A, class B>
void product(bool serial, const Matrix<A>& a, const Matrix<B>& b, const Output<float>& c,
             const Epilogue<float>& epilogue, Precision precision) {
  if (a.rows >= fewest_piece_rows(precision))
    if (const int pieces = pieces_of(precision, a.columns, b.columns))
      return piece_product(serial, a, b, c, epilogue, pieces);
  if constexpr (std::is_same_v<A, float> && std::is_same_v<B, float>) {
    if (a.rows == 1 && b.transposed && (!a.transposed || a.stride == 1))
      return row_product(serial, a.data, transpose(b), c.data, epilogue);
    if (serial && !epilogue.bias && !epilogue.residual) return serial_product(a, b, c, epilogue.accumulate);
  }
  if constexpr (IsPanels<B>::value)
    if (a.rows <= kFewRows && !a.transposed && b.transposed) return rows_product(serial, a, transpose(b), c, epilogue);
  parallel_product(a, b, c, epilogue);
}

void product(bool serial, const Matrix<double>& a, const Matrix<double>& b, const Output<double>& c,
             const Epilogue<double>& epilogue, Precision) {
  constexpr Index kRows = 64, kColumns = 256;
  const Index k = a.columns, row_blocks = ceil_div(a.rows, kRows), column_blocks = ceil_div(b.columns, kColumns);
  const auto one = [&](Index task) {
    const Index row = task % row_blocks * kRows, column = task / row_blocks * kColumns;
    const Index rows = std::min(kRows, a.rows - row), columns = std::min(kColumns, b.columns - column);
    const Output<double> out = part(c, row, column);
    multiply_block({block(a, row, 0, rows, k), block(b, 0, column, k, columns), out, epilogue.accumulate});
    if (!epilogue.bias && !epilogue.residual) return;
    Epilogue<double> rest = part(epilogue, row, column);
    rest.accumulate = true;
    epilogue_only(rows, columns, out, rest);
  };
  if (serial)
    for (Index task = 0; task < row_blocks * column_blocks; ++task) one(task);
  else
    parallel_for(row_blocks * column_blocks, one);
}

template <class A, class B>
void checked_product(bool serial, const Matrix<A>& a, const Matrix<B>& b, const Output<Compute<A>>& c,
                     const Epilogue<Compute<A>>& epilogue, Precision precision = Precision::float32) {
  require_inner(a, b);
  if (a.rows == 0 || b.columns == 0) return;
  if (a.columns == 0) return epilogue_only(a.rows, b.columns, c, epilogue);
  product(serial, a, b, c, epilogue, precision);
}

}  // namespace

bool same_when_packed(Precision precision, Index rows, Index k, Index n) {
  return rows >= fewest_piece_rows(precision) || pieces_of(precision, k, n) == 0;
}

template <class A, class B>
void gemm(const Matrix<A>& a, const Matrix<B>& b, const Output<Compute<A>>& c, const Epilogue<Compute<A>>& epilogue,
          Precision precision) {
  constexpr Index kSmall = 64 * 64 * 32;  // below this a second thread costs more than it brings
  checked_product(a.rows * b.columns * a.columns <= kSmall, a, b, c, epilogue, precision);
}

template <class A, class B>
void gemm_serial(const Matrix<A>& a, const Matrix<B>& b, const Output<Compute<A>>& c,
                 const Epilogue<Compute<A>>& epilogue, Precision precision) {
  checked_product(true, a, b, c, epilogue, precision);
}

template <>
Index PackedMatrix<double>::size() const {
  return 0;
}
template <>
void PackedMatrix<double>::pack(Index, Index) const {}

template <>
void gemm_packed(const Matrix<double>& a, const PackedMatrix<double>& b, Index n, const Output<double>& c,
                 const Epilogue<double>& epilogue) {
  checked_product(false, a, block(b.source, 0, 0, b.source.rows, n), c, epilogue);
}

// One line for each pair of stored types.
#define LOOPOS_INSTANTIATE(A, B)                                                                                 \
  template void gemm(const Matrix<A>&, const Matrix<B>&, const Output<Compute<A>>&, const Epilogue<Compute<A>>&, \
                     Precision);                                                                                 \
  template void gemm_serial(const Matrix<A>&, const Matrix<B>&, const Output<Compute<A>>&,                       \
                            const Epilogue<Compute<A>>&, Precision);
LOOPOS_INSTANTIATE(float, float)
LOOPOS_INSTANTIATE(float, Panels<Storage::bfloat16>)
LOOPOS_INSTANTIATE(float, Panels<Storage::int8>)
LOOPOS_INSTANTIATE(float, Panels<Storage::nf4>)
LOOPOS_INSTANTIATE(float, Panels<Storage::int4>)
LOOPOS_INSTANTIATE(double, double)

}  // namespace loopos::kernels
