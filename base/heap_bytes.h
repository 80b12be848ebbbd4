// Bytes of the heap that containers hold, with what malloc keeps beside each
// allocation. What elements hold themselves is not looked into.
#ifndef OUNCE_BASE_HEAP_BYTES_H_
#define OUNCE_BASE_HEAP_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ounce {

// Of one allocation by glibc's malloc; nothing for none.
inline int64_t AllocationBytes(size_t bytes) {
  constexpr size_t kHeader = 8, kLeast = 32, kUnit = 16;
  if (bytes == 0) return 0;
  const size_t taken = (bytes + kHeader + kUnit - 1) / kUnit * kUnit;
  return static_cast<int64_t>(taken < kLeast ? kLeast : taken);
}

inline int64_t HeapBytes(const std::string& text) {
  const size_t inside = std::string().capacity();
  return text.capacity() <= inside ? 0 : AllocationBytes(text.capacity() + 1);
}

template <class T>
int64_t HeapBytes(const std::vector<T>& elements) {
  return AllocationBytes(elements.capacity() * sizeof(T));
}

// Of an absl::flat_hash_map or flat_hash_set: a place and a byte about it for
// each of its buckets, and a few more of these.
template <class Table>
int64_t HashTableBytes(const Table& table) {
  constexpr size_t kMoreBytes = 16;
  const size_t buckets = table.bucket_count();
  if (buckets == 0) return 0;
  return AllocationBytes(buckets * (sizeof(typename Table::value_type) + 1) +
                         kMoreBytes);
}

}  // namespace ounce

#endif  // OUNCE_BASE_HEAP_BYTES_H_
