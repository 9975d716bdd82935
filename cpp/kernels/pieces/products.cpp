#include "kernels/pieces/products.h"

#include <algorithm>
#include <cstdlib>

#include "core/check.h"
#include "kernels/isa/table.h"

#if defined(LOOPOS_TILES) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace loopos::kernels {

#if defined(LOOPOS_TILES)
namespace tiles {
PieceKernels piece_kernels();
}
#endif

namespace {

#if defined(LOOPOS_TILES) && defined(__linux__)
bool processor_has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24;
  if ((d & kBf16) == 0 || (d & kTiles) == 0) return false;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5) != 0 && supported(Isa::avx512);  // its bfloat16
}

/// The operating system saves tiles (XCR0), and lets this process use them: the answer of the call decides. It holds for
/// threads that exist already, and is asked for once.
bool system_grants_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & 1u << 27) == 0) return false;  // xgetbv
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kTileState = 3u << 17;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return (low & kTileState) == kTileState && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

/// One product whose result is known: machines exist that say they have tiles and do not compute with them.
bool tiles_compute() {
  const PieceKernels kernels = tiles::piece_kernels();
  constexpr Index kSize = 33, kRoom = 2 * 2 * 2 * 2 * kTile;
  alignas(64) static Bf16 a[kRoom], b[kRoom];
  float x[kSize * kSize], y[kSize * kSize], sums[kSize * kSize];
  for (Index i = 0; i < kSize * kSize; ++i) {
    x[i] = static_cast<float>(i * 37 % 64 - 32);
    y[i] = static_cast<float>(i * 53 % 64 - 32) / 8;
  }
  kernels.pack({x, kSize, kSize, kSize, true}, true, 2, a);
  kernels.pack({y, kSize, kSize, kSize, false}, false, 2, b);
  PieceBlock g{};
  g.m = g.n = kSize;
  g.steps = 2;
  g.a_pieces = g.b_pieces = 2;
  g.a = a;
  g.b = b;
  g.a_panel = g.b_panel = kRoom / 2;
  g.c = {sums, kSize};
  g.again = [](const void*, Index, Index, Index, Index, float* wrong) { std::fill_n(wrong, kUnits * kUnits, 0.5f); };
  kernels.multiply(g);
  for (Index i = 0; i < kSize; ++i)
    for (Index j = 0; j < kSize; ++j) {
      float want = 0;  // exact in every order
      for (Index k = 0; k < kSize; ++k) want += x[i * kSize + k] * y[k * kSize + j];
      if (sums[i * kSize + j] != want) return false;
    }
  return true;
}

const char* why_this_machine_has_none() {
  if (!processor_has_tiles()) return "this processor has no AMX tiles for bfloat16";
  if (active_isa() != Isa::avx512) return "LOOPOS_ISA asks for less than avx512";
  if (!system_grants_tiles()) return "the operating system does not let this process use the processor's AMX tiles";
  if (!tiles_compute()) return "the AMX tiles of this machine gave a wrong product when they were tried";
  return "";
}
#else
const char* why_this_machine_has_none() {
  return "this build has no products on AMX tiles, which need x86-64, Linux and g++ 11 or clang 12";
}
#endif

struct Chosen {
  Products products;
  const char* why;
  PieceKernels kernels;
};

Chosen tiles_if(const char* why) {
#if defined(LOOPOS_TILES)
  if (*why == 0) return {Products::tiles, why, tiles::piece_kernels()};
#endif
  return {Products::fma, why, {}};
}

/// LOOPOS_PRODUCTS as it was when it was asked for first, at import.
const std::string& wanted_products() {
  static const std::string once = [] {
    const char* text = std::getenv("LOOPOS_PRODUCTS");
    return std::string(text ? text : "");
  }();
  return once;
}

Chosen choose() {
  const std::string& wanted = wanted_products();
  if (wanted.empty()) return tiles_if(why_this_machine_has_none());
  if (wanted == "fma") return {Products::fma, "LOOPOS_PRODUCTS=fma", {}};
  if (wanted == "emulated") {
    require(emulated_pieces().pack != nullptr,
            "LOOPOS_PRODUCTS=emulated: needs an x86 processor with fused multiply-adds, and LOOPOS_ISA avx2 or avx512");
    return {Products::emulated, "LOOPOS_PRODUCTS=emulated", emulated_pieces()};
  }
  require(wanted == "tiles", "LOOPOS_PRODUCTS='", wanted, "': expected fma, tiles or emulated");
  const char* why = why_this_machine_has_none();
  require(*why == 0, "LOOPOS_PRODUCTS=tiles: ", why);
  return tiles_if(why);
}

const Chosen& chosen() {
  static const Chosen once = choose();
  return once;
}

}  // namespace

Products products() {
  return chosen().products;
}
void check_wanted_products() {
  if (!wanted_products().empty()) chosen();
}
const char* products_name(Products products) {
  return products == Products::tiles ? "tiles" : products == Products::emulated ? "emulated" : "fma";
}
const char* why_no_tiles() {
  return chosen().why;
}
const PieceKernels& piece_kernels() {
  return chosen().kernels;
}

int pieces_of(Precision precision) {
  if (products() == Products::fma) return 0;
  return precision == Precision::float32 ? 3 : precision == Precision::bf16x3 ? 2 : 1;
}
int pieces_of(Precision precision, Index k, Index n) {
  const bool exact = precision == Precision::float32;
  return k >= (exact ? 256 : 32) && n >= (exact ? 256 : 16) ? pieces_of(precision) : 0;
}

std::string products_of(Precision precision) {
  const int pieces = pieces_of(precision);
  if (pieces == 0) return "fma";
  return std::string(products_name(products())) + (pieces == 3 ? " bf16x6" : pieces == 2 ? " bf16x3" : " bf16");
}

}  // namespace loopos::kernels
