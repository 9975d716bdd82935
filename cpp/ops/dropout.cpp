#include "ops/dropout.h"

#include <algorithm>
#include <cmath>

#include "core/philox.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {

template <class T>
void dropout_scales(std::uint64_t seed, std::uint64_t offset, Index n, double p, T* scales) {
  const T scale = static_cast<T>(1 / (1 - p));
  if (p == 0) {
    std::fill(scales, scales + n, scale);
    return;
  }
  const std::uint32_t limit = static_cast<std::uint32_t>(std::ceil(p * 0x1p32) - 1);  // word >= p 2^32 is word > limit
  Index done = 0;
  if (offset % 4 != 0) {  // the kernel begins at a whole counter
    const Philox4 words = philox(seed, offset / 4, 0);
    for (std::uint64_t w = offset % 4; w < 4 && done < n; ++w) scales[done++] = words[w] > limit ? scale : T(0);
  }
  kernels::table<T>().dropout_scales(seed, (offset + static_cast<std::uint64_t>(done)) / 4, n - done, limit, scale,
                                     scales + done);
}

template <class T>
void dropout_forward(const T* x, Index n, double p, std::uint64_t seed, std::uint64_t offset, T* y) {
  constexpr Index kGrain = 16384, kBlock = 1024;
  const auto& k = kernels::table<T>();
  parallel_blocks(n, kGrain, [&](Index begin, Index end) {
    alignas(64) T scales[kBlock];
    for (Index i = begin; i < end; i += kBlock) {
      const Index count = std::min(kBlock, end - i);
      dropout_scales(seed, offset + static_cast<std::uint64_t>(i), count, p, scales);
      k.multiply(x + i, scales, count, y + i);
    }
  });
}

template <class T>
void dropout_backward(const T* dy, Index n, double p, std::uint64_t seed, std::uint64_t offset, T* dx) {
  dropout_forward(dy, n, p, seed, offset, dx);  // linear in x: the same product
}

#define LOOPOS_INSTANTIATE(T)                                                               \
  template void dropout_scales(std::uint64_t, std::uint64_t, Index, double, T*);            \
  template void dropout_forward(const T*, Index, double, std::uint64_t, std::uint64_t, T*); \
  template void dropout_backward(const T*, Index, double, std::uint64_t, std::uint64_t, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
