#include "base/mapped_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace ounce {
namespace {

constexpr size_t kMinHugePageBytes = 4 << 20;

int64_t ReadStatusField(const char* field) {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return 0;
  char line[256];
  int64_t kilobytes = 0;
  const size_t field_length = std::strlen(field);
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, field, field_length) == 0) {
      kilobytes = std::strtoll(line + field_length, nullptr, 10);
      break;
    }
  }
  std::fclose(file);
  return kilobytes * 1024;
}

}  // namespace

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

absl::StatusOr<MappedMemory> MappedMemory::Create(size_t size) {
  MappedMemory memory;
  if (size == 0) return memory;
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot map ", size, " bytes of memory: ", std::strerror(errno)));
  }
  // Fewer TLB misses; fine if refused. Smaller mappings may be touched only
  // here and there, and would become resident by two megabytes at a time.
  if (size >= kMinHugePageBytes) madvise(data, size, MADV_HUGEPAGE);
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_ = size;
  return memory;
}

void MappedMemory::Release(size_t offset, size_t length) {
  if (length > 0) madvise(data_ + offset, length, MADV_DONTNEED);
}

int64_t ResidentBytes() { return ReadStatusField("VmRSS:"); }
int64_t PeakResidentBytes() { return ReadStatusField("VmHWM:"); }

}  // namespace ounce
