// What a counting pass says that a step takes; and scratch that is full of NaN:
// what an earlier step left there must not matter.
#ifndef OUNCE_TESTS_QUANT_COUNTED_SCRATCH_H_
#define OUNCE_TESTS_QUANT_COUNTED_SCRATCH_H_

#include <cstddef>
#include <cstring>
#include <utility>

#include "base/thread_pool.h"
#include "gtest/gtest.h"
#include "quant/scratch.h"

namespace ounce::quant {

// What step(pool, scratch) takes.
template <class Step>
size_t CountedBytes(int num_threads, const Step& step) {
  ThreadPool idle(ThreadPool::Idle{num_threads});
  Scratch counting = Scratch::Counting();
  step(idle, counting);
  return counting.peak();
}

// Of exactly so many bytes.
inline Scratch ScratchOfNans(size_t bytes) {
  auto scratch = Scratch::Create(bytes);
  EXPECT_TRUE(scratch.ok()) << scratch.status();
  if (bytes > 0) {
    std::memset(scratch->Take<std::byte>(0), 0xFF, bytes);
  }
  return *std::move(scratch);
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_COUNTED_SCRATCH_H_
