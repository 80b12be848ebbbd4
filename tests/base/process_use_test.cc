#include "base/process_use.h"

#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace ounce {
namespace {

TEST(ProcessUseTest, CountsTheCpuTimeOfThisProcess) {
  const double before = ProcessCpuSeconds();
  volatile int sum = 0;
  while (ProcessCpuSeconds() < before + 0.02) sum = sum + 1;
  EXPECT_GT(before, 0);
  EXPECT_LT(ProcessCpuSeconds(), before + 10);
}

TEST(ProcessUseTest, AddsThePackagesAndNotTheirParts) {
  const testing::TempFolder folder;
  const auto zone = [&](const std::string& zone, const std::string& name,
                        const std::string& microjoules) {
    folder.WriteFile(zone + "/name", name + "\n");
    folder.WriteFile(zone + "/energy_uj", microjoules + "\n");
  };
  const std::string path = folder.path();
  EXPECT_EQ(PackageJoules(path + "/none"), std::nullopt);
  EXPECT_EQ(PackageJoules(path), std::nullopt);
  zone("intel-rapl:0:0", "core", "700000");
  zone("intel-rapl-mmio:0", "package-0", "1500000");
  zone("intel-rapl:2", "psys", "9000000");
  EXPECT_EQ(PackageJoules(path), std::nullopt);
  zone("intel-rapl:0", "package-0", "1500000");
  EXPECT_EQ(PackageJoules(path), 1.5);
  zone("intel-rapl:1", "package-1", "263000000000");
  EXPECT_EQ(PackageJoules(path), 263001.5);
  // One that can't be read makes the sum mean nothing.
  zone("intel-rapl:1", "package-1", "");
  EXPECT_EQ(PackageJoules(path), std::nullopt);
}

}  // namespace
}  // namespace ounce
