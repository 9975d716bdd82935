// A weight that is frozen and stored small, as the set of parameters keeps it. Kernels alone know how its bytes are read
// (kernels/gemm/stored.h).
#pragma once

#include <cstdint>
#include <string>

#include "core/buffer.h"
#include "core/storage.h"

namespace loopos {

struct StoredWeight {
  std::string name;
  Index out = 0, in = 0;     // its shape
  double init_std = 0;       // of its initial values
  Index layer = -1;          // number of its block; -1: outside blocks
  std::uint64_t number = 0;  // among all weights, in the order of execution
  Storage kind = Storage::bfloat16;
  Buffer<unsigned char> bytes;
  double largest_error = 0, error_squares = 0, squares = 0;  // see StorageError
};

/// Of the token table and the head of a model whose projections are stored as `weights`. 4 bits would cost them more
/// than all projections together (docs/models.md has the figures).
constexpr Storage table_storage(Storage weights) {
  return weights == Storage::nf4 || weights == Storage::int4 ? Storage::int8 : weights;
}

}  // namespace loopos
