#include "ops/stored_linear.h"

#include <cstring>

#include "core/memory.h"
#include "core/parameter.h"
#include "kernels/gemm/stored.h"
#include "kernels/isa/table.h"

namespace loopos {

void allocate_stored(StoredWeight& w, std::optional<std::uint64_t> seed) {
  const Index bytes = kernels::stored_bytes(w.kind, w.out, w.in);
  require_memory(w.name, static_cast<double>(bytes));
  w.bytes = Buffer<unsigned char>(bytes);
  if (bytes) std::memset(w.bytes.data(), 0, static_cast<std::size_t>(bytes));
  if (!seed) return;
  const Index step = std::max<Index>(1, (Index{1} << 20) / (2 * w.in)) * 2;  // rows of a piece: an even number
  Buffer<float> piece(std::min(step, w.out) * w.in);
  for (Index first = 0; first < w.out; first += step) {
    const Index rows = std::min(step, w.out - first);
    draw_initial(*seed, w.number, 0, w.init_std, first * w.in, rows * w.in, piece.data());
    store_rows(w, piece.data(), first, rows);
  }
}

Index store_rows(StoredWeight& w, const float* from, Index first, Index rows) {
  const auto error = kernels::store_rows(w.kind, from, first, rows, w.in, w.bytes.data());
  if (first == 0) w.largest_error = w.error_squares = w.squares = 0;
  w.largest_error = std::max(w.largest_error, error.largest);
  w.error_squares += error.error_squares;
  w.squares += error.squares;
  return error.refused;
}

void load_stored(const StoredWeight& w, Index first, Index rows, float* to) {
  kernels::load_rows(w.kind, w.bytes.data(), first, rows, w.in, to);
}

void look_up_stored(const Index* ids, const StoredWeight& w, Index rows, double scale, float* y) {
  parallel_blocks(rows, row_grain(w.in, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      float* row = y + r * w.in;
      load_stored(w, ids[r], 1, row);
      if (scale != 1) kernels::table<float>().scale(row, w.in, static_cast<float>(scale), row);
    }
  });
}

void look_up_stored_operands(Operands& o, const Index* ids, const StoredWeight& w, double scale) {
  o.set("embedding_scale", scale);
  std::vector<float> row(static_cast<std::size_t>(w.in));
  load_stored(w, ids[o.row()], 1, row.data());
  o.set("id", ids[o.row()]);
  o.take("token", row.data() + o.column(), 1);
}

void stored_linear_forward(const float* x, const StoredWeight& w, const float* bias, Index rows, float* y,
                           const float* residual, Precision precision) {
  kernels::with_stored(w.kind, w.bytes.data(), w.out, w.in, [&](const auto& weight) {
    kernels::gemm(kernels::matrix(x, rows, w.in), transpose(weight), {y, w.out}, {false, bias, residual, w.out},
                  precision);
  });
}

void stored_linear_backward(const float* dy, const StoredWeight& w, Index rows, float* dx, Precision precision) {
  kernels::with_stored(w.kind, w.bytes.data(), w.out, w.in, [&](const auto& weight) {
    kernels::gemm(kernels::matrix(dy, rows, w.out), weight, {dx, w.in}, {}, precision);
  });
}

void stored_linear_operands(Operands& o, const float* x, const StoredWeight& w, const float* bias) {
  std::vector<float> row(static_cast<std::size_t>(w.in));
  kernels::load_rows(w.kind, w.bytes.data(), o.column(), 1, w.in, row.data());
  o.take("x", x + o.row() * w.in, w.in);
  o.take("weight", row);
  if (bias) o.take("bias", bias + o.column(), 1);
}

void stored_linear_backward_operands(Operands& o, const float* dy, const StoredWeight& w, Index first) {
  std::vector<float> column(static_cast<std::size_t>(w.out));
  kernels::load_column(w.kind, w.bytes.data(), w.out, w.in, o.column(), column.data());
  o.take("dy", dy + (o.row() - first) * w.out, w.out);
  o.take("weight", column);
}

}  // namespace loopos
