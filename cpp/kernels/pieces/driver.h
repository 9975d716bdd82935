// Products of bfloat16 pieces: partition among threads, slices of k, packing.
#pragma once

#include "kernels/gemm/driver.h"

namespace loopos::kernels {

/// C = A B + epilogue with so many pieces of A. serial: on the calling thread alone.
template <class A, class B>
void piece_product(bool serial, const Matrix<A>& a, const Matrix<B>& b, const Output<float>& c,
                   const Epilogue<float>& epilogue, int pieces);

/// B packed beforehand, in memory of so many floats: all of k, panel after panel.
Index packed_pieces_size(Index k, Index n, int pieces);
template <class B>
void pack_pieces(const Matrix<B>& b, Index begin, Index end, int pieces, float* memory);
/// C = A times the first n columns of a B that is packed so, + epilogue.
template <class A, class B>
void packed_piece_product(const Matrix<A>& a, const Matrix<B>& b, const float* memory, Index n, const Output<float>& c,
                          const Epilogue<float>& epilogue, int pieces);

}  // namespace loopos::kernels
