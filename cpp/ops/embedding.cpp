#include "ops/embedding.h"

#include <algorithm>
#include <cstring>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

struct Entry {
  Index id, row;
};

/// The rows in order of their ids, equal ids in order of rows: a radix sort, 8 bits a pass, as many passes as the
/// vocabulary has bytes.
const Entry* sort_by_id(const Index* ids, Index rows, Index vocab) {
  struct First;
  struct Second;
  Entry* from = scratch<Entry, First>(rows);
  Entry* to = scratch<Entry, Second>(rows);
  for (Index r = 0; r < rows; ++r) from[r] = {ids[r], r};
  for (int shift = 0; shift < 64 && ((vocab - 1) >> shift) > 0; shift += 8) {
    Index place[257] = {};
    for (Index r = 0; r < rows; ++r) ++place[(from[r].id >> shift & 255) + 1];
    for (int i = 0; i < 256; ++i) place[i + 1] += place[i];
    for (Index r = 0; r < rows; ++r) to[place[from[r].id >> shift & 255]++] = from[r];
    std::swap(from, to);
  }
  return from;
}

template <class T>
void add_wide(const double* sums, Index n, double scale, T* y) {
  for (Index i = 0; i < n; ++i) y[i] += static_cast<T>(scale * sums[i]);
}

}  // namespace

void check_ids(const char* function, const char* argument, const Index* ids, Index rows, Index vocab) {
  for (Index r = 0; r < rows; ++r)
    if (ids[r] < 0 || ids[r] >= vocab)
      throw std::out_of_range(
          cat(function, ": ", argument, " must be from 0 to ", vocab - 1, ", got ", ids[r], " at flat position ", r));
}

template <class T>
void embedding_forward(const Index* ids, const T* weight, Index rows, Index width, double scale, T* y) {
  if (width == 0) return;
  const auto& k = kernels::table<T>();
  parallel_blocks(rows, row_grain(width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* row = weight + ids[r] * width;
      if (scale == 1)
        std::memcpy(y + r * width, row, sizeof(T) * static_cast<std::size_t>(width));
      else
        k.scale(row, width, static_cast<T>(scale), y + r * width);
    }
  });
}

template <class T>
void embedding_backward(const T* dy, const Index* ids, Index rows, Index width, Index vocab, double scale, T* dweight) {
  if (rows == 0 || width == 0) return;
  const auto& k = kernels::table<T>();
  const Entry* order = sort_by_id(ids, rows, vocab);
  const Index piece = row_grain(width), pieces = (rows + piece - 1) / piece;
  // Two slots per piece: its first run, if the run began in an earlier piece, and its last, if it goes on in the next.
  struct Slots;
  double* slots = scratch<double, Slots>(pieces * 2 * width);
  const auto crosses = [&](Index at) { return at > 0 && at < rows && order[at].id == order[at - 1].id; };
  parallel_for(pieces, [&](Index p) {
    const Index begin = p * piece, end = std::min(rows, begin + piece);
    struct Run;
    double* sums = scratch<double, Run>(width);
    for (Index first = begin, last; first < end; first = last) {
      for (last = first + 1; last < end && order[last].id == order[first].id;) ++last;
      T* out = dweight + order[first].id * width;
      const bool head = first == begin && crosses(begin), tail = last == end && crosses(end);
      double* slot = head ? slots + 2 * p * width : tail ? slots + (2 * p + 1) * width : nullptr;
      if (!slot && last - first == 1 && scale == 1) {
        k.add(out, dy + order[first].row * width, width, out);
        continue;
      }
      k.column_sums(dy, width, &order[first].row, sizeof(Entry) / sizeof(Index), last - first, width,
                    slot ? slot : sums);
      if (!slot) add_wide(sums, width, scale, out);
    }
  });
  // Runs that cross borders, piece by piece in order: [tail of p] [heads of p + 1, ...] until the run ends.
  for (Index p = 1; p < pieces; ++p) {
    const Index at = p * piece;
    if (!crosses(at)) continue;
    const bool covers = p >= 2 && order[(p - 1) * piece].id == order[at].id && crosses((p - 1) * piece);
    double* sum = covers ? slots + 2 * (p - 1) * width : slots + (2 * (p - 1) + 1) * width;
    double* head = slots + 2 * p * width;
    for (Index c = 0; c < width; ++c) head[c] += sum[c];
    const Index next = std::min(rows, at + piece);
    if (!crosses(next) || order[next - 1].id != order[at].id)
      add_wide(head, width, scale, dweight + order[at].id * width);
  }
}

#define LOOPOS_INSTANTIATE(T)                                                        \
  template void embedding_forward(const Index*, const T*, Index, Index, double, T*); \
  template void embedding_backward(const T*, const Index*, Index, Index, Index, double, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
