#include "ops/patches.h"

#include <algorithm>

#include "core/thread_pool.h"

namespace loopos {
namespace {

/// copy(offset in the picture, offset in the row) for each line of a patch: `patch` pixels.
template <class Copy>
void each_line(const PatchGrid& grid, Index patch, Copy&& copy) {
  const Index line = grid.patch * grid.channels;
  const Index top = patch / grid.across() * grid.patch, left = patch % grid.across() * grid.patch;
  for (Index y = 0; y < grid.patch; ++y) copy(((top + y) * grid.width + left) * grid.channels, y * line);
}

}  // namespace

template <class T>
void patches_forward(const T* images, Index batch, const PatchGrid& grid, T* y) {
  const Index rows = grid.rows(), width = grid.row_width(), line = grid.patch * grid.channels;
  parallel_blocks(batch * rows, row_grain(width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      T* row = y + r * width;
      const T* image = images + r / rows * grid.image_size();
      const Index patch = r % rows - grid.lead;
      if (patch < 0)
        std::fill_n(row, width, T(0));
      else
        each_line(grid, patch, [&](Index from, Index to) { std::copy_n(image + from, line, row + to); });
    }
  });
}

template <class T>
void patches_backward(const T* dy, Index batch, const PatchGrid& grid, T* dimages) {
  const Index count = grid.count(), width = grid.row_width(), line = grid.patch * grid.channels;
  parallel_blocks(batch * count, row_grain(width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index b = r / count, patch = r % count;
      const T* row = dy + (b * grid.rows() + grid.lead + patch) * width;
      T* image = dimages + b * grid.image_size();
      each_line(grid, patch, [&](Index to, Index from) { std::copy_n(row + from, line, image + to); });
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                           \
  template void patches_forward(const T*, Index, const PatchGrid&, T*); \
  template void patches_backward(const T*, Index, const PatchGrid&, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
