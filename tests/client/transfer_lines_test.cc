#include "client/transfer_lines.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(TransferTextTest, HasABarForEachFileUnderWayAndOneForAll) {
  const hub::Progress progress = {
      .files = {{"config.json", 1024, 1024},
                {"model-1.safetensors", 4 << 20, 2 << 20},
                {"model-2.safetensors", 4 << 20, 0, false, /*waits=*/true},
                {"model-3.safetensors", 4 << 20, 0}},
      .bytes = 16 << 20,
      .bytes_done = 4 << 20};
  EXPECT_THAT(
      TransferText(progress, absl::Seconds(2), 9),
      ElementsAre(
          "[############............]  50% model-1.safetensors of 4.00 MiB",
          "[........................]   0% model-2.safetensors: waits for "
          "another process that fetches it",
          "[######..................]  25% 4.00 MiB of 16.0 MiB, 2.00 MiB/s, "
          "6s left"));
}

TEST(TransferTextTest, CountsOnlyWhatMovedForTheSpeed) {
  const hub::Progress progress = {
      .files = {{"old", 3 << 20, 3 << 20, /*was_there=*/true},
                {"new", 2 << 20, 1 << 20}},
      .bytes = 5 << 20,
      .bytes_done = 4 << 20};
  EXPECT_THAT(TransferText(progress, absl::Seconds(2), 9).back(),
              HasSubstr("512 KiB/s, 2s left"));
}

TEST(TransferTextTest, ShowsNoMoreLinesThanThereIsRoomFor) {
  hub::Progress progress;
  for (int i = 0; i < 20; ++i) progress.files.push_back({"x", 10, 5});
  EXPECT_THAT(TransferText(progress, absl::ZeroDuration(), 4), SizeIs(4));
}

}  // namespace
}  // namespace ounce::client
