// A weight that is frozen and stored small: what the parameters' set keeps of it. How its bytes are read is the kernels'
// affair (kernels/gemm/stored.h).
#pragma once

#include <string>

#include "core/buffer.h"
#include "core/storage.h"

namespace loopos {

struct StoredWeight {
  std::string name;
  Index out = 0, in = 0;  // its shape
  Index layer = -1;       // number of its block; -1: outside blocks
  Storage kind = Storage::bfloat16;
  Buffer<unsigned char> bytes;
  double largest_error = 0, error_squares = 0, squares = 0;  // see StorageError
};

}  // namespace loopos
