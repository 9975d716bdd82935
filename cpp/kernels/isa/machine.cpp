#include "kernels/isa/machine.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos::kernels {
namespace {

/// Work per second of body(), which returns the work it did, called until `seconds` are over; once before that untimed.
template <class Body>
double rate(double seconds, Body&& body) {
  using Clock = std::chrono::steady_clock;
  body();
  const auto start = Clock::now();
  double work = 0, passed = 0;
  do {
    work += body();
    passed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (passed < seconds || passed <= 0);
  return work / passed;
}

}  // namespace

double multiply_add_rate(double seconds) {
  constexpr Index kRounds = 20000;          // of one chunk: about 100 microseconds
  const Index chunks = 64 * num_threads();  // so that the last chunk of a thread is a hundredth of its work
  std::vector<float> out(static_cast<std::size_t>(chunks));
  std::vector<Index> done(out.size());
  return rate(seconds, [&] {
    parallel_for(chunks, [&](Index chunk) {
      const auto at = static_cast<std::size_t>(chunk);
      done[at] = multiply_adds(kRounds, &out[at]);
    });
    double total = 0;
    for (const Index count : done) total += static_cast<double>(count);
    return total;
  });
}

double memory_rate(Index n, double seconds) {
  constexpr Index kGrain = 65536;
  Buffer<float> a(n), b(n), y(n);
  parallel_blocks(n, kGrain, [&](Index begin, Index end) {
    std::fill(a.data() + begin, a.data() + end, 1.0f);
    std::fill(b.data() + begin, b.data() + end, 2.0f);
    std::fill(y.data() + begin, y.data() + end, 0.0f);  // its pages exist before the clock starts
  });
  const auto& kernels = table<float>();
  return rate(seconds, [&] {
    parallel_blocks(n, kGrain, [&](Index begin, Index end) {
      kernels.add(a.data() + begin, b.data() + begin, end - begin, y.data() + begin);
    });
    return 12.0 * static_cast<double>(n);
  });
}

}  // namespace loopos::kernels
