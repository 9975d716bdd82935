#include "core/memory.h"

#include "core/buffer.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

namespace loopos {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::infinity();

double number_in(const char* path) {
  std::ifstream file(path);
  double value = kUnknown;
  return file >> value ? value : kUnknown;  // "max" is no number: no limit
}

double meminfo_available() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  double kilobytes = 0;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, unit);
  }
  return kUnknown;
}

double control_group_left() {
  const double limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit == kUnknown) return kUnknown;
  const double used = number_in("/sys/fs/cgroup/memory.current");
  return used == kUnknown ? limit : std::max(0.0, limit - used);
}

double address_space_left() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnknown;
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages;
  return std::max(0.0, static_cast<double>(limit.rlim_cur) - pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
}

}  // namespace

void* allocate(std::size_t bytes) {
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const bool large = bytes >= 2 * kHuge;
  void* memory = nullptr;
  if (posix_memalign(&memory, large ? kHuge : kAlignment, bytes) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(memory, bytes, MADV_HUGEPAGE);  // advice: nothing is lost where it is not taken
#endif
  return memory;
}

double available_bytes() {
  return std::min({meminfo_available(), control_group_left(), address_space_left()});
}

void require_memory(const std::string& what, double bytes) {
  if (bytes < 64e6) return;  // not worth reading /proc for
  const double available = available_bytes();
  if (bytes <= available) return;
  std::ostringstream text;
  text.precision(0);
  text << std::fixed << what << " needs " << bytes << " bytes, and " << available << " bytes are available";
  throw OutOfMemory(text.str());
}

}  // namespace loopos
