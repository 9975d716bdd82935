#include "ops/rope.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

/// cos and sin, (time, width / 2) each. A step asks for the same ones twice per layer, so the calling thread keeps the
/// last.
template <class T>
struct Angles {
  Buffer<T> cosine, sine;
  Buffer<Index> positions;
  Index time = -1, width = -1;
  double theta = 0;

  void prepare(const Index* wanted, Index rows, Index columns, double base) {
    if (rows == time && columns == width && base == theta && std::equal(wanted, wanted + rows, positions.data()))
      return;
    time = -1;  // nothing is kept should a reserve fail
    const Index half = columns / 2;
    std::copy(wanted, wanted + rows, positions.reserve(rows));
    T* c = cosine.reserve(rows * half);
    T* s = sine.reserve(rows * half);
    struct Frequency;
    double* frequency = scratch<double, Frequency>(half);
    for (Index i = 0; i < half; ++i)
      frequency[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(columns));
    parallel_blocks(rows, row_grain(half, 32), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t)
        for (Index i = 0; i < half; ++i) {
          const double angle = static_cast<double>(wanted[t]) * frequency[i];
          c[t * half + i] = static_cast<T>(std::cos(angle));
          s[t * half + i] = static_cast<T>(std::sin(angle));
        }
    });
    time = rows, width = columns, theta = base;
  }
};

template <class T>
void turn(const T* x, HeadStrides sx, const Index* positions, Index batch, Index heads, Index time, Index width,
          double theta, bool interleaved, T sign, T* y, HeadStrides sy) {
  const Index half = width / 2;
  if (batch == 0 || heads == 0 || time == 0 || half == 0) return;
  thread_local Angles<T> kept;
  kept.prepare(positions, time, width, theta);
  const T *cosine = kept.cosine.data(), *sine = kept.sine.data();
  const auto& k = kernels::table<T>();
  parallel_blocks(batch * heads * time, row_grain(width, 2), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index t = r % time, h = r / time % heads, b = r / time / heads;
      const T* in = x + b * sx.batch + h * sx.head + t * sx.time;
      T* out = y + b * sy.batch + h * sy.head + t * sy.time;
      const T *c = cosine + t * half, *s = sine + t * half;
      if (!interleaved) {
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

template <class T>
void rope_forward(const T* x, HeadStrides sx, const Index* positions, Index batch, Index heads, Index time, Index width,
                  double theta, bool interleaved, T* y, HeadStrides sy) {
  turn(x, sx, positions, batch, heads, time, width, theta, interleaved, T(1), y, sy);
}

template <class T>
void rope_backward(const T* dy, HeadStrides sdy, const Index* positions, Index batch, Index heads, Index time,
                   Index width, double theta, bool interleaved, T* dx, HeadStrides sdx) {
  turn(dy, sdy, positions, batch, heads, time, width, theta, interleaved, T(-1), dx, sdx);
}

#define LOOPOS_INSTANTIATE(T)                                                                                    \
  template void rope_forward(const T*, HeadStrides, const Index*, Index, Index, Index, Index, double, bool, T*,  \
                             HeadStrides);                                                                       \
  template void rope_backward(const T*, HeadStrides, const Index*, Index, Index, Index, Index, double, bool, T*, \
                              HeadStrides);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
