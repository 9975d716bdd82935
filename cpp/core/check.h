// Errors as sentences. Every refusal names the function, the argument, what was expected and what came.
// std::invalid_argument becomes ValueError in Python, std::out_of_range IndexError, std::bad_alloc MemoryError.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "LoopOS must not be built with -ffast-math, -Ofast or -ffinite-math-only: they delete every NaN check."
#endif

namespace loopos {

using Index = std::int64_t;

template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) throw std::invalid_argument(cat(parts...));
}

/// The entry of a table of named choices, each with a `name`.
template <class Table>
const auto& choice(const char* what, const std::string& name, const Table& table) {
  std::string names;
  for (const auto& entry : table) {
    if (name == entry.name) return entry;
    names += cat(names.empty() ? "'" : ", '", entry.name, "'");
  }
  throw std::invalid_argument(cat(what, " must be one of ", names, ", got '", name, "'"));
}

}  // namespace loopos
