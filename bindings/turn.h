// One call at a time.
#pragma once

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace loopos::bind {

/// A mutex whose thread is told when it would wait for itself: a loss in Python that calls the model that it is the loss
/// of.
class Turn {
 public:
  void lock() {
    if (owner_.load() == std::this_thread::get_id())
      throw std::logic_error(
          "Model: a loss function must not call the model that it is the loss of; compute what it needs before");
    mutex_.lock();
    owner_.store(std::this_thread::get_id());
  }
  void unlock() {
    owner_.store({});
    mutex_.unlock();
  }

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};
};

}  // namespace loopos::bind
