// What this process may use of the machine.
#ifndef OUNCE_BASE_CPU_H_
#define OUNCE_BASE_CPU_H_

#include <string_view>

namespace ounce {

// Instruction sets that kernels are written for, each a superset of the one
// before. kAvx2 means AVX2, FMA and F16C; kAvx512 adds AVX-512 F, BW,
// DQ, VL and VNNI; kAvx512Bf16 adds AVX-512 BF16; kAmx adds AMX-INT8 and
// AMX-BF16.
enum class Isa {
  kPortable = 0,
  kAvx2 = 1,
  kAvx512 = 2,
  kAvx512Bf16 = 3,
  kAmx = 4
};
inline constexpr int kNumIsas = 5;

// "portable", "avx2", "avx512vnni", "avx512", "amx": so "avx512", as a limit,
// is all of AVX-512 that the CPU has.
std::string_view IsaName(Isa isa);

// The best that this CPU and kernel offer, at most what the environment
// variable OUNCE_MAX_ISA names (by IsaName; for tests and bug reports). The
// first call asks the kernel for the right to use AMX tiles in this process.
Isa BestIsa();

// CPUs this process may keep busy: the smaller of its affinity mask and its
// cgroup's quota (v1 or v2), rounded up; at least 1.
int NumCpus();

}  // namespace ounce

#endif  // OUNCE_BASE_CPU_H_
