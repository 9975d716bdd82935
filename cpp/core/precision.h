// How exactly the factors of a float32 product are taken. Sums, and everything that is no product, are float32 under each.
// A precision is a promise about the error of a factor: a machine may do better, never worse.
#pragma once

namespace loopos {

enum class Precision {
  float32,  // as they are: by multiply-adds, or as three bfloat16 pieces, whose products are nearer to the exact sum
  bf16x3,   // as two bfloat16 pieces: a relative error of at most 2^-17, and of a product of two factors 2^-15
  bf16,     // rounded to bfloat16: a relative error of at most 2^-8
};

struct PrecisionName {
  const char* name;
  Precision value;
};
constexpr PrecisionName kPrecisions[] = {
    {"float32", Precision::float32}, {"bf16x3", Precision::bf16x3}, {"bf16", Precision::bf16}};

inline const char* precision_name(Precision precision) {
  for (const auto& entry : kPrecisions)
    if (entry.value == precision) return entry.name;
  return "";
}

}  // namespace loopos
