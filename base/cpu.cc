#include "base/cpu.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

namespace ounce {
namespace {

// The kernel lets a process use AMX tile data only after it has asked
// (Documentation/arch/x86/xstate.rst).
bool RequestAmxPermission() {
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

bool CpuHasAmx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  return (edx & (kBf16 | kTile | kInt8)) == (kBf16 | kTile | kInt8);
}

bool CpuHasAvx512Bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kAvx512Bf16 = 1u << 5;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax & kAvx512Bf16) != 0;
}

// Not __builtin_cpu_supports("f16c"), which clang 14 doesn't know. Whether the
// kernel saves the registers, "avx2" has told.
bool CpuHasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

Isa DetectIsa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !CpuHasF16c()) {
    return Isa::kPortable;
  }
  if (!__builtin_cpu_supports("avx512f") ||
      !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512vnni")) {
    return Isa::kAvx2;
  }
  if (!CpuHasAvx512Bf16()) return Isa::kAvx512;
  return CpuHasAmx() && RequestAmxPermission() ? Isa::kAmx : Isa::kAvx512Bf16;
}

// CPUs granted by the quota of one cgroup's folder, of version 2 or 1; infinite
// when there is none.
double QuotaOf(const std::string& folder) {
  std::string quota;
  double period = 0;
  if (std::ifstream v2(folder + "/cpu.max"); !(v2 >> quota >> period)) {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  const double micros = std::atof(quota.c_str());  // 0 for "max", or -1
  return micros > 0 && period > 0 ? micros / period : HUGE_VAL;
}

// The least quota of this process's cgroup and those above it.
double CgroupQuota() {
  double least =
      std::min(QuotaOf("/sys/fs/cgroup"), QuotaOf("/sys/fs/cgroup/cpu"));
  // Lines are "0::/path" (version 2) or "4:cpu,cpuacct:/path".
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers.rfind("cpu", 0) != 0) continue;
    const std::string root =
        controllers.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    for (std::string path = line.substr(second + 1); path.size() > 1;
         path.erase(path.rfind('/'))) {
      if (path[0] != '/') break;
      least = std::min(least, QuotaOf(root + path));
    }
  }
  return least;
}

}  // namespace

std::string_view IsaName(Isa isa) {
  constexpr std::string_view kNames[kNumIsas] = {"portable", "avx2",
                                                 "avx512vnni", "avx512", "amx"};
  return kNames[static_cast<int>(isa)];
}

Isa BestIsa() {
  static const Isa best = [] {
    const Isa detected = DetectIsa();
    const char* limit = std::getenv("OUNCE_MAX_ISA");
    if (limit == nullptr) return detected;
    for (int i = 0; i < kNumIsas; ++i) {
      const Isa isa = static_cast<Isa>(i);
      if (IsaName(isa) == limit) return std::min(isa, detected);
    }
    return detected;
  }();
  return best;
}

int NumCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
  const double granted = std::min(std::ceil(CgroupQuota()), 1.0 * cpus);
  return std::max(static_cast<int>(granted), 1);
}

}  // namespace ounce
