// The one pool of worker threads. Work is cut into chunks fixed by the problem's size, never by the number of threads,
// and every chunk writes only places of its own: so results have the same bits for any thread count.
#pragma once

#include <algorithm>
#include <cfenv>
#include <type_traits>

#include "core/check.h"

namespace loopos {

int num_threads();
/// 1 <= n <= 1024; more than there are cores is legal.
void set_num_threads(Index n);

/// Whether parallel_for would run in place here: inside a chunk, or with one thread.
bool alone();

namespace detail {
using ChunkFn = void (*)(void* body, Index chunk);
void run_chunks(Index chunks, ChunkFn fn, void* body);
}  // namespace detail

/// Calls body(chunk) for every chunk in [0, chunks), on any thread, in any order, and returns when all are done. An
/// exception from a chunk is thrown again here. A call from inside a chunk, or while another thread holds the pool,
/// runs in place.
template <class Body>
void parallel_for(Index chunks, Body&& body) {
  using B = std::remove_reference_t<Body>;
  if (chunks <= 0) return;
  if (chunks == 1) {
    body(Index{0});
    return;
  }
  detail::run_chunks(
      chunks, [](void* b, Index chunk) { (*static_cast<B*>(b))(chunk); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

/// Cuts [0, n) into blocks of `grain` and calls body(begin, end) for each.
template <class Body>
void parallel_blocks(Index n, Index grain, Body&& body) {
  grain = std::max<Index>(1, grain);
  parallel_for((n + grain - 1) / grain, [&](Index chunk) { body(chunk * grain, std::min(n, (chunk + 1) * grain)); });
}

/// Rows per block so that one block is worth handing to another thread (about 10 microseconds of simple arithmetic).
inline Index row_grain(Index row_length, Index cost_per_element = 1) {
  return std::max<Index>(1, 32768 / std::max<Index>(1, row_length * cost_per_element));
}

/// The default floating-point mode (round to nearest, denormals kept, nothing traps) while this object lives; then the
/// caller's mode and flags are put back as they were. Every call into the core runs under one, so a caller's
/// flush-to-zero changes no bit and no flag of ours reaches the caller.
class FpScope {
 public:
  FpScope();
  ~FpScope();
  FpScope(const FpScope&) = delete;
  FpScope& operator=(const FpScope&) = delete;

  /// FE_INVALID, FE_OVERFLOW, FE_DIVBYZERO as raised so far, here or by workers in jobs of this thread.
  int raised() const;
  /// As if they were raised here: what was read by fresh() on other threads.
  static void add(int flags);
  /// What the scopes of this thread that ended had raised since the last call of this.
  static int take();
  /// What was raised since the last call of this within the scope of this thread; raised() forgets it, take() does not.
  static int fresh();

 private:
  std::fenv_t before_;
};

}  // namespace loopos
