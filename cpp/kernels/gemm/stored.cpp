#include "kernels/gemm/stored.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/gemm/driver.h"

namespace loopos::kernels {
namespace {

constexpr float kLargestHalf = 65504;

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Numbers in two bytes. float16 is only needed for scales, which are not negative; 2^112 lies between the exponents.
std::uint32_t read_two(const unsigned char* p) {
  return std::uint32_t{p[0]} | std::uint32_t{p[1]} << 8;
}
void write_two(std::uint32_t bits, unsigned char* p) {
  p[0] = static_cast<unsigned char>(bits);
  p[1] = static_cast<unsigned char>(bits >> 8);
}
std::uint32_t nearest(std::uint32_t bits, int dropped) {
  return (bits + ((1u << (dropped - 1)) - 1) + (bits >> dropped & 1)) >> dropped;
}
float half_value(std::uint32_t half) {
  return float_of(half << 13) * 0x1p112f;
}
std::uint32_t to_half(float x) {
  return nearest(bits_of(x * 0x1p-112f), 13);
}

/// The largest number of a kind, as a multiple of the scale.
template <Storage kind>
constexpr float kLargest = kind == Storage::int8 ? 127 : kLevels<kind>[15];

/// The scale of a block whose largest magnitude is `largest`.
template <Storage kind>
std::uint32_t scale_of(float largest) {
  std::uint32_t half = to_half(largest / kLargest<kind>);
  if (largest > 0 && largest >= (kLargest<kind> + 0.5f) * half_value(half)) ++half;  // else it would have to be cut
  return half;
}

/// The number of the level of a kind of 4 bits that is nearest to x.
template <Storage kind>
unsigned nearest_level(float x) {
  if constexpr (kind == Storage::int4) return static_cast<unsigned>(8 + std::nearbyint(x));
  unsigned below = 0;
  for (int i = 0; i < 15; ++i) below += x > 0.5f * (kLevels<kind>[i] + kLevels<kind>[i + 1]);
  return below;
}

/// Where the numbers of one row lie; Byte is const for reading.
template <Storage kind, class Byte>
struct Places {
  static constexpr PanelLayout kIn = kLayout<kind>;
  static constexpr bool kFourBits = kIn.column_bytes < kPanelRows;
  Byte* panel;
  Index lane, first;  // first: its number in the first column of a block
  int shift;          // within its byte
  Places(Byte* weight, Index row, Index in)
      : panel(weight + row / kPanelRows * panel_bytes(kind, in)),
        lane(row % kPanelRows),
        first(kIn.scale_bytes + (kFourBits ? lane % kIn.column_bytes : lane * kIn.column_bytes / kPanelRows)),
        shift(kFourBits && lane >= kIn.column_bytes ? 4 : 0) {}

