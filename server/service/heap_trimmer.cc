#include "server/service/heap_trimmer.h"

#include <malloc.h>
#include <pthread.h>

#include <utility>

#include "base/clock.h"

namespace ounce::server {
namespace {

constexpr size_t kLargeBytes = size_t{256} << 10;
// One for what is free by then, others for what waited in a queue meanwhile.
constexpr int kRounds = 3;

}  // namespace

HeapTrimmer::HeapTrimmer(absl::Duration interval, std::function<void()> trim)
    : interval_(interval), trim_(std::move(trim)) {
  thread_ = std::thread([this] { Loop(); });
}

HeapTrimmer::~HeapTrimmer() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  wake_.Signal();
  thread_.join();
}

void HeapTrimmer::TrimHeap() { malloc_trim(0); }

void HeapTrimmer::Note(size_t bytes) {
  if (bytes < kLargeBytes) return;
  bool idle;
  {
    MutexLock lock(&mu_);
    idle = std::exchange(rounds_, kRounds) == 0;
  }
  if (idle) wake_.Signal();
}

void HeapTrimmer::Loop() {
  pthread_setname_np(pthread_self(), "ounce-trim");
  while (true) {
    {
      MutexLock lock(&mu_);
      while (rounds_ == 0 && !stopping_) wake_.Wait(&mu_);
      // Not at once: others that come together are given back together.
      const absl::Time until = Clock::Real().Now() + interval_;
      while (!stopping_ && Clock::Real().Now() < until) {
        wake_.WaitFor(&mu_, until - Clock::Real().Now());
      }
      if (stopping_) return;
      --rounds_;
    }
    trim_();
  }
}

}  // namespace ounce::server
