#include "base/system_memory.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace ounce {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// A machine of 8 GiB, 6 of them available, in the files of a folder.
class SystemMemoryTest : public ::testing::Test {
 protected:
  SystemMemoryTest() {
    Write("/proc/meminfo",
          "MemTotal:        8388608 kB\nMemFree:          100000 kB\n"
          "MemAvailable:    6291456 kB\nBuffers:           10000 kB\n");
  }
  void Write(const std::string& path, const std::string& text) {
    folder_.WriteFile(path.substr(1), text);
  }
  void Mount2(const std::string& group, const std::string& mount_root = "/") {
    Write("/proc/self/cgroup", absl::StrCat("0::", group, "\n"));
    Write("/proc/self/mountinfo",
          absl::StrCat("22 1 0:20 / /sys rw,nosuid - sysfs sysfs rw\n"
                       "31 22 0:27 ",
                       mount_root,
                       " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 "
                       "rw,nsdelegate\n"));
  }
  void Group2(const std::string& group, const std::string& max,
              int64_t current = 0, int64_t cache = 0) {
    const std::string folder = absl::StrCat("/sys/fs/cgroup", group, "/");
    Write(folder + "memory.max", max + "\n");
    Write(folder + "memory.high", "max\n");
    Write(folder + "memory.current", absl::StrCat(current, "\n"));
    Write(folder + "memory.stat",
          absl::StrCat("anon 5\nfile 6\nactive_file ", cache / 4,
                       "\ninactive_file ", cache - cache / 4, "\n"));
  }
  void Mount1(const std::string& group, const std::string& mount_root = "/") {
    Write("/proc/self/cgroup",
          absl::StrCat("9:name=systemd:/\n5:memory:", group,
                       "\n4:cpu,cpuacct:/other\n0::/\n"));
    Write("/proc/self/mountinfo",
          absl::StrCat("30 22 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup "
                       "rw,cpu,cpuacct\n35 22 0:32 ",
                       mount_root,
                       " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                       "41 22 0:38 / /sys/fs/cgroup/unified rw - cgroup2 "
                       "cgroup2 rw\n"));
  }
  void Group1(const std::string& group, int64_t limit, int64_t usage = 0,
              int64_t cache = 0, int64_t hierarchical = INT64_MAX) {
    const std::string folder =
        absl::StrCat("/sys/fs/cgroup/memory", group, "/");
    Write(folder + "memory.limit_in_bytes", absl::StrCat(limit, "\n"));
    Write(folder + "memory.usage_in_bytes", absl::StrCat(usage, "\n"));
    Write(folder + "memory.stat",
          absl::StrCat("cache 1\ninactive_file 7\nhierarchical_memory_limit ",
                       hierarchical, "\ntotal_inactive_file ", cache - 10,
                       "\ntotal_active_file 10\n"));
  }
  std::string root() const { return folder_.path().string(); }

  const testing::TempFolder folder_;
};

// What version 1 says for "no limit".
constexpr int64_t kUnlimited1 = 0x7FFFFFFFFFFFF000;

TEST_F(SystemMemoryTest, WithoutGroupsItIsTheMachines) {
  const SystemMemory memory = ReadSystemMemory(root());
  EXPECT_EQ(memory.limit_bytes, 8192 * kMiB);
  EXPECT_EQ(memory.available_bytes, 6144 * kMiB);
  EXPECT_FALSE(memory.limit_is_cgroup);
}

TEST_F(SystemMemoryTest, ReadsAGroupOfVersion2) {
  Mount2("/service");
  Group2("/service", absl::StrCat(260 * kMiB), 100 * kMiB, 40 * kMiB);
  const SystemMemory memory = ReadSystemMemory(root());
  EXPECT_EQ(memory.limit_bytes, 260 * kMiB);
  EXPECT_TRUE(memory.limit_is_cgroup);
  // Its page cache is not in the way.
  EXPECT_EQ(memory.available_bytes, 200 * kMiB);
}

