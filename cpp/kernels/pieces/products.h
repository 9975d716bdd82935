// What products of each precision are computed with on this machine. Chosen once, at first use.
#pragma once

#include <string>

#include "core/precision.h"
#include "kernels/pieces/pieces.h"

namespace loopos::kernels {

enum class Products {
  fma,       // multiply-adds of float32, whatever the precision
  tiles,     // the matrix tiles of AMX, where a precision is bfloat16 pieces
  emulated,  // the same bits by multiply-adds, on any processor that has them: for tests
};

/// LOOPOS_PRODUCTS names one; else tiles where the processor, the system and a first product say so.
Products products();
/// Reads LOOPOS_PRODUCTS and refuses what cannot be. Without one nothing is asked of the system yet: a process that has been given
/// tiles can no longer use small stacks for signals.
void check_wanted_products();
const char* products_name(Products products);
/// Why products() is not tiles, as a sentence; empty where it is.
const char* why_no_tiles();

/// How many bfloat16 pieces stand for a factor of this precision here; 0: products are multiply-adds of float32.
int pieces_of(Precision precision);
/// The same of a product with B (k, n), if A has rows enough: 0 where it is not worth pieces.
int pieces_of(Precision precision, Index k, Index n);
/// For people: "fma", "tiles bf16x6", "emulated bf16", ...
std::string products_of(Precision precision);

/// Of products() that are not fma.
const PieceKernels& piece_kernels();

}  // namespace loopos::kernels