  Byte* block(Index column) const { return panel + column / kIn.columns * kBlockBytes<kind>; }
  Byte* number(Index column) const { return block(column) + first + column % kIn.columns * kIn.column_bytes; }
  float scale(Index column) const { return half_value(read_two(block(column) + 2 * lane)); }
  float value(Index column) const {
    if constexpr (kind == Storage::bfloat16)
      return float_of(read_two(number(column)) << 16);
    else if constexpr (kFourBits)
      return kLevels<kind>[*number(column) >> shift & 15] * scale(column);
    else
      return static_cast<float>(static_cast<signed char>(*number(column))) * scale(column);
  }
  void write_scale(Index column, std::uint32_t half) const { write_two(half, block(column) + 2 * lane); }
  /// x: the number, over the scale where there is one.
  void write(Index column, float x) const {
    Byte* to = number(column);
    if constexpr (kind == Storage::bfloat16)
      write_two(nearest(bits_of(x), 16), to);
    else if constexpr (kFourBits)
      *to = static_cast<unsigned char>((*to & (0xf0 >> shift)) | nearest_level<kind>(x) << shift);
    else
      *to = static_cast<unsigned char>(static_cast<signed char>(std::nearbyint(x)));
  }
};

template <Storage kind>
bool can_store(float magnitude) {
  if constexpr (kind == Storage::bfloat16)
    return nearest(bits_of(magnitude), 16) < 0x7f80;  // its infinity
  else
    return magnitude <= kLargest<kind> * kLargestHalf;
}

/// One row into its places; the column of a number that is refused, or -1.
template <Storage kind>
Index store_row(const float* from, Index in, Index row, unsigned char* weight, StorageError& error) {
  const Places<kind, unsigned char> places(weight, row, in);
  for (Index begin = 0; begin < in; begin += kLayout<kind>.columns) {
    const Index end = std::min(in, begin + kLayout<kind>.columns);
    float largest = 0, scale = 1;
    for (Index c = begin; c < end; ++c) {
      const float magnitude = std::fabs(from[c]);
      if (!can_store<kind>(magnitude)) return c;
      largest = std::max(largest, magnitude);
    }
    if constexpr (kLayout<kind>.scale_bytes > 0) {
      const std::uint32_t half = scale_of<kind>(largest);
      places.write_scale(begin, half);
      scale = half_value(half);
    }
    for (Index c = begin; c < end; ++c) {
      places.write(c, scale > 0 ? from[c] / scale : 0.0f);  // without a scale all numbers are 0
      const double given = static_cast<double>(from[c]), off = static_cast<double>(places.value(c)) - given;
      error.largest = std::max(error.largest, std::fabs(off));
      error.error_squares += off * off;
      error.squares += given * given;
    }
  }
  return -1;
}

/// Stores some rows of one panel; the flat place of a number that is refused, or -1.
Index store_some(Storage kind, const float* from, Index first, Index rows, Index in, unsigned char* weight,
                 StorageError& error) {
  return of_kind(kind, [&](auto k) {
    for (Index r = 0; r < rows; ++r) {
      const Index refused = store_row<k>(from + r * in, in, first + r, weight, error);
      if (refused >= 0) return r * in + refused;
    }
    return Index{-1};
  });
}

}  // namespace

Index panel_bytes(Storage kind, Index in) {
  return of_kind(kind, [&](auto k) {
    constexpr PanelLayout layout = kLayout<k>;
    return round_up(in * layout.column_bytes + ceil_div(in, layout.columns) * layout.scale_bytes, Index{64});
  });
}
Index stored_bytes(Storage kind, Index out, Index in) {
  return ceil_div(out, kPanelRows) * panel_bytes(kind, in);
}

StorageError store_rows(Storage kind, const float* from, Index first, Index rows, Index in, unsigned char* weight) {
  // By whole panels, for two rows may share a byte.
  const Index before = first / kPanelRows, panels = rows > 0 ? ceil_div(first + rows, kPanelRows) - before : 0;
  std::vector<StorageError> errors(static_cast<std::size_t>(panels));
  parallel_for(panels, [&](Index panel) {
    StorageError& error = errors[static_cast<std::size_t>(panel)];
    const Index begin = std::max(first, (before + panel) * kPanelRows);
    const Index end = std::min(first + rows, (before + panel + 1) * kPanelRows), skipped = (begin - first) * in;
    error.refused = store_some(kind, from + skipped, begin, end - begin, in, weight, error);
    if (error.refused >= 0) error.refused += skipped;
  });
  StorageError all;
  for (const StorageError& each : errors) {
    all.largest = std::max(all.largest, each.largest);
    all.error_squares += each.error_squares;
    all.squares += each.squares;
    if (all.refused < 0) all.refused = each.refused;
  }
  return all;
}

void load_rows(Storage kind, const unsigned char* weight, Index first, Index rows, Index in, float* to) {
  of_kind(kind, [&](auto k) {
    parallel_blocks(rows, row_grain(in), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) {
        const Places<k, const unsigned char> places(weight, first + r, in);
        for (Index c = 0; c < in; ++c) to[r * in + c] = places.value(c);
      }
    });
  });
}

void load_column(Storage kind, const unsigned char* weight, Index out, Index in, Index column, float* to) {
  of_kind(kind, [&](auto k) {
    for (Index r = 0; r < out; ++r) to[r] = Places<k, const unsigned char>(weight, r, in).value(column);
  });
}

}  // namespace loopos::kernels
