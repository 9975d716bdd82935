#include "kernels/gemm/products.h"

namespace loopos::kernels {

Products products() {
  return Products::fma;
}

const char* products_name(Products products) {
  return products == Products::tiles ? "tiles" : products == Products::emulated ? "emulated" : "fma";
}

const char* why_no_tiles() {
  return "this build has no products on tiles";
}

int terms_of(Precision precision) {
  if (products() == Products::fma || precision == Precision::float32) return 0;
  return precision == Precision::bf16x3 ? 3 : 1;
}

std::string products_of(Precision precision) {
  if (terms_of(precision) == 0) return "fma";
  return std::string(products_name(products())) + " " + precision_name(precision);
}

}  // namespace loopos::kernels
