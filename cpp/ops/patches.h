// Pictures cut into patches, each a row, so that a patch embedding (Dosovitskiy et al., "An Image is Worth 16x16 Words",
// 2021) is a product of rows.
//   images (B, H, W, channels) -> y (B, lead + P, p p channels),  P = (H / p) (W / p), from left to right, then down
// A row holds the pixels of its patch from left to right, then down, each with its channels. The first `lead` rows of a
// picture are zeros: the places of tokens that are no patches. Backward puts every number back where it came from; those
// of the lead rows go nowhere. Nothing is kept, and no number is changed.
#pragma once

#include "core/check.h"

namespace loopos {

struct PatchGrid {
  Index height, width, channels, patch;  // height and width are multiples of patch
  Index lead = 0;

  Index across() const { return width / patch; }
  Index count() const { return height / patch * across(); }
  Index rows() const { return lead + count(); }
  Index row_width() const { return patch * patch * channels; }
  Index image_size() const { return height * width * channels; }
};

/// y is overwritten.
template <class T>
void patches_forward(const T* images, Index batch, const PatchGrid& grid, T* y);

/// dimages is overwritten.
template <class T>
void patches_backward(const T* dy, Index batch, const PatchGrid& grid, T* dimages);

}  // namespace loopos
