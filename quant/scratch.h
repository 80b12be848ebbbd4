// Working memory of a decode step: bump allocation, nothing freed in between.
//
// The owner (an engine) sizes it once for the largest step and resets it
// between layers, so that the decode loop never allocates.
//
// How large that is, a counting pass tells: the step itself is run on a
// Scratch::Counting() and a ThreadPool::Idle, and peak() is what it would take.
// So what is taken is said in one place. Code that such a pass runs takes
// first, and touches what it took inside ParallelFor or not at all if
// counting().
//
// Threads: one at a time; workers get their slices from the caller.
#ifndef OUNCE_QUANT_SCRATCH_H_
#define OUNCE_QUANT_SCRATCH_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "base/check.h"
#include "base/mapped_memory.h"

namespace ounce::quant {

class Scratch {
 public:
  static absl::StatusOr<Scratch> Create(size_t bytes) {
    Scratch scratch;
    auto memory = MappedMemory::Create(bytes);
    if (!memory.ok()) return memory.status();
    scratch.memory_ = *std::move(memory);
    return scratch;
  }

  // Without memory: what Take returns must not be touched.
  static Scratch Counting() {
    Scratch scratch;
    scratch.counting_ = true;
    return scratch;
  }
  bool counting() const { return counting_; }

  // `count` elements of T, 64-byte aligned, not initialized. Running out is a
  // bug of whoever sized it.
  template <class T>
  T* Take(int64_t count) {
    const size_t bytes = (count * sizeof(T) + 63) & ~size_t{63};
    OUNCE_CHECK(counting_ || bytes <= memory_.size() - used_,
                "scratch sized too small");
    std::byte* result = base() + used_;
    used_ += bytes;
    if (used_ > peak_) peak_ = used_;
    return reinterpret_cast<T*>(result);
  }

  // Marks and returns: what was taken since a mark is given back at once.
  size_t mark() const { return used_; }
  void ReturnTo(size_t mark) { used_ = mark; }

  size_t capacity() const { return memory_.size(); }
  size_t peak() const { return peak_; }  // most bytes in use so far

 private:
  // Without memory, no address that anything lies at, and no null.
  std::byte* base() const {
    constexpr uintptr_t kNowhere = 64;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed.
    return counting_ ? reinterpret_cast<std::byte*>(kNowhere) : memory_.data();
  }

  MappedMemory memory_;
  bool counting_ = false;
  size_t used_ = 0;
  size_t peak_ = 0;
};

// Takes from `scratch` inside a scope.
class ScratchScope {
 public:
  explicit ScratchScope(Scratch& scratch)
      : scratch_(scratch), mark_(scratch.mark()) {}
  ~ScratchScope() { scratch_.ReturnTo(mark_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Scratch& scratch_;
  const size_t mark_;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_SCRATCH_H_
