// How much memory this process may take: what the machine has, and what the
// container (the control groups, version 1 or 2) that it runs in allows.
#ifndef OUNCE_BASE_SYSTEM_MEMORY_H_
#define OUNCE_BASE_SYSTEM_MEMORY_H_

#include <cstdint>
#include <string>

namespace ounce {

// Bytes. INT64_MAX: not known, or no limit.
struct SystemMemory {
  // What the machine has, or the least limit of the control groups that this
  // process is in, nested ones included: whoever takes more is killed.
  int64_t limit_bytes = INT64_MAX;
  // Whether a control group sets it.
  bool limit_is_cgroup = false;
  // What could be taken now beside what all others have: the machine's
  // MemAvailable, or less where a group has less left. The page cache counts as
  // available, for the kernel gives it up before it kills.
  int64_t available_bytes = INT64_MAX;
};

// `root` stands before /proc and /sys, for tests; the mount points in its
// /proc/self/mountinfo are taken inside it.
//
// Read are: memory.max, memory.high, memory.current and memory.stat of a group
// of version 2; memory.limit_in_bytes, memory.usage_in_bytes and memory.stat of
// one of version 1 (hierarchical_memory_limit included, which tells of groups
// above the mounted ones).
SystemMemory ReadSystemMemory(const std::string& root = "");

}  // namespace ounce

#endif  // OUNCE_BASE_SYSTEM_MEMORY_H_
