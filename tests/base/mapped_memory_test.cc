#include "base/mapped_memory.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "gtest/gtest.h"

namespace ounce {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

TEST(MappedMemoryTest, IsZeroAlignedToPagesAndOfTheSizeAsked) {
  auto memory = MappedMemory::Create(100'000);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(100'000u, memory->size());
  EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(memory->data()) % 4096);
  EXPECT_TRUE(std::all_of(memory->data(), memory->data() + memory->size(),
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST(MappedMemoryTest, EmptyMappingsAreFine) {
  auto memory = MappedMemory::Create(0);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(0u, memory->size());
}

TEST(MappedMemoryTest, RefusesWhatTheSystemCannotMap) {
  const auto memory = MappedMemory::Create(size_t{1} << 62);
  EXPECT_EQ(absl::StatusCode::kResourceExhausted, memory.status().code());
}

TEST(MappedMemoryTest, GoesBackToTheSystemWhenDestroyedMovedOverOrReleased) {
  constexpr size_t kBytes = 64 * kMegabyte;
  const auto make = [] {
    auto memory = MappedMemory::Create(kBytes);
    EXPECT_TRUE(memory.ok());
    std::fill_n(memory->data(), kBytes, std::byte{1});
    return *std::move(memory);
  };
  const int64_t before = ResidentBytes();
  {
    MappedMemory memory = make();
    EXPECT_GE(ResidentBytes(), before + 60 * kMegabyte);
    EXPECT_GE(PeakResidentBytes(), ResidentBytes());
    memory.Release(0, kBytes / 2);
    EXPECT_LE(ResidentBytes(), before + 36 * kMegabyte);
    EXPECT_EQ(std::byte{0}, memory.data()[0]);
    EXPECT_EQ(std::byte{1}, memory.data()[kBytes - 1]);
    memory = make();
    EXPECT_LE(ResidentBytes(), before + 68 * kMegabyte);
  }
  EXPECT_LE(ResidentBytes(), before + 4 * kMegabyte);
}

TEST(MappedMemoryTest, SmallMappingsTakeOnlyThePagesTouched) {
  const int64_t before = ResidentBytes();
  std::vector<MappedMemory> mappings;
  for (int i = 0; i < 100; ++i) {
    auto memory = MappedMemory::Create(3 * kMegabyte);
    ASSERT_TRUE(memory.ok());
    memory->data()[kMegabyte] = std::byte{1};
    mappings.push_back(*std::move(memory));
  }
  EXPECT_LE(ResidentBytes(), before + 8 * kMegabyte);
}

}  // namespace
}  // namespace ounce
