#include "ops/modulate.h"

#include "core/buffer.h"
#include "core/thread_pool.h"

namespace loopos {
namespace {

constexpr Index kGrain = 8192;  // elements per block

template <class T>
void gate_row(const GateKind& gate, const T* z, Index n, T* opened) {
  activation_kernel<T>(gate.f).forward(z, n, opened);
  kernels::table<T>().scale_add(opened, n, static_cast<T>(gate.factor), static_cast<T>(gate.offset), opened);
}

}  // namespace

const std::vector<GateKind>& gate_kinds() {
  static const std::vector<GateKind> kinds = {
      {"sigmoid", Activation::sigmoid, 1, 0.5},
      {"tanh", Activation::tanh, 0.5, 1},
      {"document", Activation::sigmoid, 0.5, 0.5},
  };
  return kinds;
}

const GateKind& gate_kind(const char* what, const std::string& name) {
  return choice(what, name, gate_kinds());
}

template <class T>
void modulate_forward(const GateKind& gate, const T* x, const T* z, const T* d, Index n, double scale, T* y) {
  const auto& k = kernels::table<T>();
  struct Opened;
  parallel_blocks(n, kGrain, [&](Index begin, Index end) {
    const Index count = end - begin;
    if (z) {
      T* opened = scratch<T, Opened>(count);
      gate_row(gate, z + begin, count, opened);
      k.multiply(opened, x + begin, count, y + begin);
    } else if (y != x) {
      std::copy(x + begin, x + end, y + begin);
    }
    k.axpy(d + begin, count, static_cast<T>(scale), y + begin);
  });
}

template <class T>
void modulate_backward(const GateKind& gate, const T* dy, const T* x, const T* z, Index n, double scale, T* dx, T* dz,
                       T* dd) {
  const auto& k = kernels::table<T>();
  struct Opened;
  parallel_blocks(n, kGrain, [&](Index begin, Index end) {
    const Index count = end - begin;
    if (dd) k.scale(dy + begin, count, static_cast<T>(scale), dd + begin);
    if (z && dz) {
      activation_kernel<T>(gate.f).backward(dy + begin, z + begin, count, dz + begin);
      k.scale(dz + begin, count, static_cast<T>(gate.factor), dz + begin);
      k.multiply(dz + begin, x + begin, count, dz + begin);
    }
    if (!dx) return;
    if (z) {
      T* opened = scratch<T, Opened>(count);
      gate_row(gate, z + begin, count, opened);
      k.multiply(opened, dy + begin, count, dx + begin);
    } else if (dx != dy) {
      std::copy(dy + begin, dy + end, dx + begin);
    }
  });
}

template <class T>
void modulate_operands(Operands& o, const GateKind& gate, const T* x, const T* z, const T* d, Index n, double scale,
                       const T* dy) {
  const Index at = o.row() * n + o.column();
  T opened = 1, slope = 0;
  if (z) {
    const T one = 1;
    gate_row(gate, z + at, 1, &opened);
    activation_kernel<T>(gate.f).backward(&one, z + at, 1, &slope);
    slope *= static_cast<T>(gate.factor);
    o.take("z", z + at, 1);
  }
  o.take("x", x ? x + at : nullptr, 1);
  o.take("d", d ? d + at : nullptr, 1);
  if (dy) o.take("dy", dy + at, 1);
  o.set("gate", static_cast<double>(opened));
  o.set("gate_slope", static_cast<double>(slope));
  o.set("additive_scale", scale);
}

#define LOOPOS_INSTANTIATE(T)                                                                                \
  template void modulate_forward(const GateKind&, const T*, const T*, const T*, Index, double, T*);          \
  template void modulate_backward(const GateKind&, const T*, const T*, const T*, Index, double, T*, T*, T*); \
  template void modulate_operands(Operands&, const GateKind&, const T*, const T*, const T*, Index, double, const T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
