// Large memory that goes back to the system the moment it is freed.
//
// Weights, KV blocks and scratch live here and never in malloc's heap, which
// keeps what it once had.
#ifndef OUNCE_BASE_MAPPED_MEMORY_H_
#define OUNCE_BASE_MAPPED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace ounce {

// An anonymous private mapping: zeros, physical pages on first touch.
//
// Ownership: unmapped by the destructor. Movable.
class MappedMemory {
 public:
  MappedMemory() = default;
  MappedMemory(MappedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedMemory();

  // Page-aligned. kResourceExhausted when the system refuses. size 0 is empty.
  static absl::StatusOr<MappedMemory> Create(size_t size);

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  // Gives the pages of [offset, offset + length) back; they read as zero after.
  // Both multiples of the page size, or the end of the mapping.
  void Release(size_t offset, size_t length);

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Resident set size of this process now, and its highest so far, in bytes
// (/proc/self/status; 0 when it cannot be read).
int64_t ResidentBytes();
int64_t PeakResidentBytes();

}  // namespace ounce

#endif  // OUNCE_BASE_MAPPED_MEMORY_H_
