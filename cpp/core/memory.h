// Refusing what does not fit, before allocating: Linux promises memory it does not have and kills the process later.
#pragma once

#include <new>
#include <string>

#include "core/check.h"

namespace loopos {

/// Becomes MemoryError in Python, with a sentence.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string what) : what_(std::move(what)) {}
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
};

/// Bytes this process can still get: the least of free memory, what the control group leaves and RLIMIT_AS.
double available_bytes();

/// Throws OutOfMemory naming both numbers when `bytes` is more than there is. A double holds any product of sizes
/// without wrapping.
void require_memory(const std::string& what, double bytes);

}  // namespace loopos
