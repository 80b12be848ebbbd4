#include "server/engine/coco_average_precision.h"

#include <sys/resource.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ounce::server {
namespace {

CocoBox BoxOf(const nlohmann::json& sides) {
  return {sides[0], sides[1], sides[2], sides[3]};
}

// A thousandth is asked for; the sums are the same up to their order.
constexpr double kTolerance = 1e-9;

TEST(CocoAveragePrecisionTest, IsWhatPycocotoolsFinds) {
  const auto goldens =
      nlohmann::json::parse(std::ifstream("tests/golden/coco/cases.json"));
  ASSERT_EQ(goldens["cases"].size(), 7u);
  for (const auto& golden : goldens["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    std::vector<CocoPicture> pictures;
    for (const auto& from : golden["pictures"]) {
      CocoPicture& picture = pictures.emplace_back();
      for (const auto& object : from["objects"]) {
        picture.objects.push_back({.category = object["category_id"],
                                   .box = BoxOf(object["bbox"]),
                                   .area = object["area"],
                                   .crowd = object["iscrowd"] == 1});
      }
      for (const auto& detection : from["detections"]) {
        picture.detections.push_back({.category = detection["category_id"],
                                      .box = BoxOf(detection["bbox"]),
                                      .score = detection["score"]});
      }
    }
    const CocoAveragePrecision found = ComputeCocoAveragePrecision(pictures);
    const auto& expected = golden["expected"];
    EXPECT_NEAR(found.ap, expected[0].get<double>(), kTolerance);
    EXPECT_NEAR(found.ap50, expected[1].get<double>(), kTolerance);
    EXPECT_NEAR(found.ap75, expected[2].get<double>(), kTolerance);
    EXPECT_NEAR(found.ap_small, expected[3].get<double>(), kTolerance);
    EXPECT_NEAR(found.ap_medium, expected[4].get<double>(), kTolerance);
    EXPECT_NEAR(found.ap_large, expected[5].get<double>(), kTolerance);
  }
}

TEST(CocoAveragePrecisionTest, ThereIsNoneWithoutObjects) {
  const CocoBox box = {0, 0, 50, 50};
  CocoPicture picture;
  picture.detections = {{.category = 1, .box = box, .score = 0.5}};
  EXPECT_EQ(ComputeCocoAveragePrecision({}).ap, -1);
  EXPECT_EQ(ComputeCocoAveragePrecision({picture}).ap, -1);
  picture.objects = {{.category = 1, .box = box, .area = 2500, .crowd = true}};
  EXPECT_EQ(ComputeCocoAveragePrecision({picture}).ap, -1);
  picture.objects[0].crowd = false;
  const CocoAveragePrecision found = ComputeCocoAveragePrecision({picture});
  EXPECT_NEAR(found.ap, 1, 1e-12);
  EXPECT_NEAR(found.ap_medium, 1, 1e-12);
  EXPECT_EQ(found.ap_small, -1);
  EXPECT_EQ(found.ap_large, -1);
  // An object that nothing found is one none the less.
  picture.detections.clear();
  EXPECT_EQ(ComputeCocoAveragePrecision({picture}).ap, 0);
}

// As many as a request may have pictures, and a label of its own in each:
// gigabytes, if each label had room in each picture.
TEST(CocoAveragePrecisionTest, TakesMemoryForWhatThereIs) {
  constexpr int64_t kPictures = 8192;
  const auto peak_kib = [] {
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss;
  };
  const CocoBox box = {0, 0, 50, 50};
  std::vector<CocoPicture> pictures(kPictures);
  for (int64_t i = 0; i < kPictures; ++i) {
    pictures[i].objects = {{.category = i, .box = box, .area = 2500}};
    pictures[i].detections = {{.category = i, .box = box, .score = 0.5}};
  }
  const int64_t before = peak_kib();
  EXPECT_NEAR(ComputeCocoAveragePrecision(pictures).ap, 1, 1e-12);
  EXPECT_LT(peak_kib() - before, 256 << 10);
}

}  // namespace
}  // namespace ounce::server
