// Where an optimizer keeps one moment of the tensors of a group: as numbers of T, or, of float, in fewer bits
// (kernels/rows/moments.h), out of which an update takes what it needs chunk by chunk and puts it back.
#pragma once

#include <cstdint>
#include <string>

#include "core/buffer.h"
#include "core/check.h"
#include "kernels/isa/moments.h"

namespace loopos {

enum class MomentStorage { full, bfloat16, eight_bit };

/// By the name that a caller gives; ValueError for another. "float32" is full: as the weights are.
MomentStorage moment_storage(const std::string& name);

template <class T>
class MomentStore {
 public:
  MomentStore() = default;
  /// Of `size` zeros. negative: whether they may be below zero. ValueError for double in fewer bits.
  MomentStore(MomentStorage storage, bool negative, Index size);

  /// Tensors are to begin at multiples of it, and what is read and kept too, counted from a tensor's begin.
  static Index spacing(MomentStorage storage) { return storage == MomentStorage::full ? 1 : kernels::kMomentBlock; }

  /// n numbers from `at`: the living ones, or of fewer bits a copy in `room`.
  T* numbers(Index at, Index n, T* room);
  /// Keeps n finite numbers from `at` in fewer bits. Returns the largest magnitude that is kept.
  double keep(Index at, Index n, const T* x, std::uint32_t word);

  /// As kept: T, uint16 or uint8; and of eight_bit the scale of each block.
  void* kept(Index at);
  float* scales(Index at) { return scales_.data() + at / kernels::kMomentBlock; }

 private:
  MomentStorage storage_ = MomentStorage::full;
  bool negative_ = false;
  Buffer<T> full_;
  Buffer<std::uint16_t> halves_;
  Buffer<std::uint8_t> codes_;
  Buffer<float> scales_;
};

}  // namespace loopos
