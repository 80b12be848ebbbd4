// An array of plain values in scratch that a counting pass may write too: sizes
// and places that what comes after is counted by.
#ifndef OUNCE_QUANT_SCRATCH_ARRAY_H_
#define OUNCE_QUANT_SCRATCH_ARRAY_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "quant/scratch.h"

namespace ounce::quant {

// Ownership: in scratch as long as what was taken there; a counting pass has it
// on the heap, as long as this lives.
template <class T>
class ScratchArray {
 public:
  ScratchArray(size_t count, Scratch& scratch)
      : on_heap_(scratch.counting() ? count : 0),
        data_(scratch.Take<T>(static_cast<int64_t>(count)), count) {
    if (scratch.counting()) data_ = absl::MakeSpan(on_heap_);
  }
  ScratchArray(const ScratchArray&) = delete;
  ScratchArray& operator=(const ScratchArray&) = delete;

  absl::Span<T> span() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  std::vector<T> on_heap_;
  absl::Span<T> data_;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_SCRATCH_ARRAY_H_
