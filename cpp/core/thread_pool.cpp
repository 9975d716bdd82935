#include "core/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <cfenv>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace loopos {
namespace {

constexpr int kWatched = FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO;
constexpr Index kMaxThreads = 1024;
constexpr int kSpins = 4000;  // some tens of microseconds: about the gap between two operations of a step

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int affinity_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

/// Cores that this process may use: its affinity mask, cut by a cgroup quota (containers).
int usable_cores() {
  int cores = affinity_cores();
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (file >> quota >> period && quota != "max" && period > 0)
    cores = std::min(cores, std::max(1, static_cast<int>(std::atof(quota.c_str()) / period)));
  return cores;
}

int default_threads() {
  for (const char* name : {"LOOPOS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* text = std::getenv(name);
    if (!text || !*text) continue;
    char* end = nullptr;
    errno = 0;
    const long n = std::strtol(text, &end, 10);
    const bool list = name[0] == 'O' && *end == ',';  // OMP_NUM_THREADS may list one number per nesting level
    if (errno == 0 && end != text && (*end == '\0' || list) && n >= 1 && n <= kMaxThreads) return static_cast<int>(n);
    if (name[0] == 'L')
      throw std::invalid_argument(cat(name, "='", text, "': expected a whole number from 1 to ", kMaxThreads));
  }
  return usable_cores();
}

struct Job {
  detail::ChunkFn fn = nullptr;
  void* body = nullptr;
  Index chunks = 0;
  std::atomic<Index> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  void work() {
    for (Index chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
      if (failed.load(std::memory_order_relaxed)) continue;
      try {
        fn(body, chunk);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  }
};

thread_local bool inside_pool = false;
thread_local int ended_flags = 0;
thread_local int job_flags = 0;  // floating-point flags that workers raised in jobs of this thread

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads), spins_(threads <= affinity_cores() ? kSpins : 0) {}

  int threads() const { return threads_; }
  bool try_own() { return owner_.try_lock(); }
  void release() { owner_.unlock(); }

  /// The caller owns the pool and is one of its threads.
  void run(Index chunks, detail::ChunkFn fn, void* body) {
    spawn();
    job_.fn = fn;
    job_.body = body;
    job_.chunks = chunks;
    job_.next.store(0, std::memory_order_relaxed);
    job_.failed.store(false, std::memory_order_relaxed);
    job_.error = nullptr;
    state_.store(next_generation(), std::memory_order_seq_cst);  // open, nobody inside
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    inside_pool = true;
    job_.work();
    inside_pool = false;
    // A worker that has not come yet need not come: what it would find is done.
    state_.fetch_or(kClosed, std::memory_order_acq_rel);
    for (int spin = 0; (state_.load(std::memory_order_acquire) & kInside) > 0;) {
      if (++spin < kSpins) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
    job_flags |= flags_.exchange(0);
    if (job_.error) std::rethrow_exception(job_.error);
  }

  void stop() {
    stopping_.store(true);
    state_.store(next_generation() | kClosed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

 private:
  /// Generation of the job, whether it is closed, and how many workers are inside. A worker comes in by one exchange of
  /// all three: so none is inside when the next job is written.
  using State = std::uint64_t;
  static constexpr State kInside = (State{1} << 31) - 1, kClosed = State{1} << 31, kGeneration = State{1} << 32;
  State generation() const { return state_.load(std::memory_order_seq_cst) / kGeneration; }
  State next_generation() const { return (generation() + 1) * kGeneration; }

  bool come_in(State seen) {
    for (State now = state_.load(std::memory_order_acquire); now / kGeneration == seen && !(now & kClosed);)
      if (state_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
    return false;
  }

  void spawn() {
    while (!all_spawned_ && static_cast<int>(workers_.size()) < threads_ - 1) {
      const State seen = generation();
      try {
        workers_.emplace_back([this, seen] { loop(seen); });
      } catch (const std::system_error&) {
        break;  // the system gives no more threads: fewer do the same work, to the same bits
      }
    }
    all_spawned_ = true;
  }

  void loop(State seen) {
    inside_pool = true;
    std::fesetenv(FE_DFL_ENV);  // not the mode of whoever happened to start this thread
    for (;;) {
      seen = wait_for_news(seen);
      if (stopping_.load()) return;
      if (!come_in(seen)) continue;
      job_.work();
      if (const int raised = std::fetestexcept(kWatched)) {
        flags_.fetch_or(raised);
        std::feclearexcept(kWatched);
      }
      state_.fetch_sub(1, std::memory_order_release);
    }
  }

  State wait_for_news(State seen) {
    for (int spin = 0; spin < spins_; ++spin) {
      const State now = generation();
      if (now != seen) return now;
      relax();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return generation() != seen; });
    sleepers_.fetch_sub(1);
    return generation();
  }

  const int threads_;
  const int spins_;
  std::mutex owner_;  // held by the thread whose job is running
  std::vector<std::thread> workers_;
  bool all_spawned_ = false;
  Job job_;
  std::atomic<State> state_{kClosed};
  std::atomic<int> sleepers_{0};
  std::atomic<int> flags_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// Never destroyed: workers may outlive static destructors. After a fork the child starts anew: the parent's threads do
// not exist there, and its locks may be held for ever.
std::mutex* g_mutex = new std::mutex;
std::mutex* g_resizing = new std::mutex;
Pool* g_pool = nullptr;
int g_threads = 0;

void after_fork_in_child() {
  g_mutex = new std::mutex;
  g_resizing = new std::mutex;
  g_pool = nullptr;
  inside_pool = false;
}

Pool& pool() {
  std::lock_guard<std::mutex> lock(*g_mutex);
  if (!g_pool) {
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);
    (void)registered;
    if (g_threads == 0) g_threads = default_threads();
    g_pool = new Pool(g_threads);
  }
  return *g_pool;
}

}  // namespace

int num_threads() {
  return pool().threads();
}

bool alone() {
  return inside_pool || num_threads() == 1;
}

void set_num_threads(Index n) {
  require(n >= 1 && n <= kMaxThreads, "set_num_threads: n must be from 1 to ", kMaxThreads, ", got ", n);
  std::lock_guard<std::mutex> one_at_a_time(*g_resizing);
  Pool& old = pool();
  if (old.threads() == n) return;
  while (!old.try_own()) std::this_thread::yield();  // wait for a job of another thread to end
  old.stop();
  std::lock_guard<std::mutex> lock(*g_mutex);
  g_threads = static_cast<int>(n);
  g_pool =
      new Pool(g_threads);  // the old one is left behind, owned for ever: another thread may still hold a reference
}

void detail::run_chunks(Index chunks, ChunkFn fn, void* body) {
  if (!inside_pool) {
    Pool& p = pool();
    if (p.threads() > 1 && p.try_own()) {
      struct Release {
        Pool& p;
        ~Release() { p.release(); }
      } release{p};
      p.run(chunks, fn, body);
      return;
    }
  }
  for (Index chunk = 0; chunk < chunks; ++chunk) fn(body, chunk);
}

FpScope::FpScope() {
  std::fegetenv(&before_);
  std::fesetenv(FE_DFL_ENV);
  job_flags = 0;
}

FpScope::~FpScope() {
  ended_flags |= raised();
  std::fesetenv(&before_);
}

int FpScope::raised() const {
  return std::fetestexcept(kWatched) | job_flags;
}

int FpScope::fresh() {
  const int now = std::fetestexcept(kWatched) | job_flags;
  if (now == 0) return 0;  // clearing costs ten times the reading
  job_flags = 0;
  std::feclearexcept(kWatched);
  ended_flags |= now;
  return now;
}

void FpScope::add(int flags) {
  job_flags |= flags;
}

int FpScope::take() {
  return std::exchange(ended_flags, 0);
}

}  // namespace loopos
