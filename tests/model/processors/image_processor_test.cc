#include "model/processors/image_processor.h"

#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<std::shared_ptr<const ImageProcessor>> Load(
    std::string_view text, std::string_view model_type) {
  const TempFolder folder;
  if (!text.empty()) folder.WriteFile("preprocessor_config.json", text);
  return LoadImageProcessor(folder.path().string(), model_type);
}

TEST(ImageProcessorTest, ComesWithTheModelWhereNoFileSaysWhich) {
  for (const char* text : {"", R"({"size": 800})"}) {
    ASSERT_OK_AND_ASSIGN(const auto processor, Load(text, "detr"));
    ASSERT_OK_AND_ASSIGN(const PictureSize size,
                         processor->TargetSize(480, 640));
    EXPECT_EQ(size.height, 800);
    EXPECT_THAT(Load(text, "codegen"),
                StatusIs(absl::StatusCode::kUnimplemented,
                         HasSubstr("no image processor is known for models of "
                                   "the type 'codegen'")));
  }
}

TEST(ImageProcessorTest, IsTheOneThatTheFileNames) {
  EXPECT_OK(Load(R"({"image_processor_type": "DetrImageProcessor"})", "other"));
  EXPECT_OK(
      Load(R"({"feature_extractor_type": "DetrFeatureExtractor"})", "other"));
  EXPECT_THAT(
      Load(R"({"image_processor_type": "YolosImageProcessor"})", "detr"),
      StatusIs(absl::StatusCode::kUnimplemented,
               AllOf(HasSubstr("preprocessor_config.json: "
                               "'image_processor_type' must be "
                               "'DetrImageProcessor', is "
                               "'YolosImageProcessor'"))));
}

TEST(ImageProcessorTest, NoTwoKindsHaveATypeInCommon) {
  std::set<std::string_view> types, model_types;
  for (const ImageProcessorKind* kind : AllImageProcessors()) {
    EXPECT_FALSE(kind->types.empty());
    for (const std::string_view type : kind->types) {
      EXPECT_TRUE(types.insert(type).second) << type;
    }
    EXPECT_TRUE(model_types.insert(kind->model_type).second);
  }
}

}  // namespace
}  // namespace ounce::model
