// Memory: an owning, 64-byte aligned array, and per-thread scratch that grows and is reused (no allocation in a step).
#pragma once

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>
#include <utility>

#include "core/check.h"

namespace loopos {

constexpr std::size_t kAlignment = 64;  // at least: one cache line, one AVX-512 register

/// Uninitialised memory for std::free; std::bad_alloc when it cannot be had. Large blocks ask for huge pages: a product
/// touches a new page with every row.
void* allocate(std::size_t bytes);

/// An uninitialised array of n elements; std::bad_alloc when it cannot be had. Moves, never copies.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index n) : size_(n) {
    if (n < 0 || static_cast<std::size_t>(n) > std::numeric_limits<std::size_t>::max() / sizeof(T) - kAlignment)
      throw std::bad_alloc();
    if (n > 0) data_ = static_cast<T*>(allocate(static_cast<std::size_t>(n) * sizeof(T)));
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }
  /// At least n elements; what was inside is lost when it has to grow.
  T* reserve(Index n) {
    if (n > size_) {
      *this = Buffer();  // give back the old block before asking for the new one
      *this = Buffer(n);
    }
    return data_;
  }

 private:
  T* data_ = nullptr;
  Index size_ = 0;
};

/// Scratch of the calling thread. Each call site that may be live at once with another uses a tag type of its own.
template <class T, class Tag>
T* scratch(Index n) {
  thread_local Buffer<T> buffer;
  return buffer.reserve(n);
}

}  // namespace loopos
