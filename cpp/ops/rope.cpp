#include "ops/rope.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

/// cos and sin, (positions, width / 2) each.
template <class T>
struct Angles {
  Buffer<T> cosine, sine;
  Buffer<Index> positions;
  Buffer<double> frequencies;
  Index time = -1, half = -1;
  double factor = 0;

  bool fits(const Index* wanted, Index rows, const Rotation& r) const {
    return rows == time && r.width / 2 == half && r.factor == factor &&
           std::equal(r.frequencies, r.frequencies + half, frequencies.data()) &&
           std::equal(wanted, wanted + rows, positions.data());
  }
  void prepare(const Index* wanted, Index rows, const Rotation& r) {
    time = -1;  // nothing is kept should a reserve fail
    const Index pairs = r.width / 2;
    std::copy(wanted, wanted + rows, positions.reserve(rows));
    double* frequency = frequencies.reserve(pairs);
    std::copy(r.frequencies, r.frequencies + pairs, frequency);
    T* c = cosine.reserve(rows * pairs);
    T* s = sine.reserve(rows * pairs);
    parallel_blocks(rows, row_grain(pairs, 32), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t)
        for (Index i = 0; i < pairs; ++i) {
          const double angle = static_cast<double>(wanted[t]) * frequency[i];
          c[t * pairs + i] = static_cast<T>(r.factor * std::cos(angle));
          s[t * pairs + i] = static_cast<T>(r.factor * std::sin(angle));
        }
    });
    time = rows, half = pairs, factor = r.factor;
  }
};

/// A step asks for the same angles twice per layer, and layers are of two kinds at most: the calling thread keeps the
/// last two.
template <class T>
const Angles<T>& angles_of(const Index* positions, Index rows, const Rotation& rotation) {
  thread_local Angles<T> kept[2];
  thread_local int last = 0;
  for (int i : {last, 1 - last})
    if (kept[i].fits(positions, rows, rotation)) return kept[last = i];
  last = 1 - last;
  kept[last].prepare(positions, rows, rotation);
  return kept[last];
}

template <class T>
void turn(const T* x, HeadStrides sx, Positions positions, Index batch, Index heads, Index time, Index width,
          const Rotation& rotation, T sign, T* y, HeadStrides sy) {
  const Index half = rotation.width / 2;
  if (batch == 0 || heads == 0 || time == 0 || width == 0) return;
  const Angles<T>& angles = angles_of<T>(positions.data, positions.count(batch, time), rotation);
  const T *cosine = angles.cosine.data(), *sine = angles.sine.data();
  const auto& k = kernels::table<T>();
  parallel_blocks(batch * heads * time, row_grain(width, 2), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index t = r % time, h = r / time % heads, b = r / time / heads;
      const T* in = x + b * sx.batch + h * sx.head + t * sx.time;
      T* out = y + b * sy.batch + h * sy.head + t * sy.time;
      const Index at = (b * positions.sequence + t) * half;
      const T *c = cosine + at, *s = sine + at;
      if (out != in) std::copy(in + rotation.width, in + width, out + rotation.width);
      if (!rotation.interleaved) {
        k.rotate(in, in + half, c, s, sign, half, out, out + half);
        continue;
      }
      for (Index i = 0; i < half; ++i) {
        const T x1 = in[2 * i], x2 = in[2 * i + 1], sn = sign * s[i];
        out[2 * i] = x1 * c[i] - x2 * sn;
        out[2 * i + 1] = x2 * c[i] + x1 * sn;
      }
    }
  });
}

}  // namespace

void plain_frequencies(double theta, Index width, double* frequencies) {
  for (Index i = 0; i < width / 2; ++i)
    frequencies[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
}

template <class T>
void rope_forward(const T* x, HeadStrides sx, Positions positions, Index batch, Index heads, Index time, Index width,
                  const Rotation& rotation, T* y, HeadStrides sy) {
  turn(x, sx, positions, batch, heads, time, width, rotation, T(1), y, sy);
}

template <class T>
void rope_backward(const T* dy, HeadStrides sdy, Positions positions, Index batch, Index heads, Index time, Index width,
                   const Rotation& rotation, T* dx, HeadStrides sdx) {
  turn(dy, sdy, positions, batch, heads, time, width, rotation, T(-1), dx, sdx);
}

#define LOOPOS_INSTANTIATE(T)                                                                                    \
  template void rope_forward(const T*, HeadStrides, Positions, Index, Index, Index, Index, const Rotation&, T*,  \
                             HeadStrides);                                                                       \
  template void rope_backward(const T*, HeadStrides, Positions, Index, Index, Index, Index, const Rotation&, T*, \
                              HeadStrides);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
