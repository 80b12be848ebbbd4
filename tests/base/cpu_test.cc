#include "base/cpu.h"

#include <sched.h>

#include <cstdlib>

#include "gtest/gtest.h"

namespace ounce {
namespace {

TEST(CpuTest, NamesAreWhatTheEnvironmentVariableTakes) {
  EXPECT_EQ("portable", IsaName(Isa::kPortable));
  EXPECT_EQ("avx2", IsaName(Isa::kAvx2));
  EXPECT_EQ("avx512vnni", IsaName(Isa::kAvx512));
  EXPECT_EQ("avx512", IsaName(Isa::kAvx512Bf16));
  EXPECT_EQ("amx", IsaName(Isa::kAmx));
}

TEST(CpuTest, BestIsaIsNeverAboveWhatTheEnvironmentNames) {
  // The answer is computed once per process, so each case is a process.
  for (const Isa limit : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512,
                          Isa::kAvx512Bf16}) {
    EXPECT_EXIT(
        {
          setenv("OUNCE_MAX_ISA", std::string(IsaName(limit)).c_str(), 1);
          std::exit(BestIsa() <= limit ? 0 : 1);
        },
        testing::ExitedWithCode(0), "");
  }
  EXPECT_EXIT(
      {
        setenv("OUNCE_MAX_ISA", "portable", 1);
        std::exit(BestIsa() == Isa::kPortable ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(CpuTest, NumCpusIsWithinTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof before, &before));
  EXPECT_GE(NumCpus(), 1);
  EXPECT_LE(NumCpus(), CPU_COUNT(&before));
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(0, sched_setaffinity(0, sizeof one, &one));
  EXPECT_EQ(1, NumCpus());
  ASSERT_EQ(0, sched_setaffinity(0, sizeof before, &before));
}

}  // namespace
}  // namespace ounce
