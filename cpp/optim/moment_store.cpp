#include "optim/moment_store.h"

#include <algorithm>
#include <type_traits>

#include "kernels/isa/table.h"

namespace loopos {
namespace {

template <class N>
Buffer<N> zeros(Index n) {
  Buffer<N> buffer(n);
  std::fill(buffer.data(), buffer.data() + n, N(0));
  return buffer;
}

}  // namespace

MomentStorage moment_storage(const std::string& name) {
  if (name == "float32") return MomentStorage::full;
  if (name == "bfloat16") return MomentStorage::bfloat16;
  if (name == "8bit") return MomentStorage::eight_bit;
  throw std::invalid_argument(cat("Optimizer: moments must be one of 'float32', 'bfloat16', '8bit', got '", name, "'"));
}

template <class T>
MomentStore<T>::MomentStore(MomentStorage storage, bool negative, Index size) : storage_(storage), negative_(negative) {
  require(storage == MomentStorage::full || std::is_same_v<T, float>,
          "Optimizer: moments in fewer bits are of float32 weights; those of float64 weights are float64");
  if (storage == MomentStorage::full) full_ = zeros<T>(size);
  if (storage == MomentStorage::bfloat16) halves_ = zeros<std::uint16_t>(size);
  if (storage == MomentStorage::eight_bit) {
    codes_ = zeros<std::uint8_t>(size);
    scales_ = zeros<float>((size + kernels::kMomentBlock - 1) / kernels::kMomentBlock);
  }
}

template <class T>
T* MomentStore<T>::numbers(Index at, Index n, T* room) {
  if constexpr (std::is_same_v<T, float>) {
    const auto& k = kernels::moments();
    if (storage_ == MomentStorage::bfloat16) {
      k.from_bfloat16(halves_.data() + at, n, room);
      return room;
    }
    if (storage_ == MomentStorage::eight_bit) {
      k.from_codes[negative_](codes_.data() + at, scales(at), n, room);
      return room;
    }
  }
  static_cast<void>(n);
  static_cast<void>(room);
  return full_.data() + at;
}

template <class T>
double MomentStore<T>::keep(Index at, Index n, const T* x, std::uint32_t word) {
  if constexpr (std::is_same_v<T, float>) {
    const auto& k = kernels::moments();
    if (storage_ == MomentStorage::bfloat16) return static_cast<double>(k.to_bfloat16(x, n, word, halves_.data() + at));
    if (storage_ == MomentStorage::eight_bit)
      return static_cast<double>(k.to_codes[negative_](x, n, word, codes_.data() + at, scales(at)));
  }
  return 0;  // full: the numbers are the living ones
}

template <class T>
void* MomentStore<T>::kept(Index at) {
  if (storage_ == MomentStorage::bfloat16) return halves_.data() + at;
  if (storage_ == MomentStorage::eight_bit) return codes_.data() + at;
  return full_.data() + at;
}

template class MomentStore<float>;
template class MomentStore<double>;

}  // namespace loopos
