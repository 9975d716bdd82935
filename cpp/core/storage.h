// In which type the numbers of a weight lie in memory. Products with those that are stored small are computed in float.
#pragma once

namespace loopos {

enum class Storage {
  plain,     // the type of the model: a parameter like any other
  bfloat16,  // the upper half of a float
  int8,      // whole numbers from -127 to 127, 32 of a row share a scale
  nf4,       // 4 bits: one of 16 levels that stand where normal numbers are dense, 64 of a row share a scale
  int4,      // 4 bits: whole numbers from -7 to 7, 32 of a row share a scale
};

}  // namespace loopos
