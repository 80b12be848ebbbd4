#include "client/coco_annotations.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using testing::StatusIs;

TEST(CocoAnnotationsTest, AreReadByTheIdsOfTheirImages) {
  const auto parsed = ParseCocoAnnotations("a.json", R"({"info": {}, "images": [
    {"id": 9, "file_name": "late.jpg"}, {"id": 2, "file_name": "val/early.png"}],
    "annotations": [
    {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1.5, 2, 30, 40.25],
     "area": 600.5, "iscrowd": 1, "segmentation": []},
    {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]},
    {"id": 3, "image_id": 4, "category_id": 3, "bbox": [0, 0, 1, 1]}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]})");
  ASSERT_OK(parsed);
  const std::vector<CocoImage>& images = parsed->images;
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[0].file_name, "val/early.png");
  EXPECT_TRUE(images[0].objects.empty());
  ASSERT_EQ(images[1].objects.size(), 2u);
  const v1::AnnotatedObject& dog = images[1].objects[0];
  EXPECT_EQ(dog.label(), "dog");
  EXPECT_EQ(dog.x(), 1.5);
  EXPECT_EQ(dog.height(), 40.25);
  EXPECT_EQ(dog.area(), 600.5);
  EXPECT_TRUE(dog.crowd());
  const v1::AnnotatedObject& cat = images[1].objects[1];
  EXPECT_EQ(cat.label(), "cat");
  EXPECT_EQ(cat.area(), 0);  // the server's to fill in
  EXPECT_FALSE(cat.crowd());
  // The third is of an image that is not listed.
  EXPECT_EQ(parsed->num_unlisted, 1);
  EXPECT_EQ(parsed->first_unlisted, 4);
}

TEST(CocoAnnotationsTest, WhatIsMissingIsSaid) {
  const auto refusal = [](const std::string& json) {
    return ParseCocoAnnotations("a.json", json).status();
  };
  for (const char* json : {"", "[]", "{", "null", "{}"}) {
    EXPECT_THAT(refusal(json),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         StartsWith("a.json: must be a JSON file")));
  }
  EXPECT_THAT(
      refusal(R"({"images": [{"id": 1}]})"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("file_name")));
  EXPECT_THAT(
      refusal(R"({"images": [{"id": 1, "file_name": "a"}], "annotations":
              [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1]}]})"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("a category that is not listed")));
  const auto of_annotation = [&](const std::string& rest) {
    return std::string(
        refusal(R"({"images": [{"id": 1, "file_name": "a"}], "categories":
                [{"id": 5, "name": "cat"}], "annotations": [{"image_id": 1, )" +
                rest + "}]}")
            .message());
  };
  constexpr char kBox[] =
      "annotations[0].bbox must be four numbers, [x, y, width, height], is ";
  for (const auto& [rest, words] :
       {std::pair(R"("category_id": 5, "bbox": [0, 0, 1])",
                  absl::StrCat(kBox, "[0,0,1]")),
        std::pair(R"("category_id": 5, "bbox": [0, 0, 1, "2"])",
                  absl::StrCat(kBox, R"([0,0,1,"2"])")),
        std::pair(R"("category_id": 5)", absl::StrCat(kBox, "missing")),
        std::pair(R"("category_id": "5", "bbox": [0, 0, 1, 1])",
                  std::string("annotations[0].category_id must be a whole "
                              "number, is \"5\"")),
        std::pair(R"("category_id": 5, "bbox": [0, 0, 1, 1], "area": null)",
                  std::string("annotations[0].area must be a number, is "
                              "null"))}) {
    EXPECT_THAT(of_annotation(rest),
                AllOf(StartsWith("a.json: "), HasSubstr(words),
                      Not(HasSubstr("exception"))));
  }
  EXPECT_THAT(refusal(R"({"images": 1})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("images must be a list, is 1")));
}

}  // namespace
}  // namespace ounce::client
