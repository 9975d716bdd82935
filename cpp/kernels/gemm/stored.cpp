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

/// The scale of a block whose largest magnitude is `largest`.
std::uint32_t scale_of(float largest) {
  std::uint32_t half = to_half(largest / 127);
  if (largest > 127.5f * half_value(half)) ++half;  // else numbers beyond 127 would have to be cut
  return half;
}

/// Where the numbers of one row lie; Byte is const for reading.
template <class Byte>
struct Places {
  Storage kind;
  Byte* panel;
  Index lane;
  Places(Storage k, Byte* weight, Index row, Index in)
      : kind(k), panel(weight + row / kPanelRows * panel_bytes(k, in)), lane(row % kPanelRows) {}

  Byte* block(Index column) const { return panel + column / kScaleColumns * kBlockBytes; }
  Byte* scale(Index column) const { return block(column) + 2 * lane; }
  Byte* number(Index column) const {
    return kind == Storage::bfloat16 ? panel + 2 * (column * kPanelRows + lane)
                                     : block(column) + kScaleBytes + column % kScaleColumns * kPanelRows + lane;
  }
  float value(Index column) const {
    if (kind == Storage::bfloat16) return float_of(read_two(number(column)) << 16);
    return static_cast<float>(static_cast<signed char>(*number(column))) * half_value(read_two(scale(column)));
  }
};

bool can_store(Storage kind, float magnitude) {
  constexpr std::uint32_t kInfinity = 0x7f80;  // of bfloat16
  return kind == Storage::bfloat16 ? nearest(bits_of(magnitude), 16) < kInfinity : magnitude <= 127 * kLargestHalf;
}

/// One row into its places; the column of a number that is refused, or -1.
Index store_row(Storage kind, const float* from, Index in, Index row, unsigned char* weight, StorageError& error) {
  const Places<unsigned char> places(kind, weight, row, in);
  for (Index begin = 0; begin < in; begin += kScaleColumns) {
    const Index end = std::min(in, begin + kScaleColumns);
    float largest = 0;
    for (Index c = begin; c < end; ++c) {
      const float magnitude = std::fabs(from[c]);
      if (!can_store(kind, magnitude)) return c;
      largest = std::max(largest, magnitude);
    }
    const std::uint32_t scale = kind == Storage::int8 ? scale_of(largest) : 0;
    if (kind == Storage::int8) write_two(scale, places.scale(begin));
    for (Index c = begin; c < end; ++c) {
      if (kind == Storage::bfloat16)
        write_two(nearest(bits_of(from[c]), 16), places.number(c));
      else  // without a scale all numbers are 0
        *places.number(c) = static_cast<unsigned char>(
            static_cast<signed char>(scale ? std::nearbyint(from[c] / half_value(scale)) : 0.0f));
      const double given = static_cast<double>(from[c]), off = static_cast<double>(places.value(c)) - given;
      error.largest = std::max(error.largest, std::fabs(off));
      error.error_squares += off * off;
      error.squares += given * given;
    }
  }
  return -1;
}

}  // namespace

Index panel_bytes(Storage kind, Index in) {
  return kind == Storage::bfloat16 ? 2 * in * kPanelRows
                                   : round_up(in * kPanelRows + ceil_div(in, kScaleColumns) * kScaleBytes, Index{64});
}
Index stored_bytes(Storage kind, Index out, Index in) {
  return ceil_div(out, kPanelRows) * panel_bytes(kind, in);
}

StorageError store_rows(Storage kind, const float* from, Index first, Index rows, Index in, unsigned char* weight) {
  const Index panels = ceil_div(rows, kPanelRows);
  std::vector<StorageError> errors(static_cast<std::size_t>(panels));
  parallel_for(panels, [&](Index panel) {
    StorageError& error = errors[static_cast<std::size_t>(panel)];
    for (Index r = panel * kPanelRows; r < std::min(rows, (panel + 1) * kPanelRows); ++r) {
      const Index refused = store_row(kind, from + r * in, in, first + r, weight, error);
      if (refused < 0) continue;
      error.refused = r * in + refused;
      return;
    }
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
  parallel_blocks(rows, row_grain(in), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Places<const unsigned char> places(kind, weight, first + r, in);
      for (Index c = 0; c < in; ++c) to[r * in + c] = places.value(c);
    }
  });
}

void load_column(Storage kind, const unsigned char* weight, Index out, Index in, Index column, float* to) {
  for (Index r = 0; r < out; ++r) to[r] = Places<const unsigned char>(kind, weight, r, in).value(column);
}

}  // namespace loopos::kernels
