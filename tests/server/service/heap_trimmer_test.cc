#include "server/service/heap_trimmer.h"

#include <atomic>

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

constexpr size_t kLarge = size_t{30} << 20;

bool WaitUntil(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

TEST(HeapTrimmerTest, TrimsAfterALargeRequestAndThenRests) {
  std::atomic<int> trims = 0;
  HeapTrimmer trimmer(absl::Milliseconds(1), [&] { ++trims; });
  trimmer.Note(kLarge);
  EXPECT_TRUE(WaitUntil([&] { return trims == 3; }));
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(trims, 3);
}

TEST(HeapTrimmerTest, LeavesSmallRequestsAlone) {
  std::atomic<int> trims = 0;
  HeapTrimmer trimmer(absl::Milliseconds(1), [&] { ++trims; });
  for (int i = 0; i < 100; ++i) trimmer.Note(1000);
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(trims, 0);
}

TEST(HeapTrimmerTest, TrimsOncePerIntervalHoweverManyThereAre) {
  std::atomic<int> trims = 0;
  HeapTrimmer trimmer(absl::Milliseconds(100), [&] { ++trims; });
  const absl::Time start = absl::Now();
  while (absl::Now() < start + absl::Milliseconds(350)) {
    trimmer.Note(kLarge);
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_GE(trims, 1) << "requests that keep coming do not put it off";
  EXPECT_LE(trims, (absl::Now() - start) / absl::Milliseconds(100));
}

}  // namespace
}  // namespace ounce::server