TEST_F(SystemMemoryTest, TheLeastOfNestedGroupsCounts) {
  Mount2("/pods/one/container");
  Group2("/pods/one/container", "max", 90 * kMiB);
  Group2("/pods/one", absl::StrCat(512 * kMiB), 100 * kMiB);
  Group2("/pods", absl::StrCat(4096 * kMiB), 4000 * kMiB);
  SystemMemory memory = ReadSystemMemory(root());
  EXPECT_EQ(memory.limit_bytes, 512 * kMiB);
  // The group of all pods is nearly full.
  EXPECT_EQ(memory.available_bytes, 96 * kMiB);
  Group2("/pods/one/container", absl::StrCat(200 * kMiB), 190 * kMiB);
  memory = ReadSystemMemory(root());
  EXPECT_EQ(memory.limit_bytes, 200 * kMiB);
  EXPECT_EQ(memory.available_bytes, 10 * kMiB);
}

TEST_F(SystemMemoryTest, AGroupThatIsThrottledAboveItsHighMarkEndsThere) {
  Mount2("/a");
  Group2("/a", absl::StrCat(512 * kMiB), 100 * kMiB);
  Write("/sys/fs/cgroup/a/memory.high", absl::StrCat(300 * kMiB));
  EXPECT_EQ(ReadSystemMemory(root()).limit_bytes, 300 * kMiB);
}

TEST_F(SystemMemoryTest, InAContainerOfItsOwnTheMountPointIsTheGroup) {
  // With a cgroup namespace, and without one.
  for (const auto& [group, mount_root] :
       {std::pair("/", "/"), {"/docker/abc", "/docker/abc"}, {"/../x", "/"}}) {
    Mount2(group, mount_root);
    Group2("", absl::StrCat(260 * kMiB), 60 * kMiB);
    const SystemMemory memory = ReadSystemMemory(root());
    EXPECT_EQ(memory.limit_bytes, 260 * kMiB) << group;
    EXPECT_EQ(memory.available_bytes, 200 * kMiB) << group;
  }
}

TEST_F(SystemMemoryTest, ReadsGroupsOfVersion1) {
  Mount1("/docker/abc");
  Group1("", kUnlimited1, 7000 * kMiB);
  Group1("/docker", 1024 * kMiB, 500 * kMiB, 100 * kMiB);
  Group1("/docker/abc", kUnlimited1, 300 * kMiB);
  SystemMemory memory = ReadSystemMemory(root());
  EXPECT_EQ(memory.limit_bytes, 1024 * kMiB);
  EXPECT_TRUE(memory.limit_is_cgroup);
  EXPECT_EQ(memory.available_bytes, 624 * kMiB);
  // A limit above what is mounted here.
  Mount1("/docker/abc", "/docker/abc");
  Group1("", kUnlimited1, 300 * kMiB, 100 * kMiB, 400 * kMiB);
  memory = ReadSystemMemory(root());
  EXPECT_EQ(memory.limit_bytes, 400 * kMiB);
  EXPECT_EQ(memory.available_bytes, 200 * kMiB);
}

TEST_F(SystemMemoryTest, AGroupOverItsLimitHasNothingLeft) {
  Mount2("/a");
  Group2("/a", "1000000", 1100000);
  EXPECT_EQ(ReadSystemMemory(root()).available_bytes, 0);
}

TEST_F(SystemMemoryTest, FilesThatMakeNoSenseAreNoLimit) {
  Mount2("/a");
  for (const char* max : {"max", "", "-5", "lots", "99999999999999999999999"}) {
    Group2("/a", max);
    EXPECT_EQ(ReadSystemMemory(root()).limit_bytes, 8192 * kMiB) << max;
  }
  Write("/proc/self/mountinfo", "a b\n - - -\n31 22 0:27 / /x rw - cgroup2\n");
  EXPECT_EQ(ReadSystemMemory(root()).limit_bytes, 8192 * kMiB);
  EXPECT_EQ(ReadSystemMemory(root() + "/nothing").limit_bytes, INT64_MAX);
}

TEST(SystemMemory, KnowsThisMachine) {
  const SystemMemory memory = ReadSystemMemory();
  EXPECT_GT(memory.limit_bytes, kMiB);
  EXPECT_LT(memory.limit_bytes, INT64_MAX);
  EXPECT_GT(memory.available_bytes, 0);
  EXPECT_LE(memory.available_bytes, memory.limit_bytes);
}

}  // namespace
}  // namespace ounce
