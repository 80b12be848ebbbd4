#include "client/comparison.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::StatusIs;

v1::QuantizeReport TwoTensors() {
  v1::QuantizeReport report;
  report.set_plan("linear");
  report.set_stored_bytes_after(1000);
  report.set_resident_bytes_after(1200);
  const auto add = [&](const char* name, int64_t rows, int64_t bytes,
                       std::optional<double> error, const char* left_alone) {
    v1::TensorReport& tensor = *report.add_tensors();
    tensor.set_name(name);
    tensor.add_shape(rows);
    tensor.add_shape(8);
    tensor.set_method("linear");
    tensor.set_kind(v1::TENSOR_KIND_LINEAR);
    tensor.set_bytes_after(bytes);
    tensor.set_left_alone(left_alone);
    if (error.has_value()) tensor.set_relative_l2_error(*error);
  };
  add("a", 1, 9, 0.1, "");
  add("b", 3, 15, 0.2, "");
  add("c", 4, 64, std::nullopt, "no rule is for it");
  v1::TensorReport& norm = *report.add_tensors();
  norm.set_name("norm");
  norm.set_kind(v1::TENSOR_KIND_VECTOR);
  norm.set_method("float16");
  norm.set_bytes_after(16);
  return report;
}

Json Comparison() {
  Json result = {{"spec", "linear"}};
  AddReport(TwoTensors(), &result);
  return {{"model", "tiny"},
          {"settings", {{"model", "tiny"}, {"window", 512}}},
          {"notes", {"a note"}},
          {"results",
           {result,
            {{"spec", "a|b,\"c\""},
             {"error", {{"code", "INTERNAL"}, {"message", "no\nnumbers"}}}}}}};
}

TEST(ComparisonTest, CountsTheBitsAndTheErrorOfWhatAPlanStores) {
  Json result;
  AddReport(TwoTensors(), &result);
  EXPECT_EQ(result["stored_bytes"], 1000);
  EXPECT_EQ(result["resident_bytes"], 1200);
  EXPECT_EQ(result["bits_per_weight"], 6);  // 24 bytes of 32 weights
  // (8 * 0.1^2 + 24 * 0.2^2) / 32
  EXPECT_DOUBLE_EQ(result["weight_error"], std::sqrt(0.0325));
  ASSERT_EQ(result["tensors"].size(), 4u);
  EXPECT_EQ(result["tensors"][1]["chosen"], true);
  EXPECT_EQ(result["tensors"][2]["chosen"], false);
  EXPECT_EQ(result["tensors"][3]["chosen"], false);
  EXPECT_FALSE(result.contains("matched"));
}

TEST(ComparisonTest, TablesShowWhatWasMeasuredAndWhatFailed) {
  const std::string markdown = ComparisonMarkdown(Comparison());
  EXPECT_THAT(
      markdown,
      AllOf(HasSubstr("| spec | stored | in memory | bits/weight | "
                      "weight error | quantized in s |\n"),
            HasSubstr("| `linear` | 0.98 KiB | 1.17 KiB | 6.000 | 0.18 |"),
            HasSubstr("- a|b,\"c\": no\uFFFDnumbers\n- a note\n"),
            HasSubstr("- window: 512\n"), Not(HasSubstr("tok/s"))));
  EXPECT_THAT(ComparisonCsv(Comparison()),
              AllOf(HasSubstr("spec,stored_bytes,resident_bytes,"),
                    HasSubstr("\nlinear,1000,1200,6.0,"),
                    HasSubstr("\n\"a|b,\"\"c\"\"\",,,,,,\"no\nnumbers\"\n")));
  EXPECT_THAT(ComparisonTable(Comparison()),
              AllOf(HasSubstr("SPEC      stored"), HasSubstr("\na note\n")));
}

TEST(ComparisonTest, TellsHowManyTensorsHaveOtherCodesThanTheirSpecSays) {
  v1::QuantizeReport report = TwoTensors();
  EXPECT_FALSE(Comparison()["results"][0]["tensors"][1].contains("note"));
  report.mutable_tensors(1)->set_note("stored as q5_0 instead of q4_k: narrow");
  Json comparison = Comparison();
  comparison["results"][0] = {{"spec", "gguf-q4_k"}};
  AddReport(report, &comparison["results"][0]);
  EXPECT_EQ(comparison["results"][0]["tensors"][1]["note"],
            "stored as q5_0 instead of q4_k: narrow");
  constexpr char kRemark[] =
      "gguf-q4_k: 1 of 2 tensors stored as q5_0 instead of q4_k: narrow\n";
  EXPECT_THAT(ComparisonTable(comparison), HasSubstr(kRemark));
  EXPECT_THAT(ComparisonMarkdown(comparison), HasSubstr(kRemark));
}

TEST(ComparisonTest, AlmostAllIsNotAll) {
  Json comparison = Comparison();
  comparison["results"][0]["top1_agreement"] = 0.999'96;
  EXPECT_THAT(ComparisonTable(comparison), HasSubstr(" 99.99%"));
  comparison["results"][0]["top1_agreement"] = 1;
  EXPECT_THAT(ComparisonTable(comparison), HasSubstr(" 100.00%"));
}

TEST(ComparisonTest, GoesOnOnlyWithWhatWasMeasuredAlike) {
  const testing::TempFolder folder;
  const std::string path = folder.path();
  Json now = Comparison();
  now["results"].clear();
  ASSERT_OK_AND_ASSIGN(auto before, ReadComparison(path, now));
  EXPECT_EQ(before, std::nullopt);
  ASSERT_OK(WriteComparison(path, Comparison()));
  ASSERT_OK_AND_ASSIGN(before, ReadComparison(path, now));
  EXPECT_EQ(*before, Comparison());

  now["settings"]["window"] = 1024;
  EXPECT_THAT(ReadComparison(path, now).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("window is 512 there and 1024 now; give "
                                 "another folder")));
  // Where all failed, nothing was measured.
  Json failed = Comparison();
  failed["results"].erase(0);
  ASSERT_OK(WriteComparison(path, failed));
  ASSERT_OK_AND_ASSIGN(before, ReadComparison(path, now));
  EXPECT_EQ(before, std::nullopt);
  ASSERT_OK(WriteComparison(path, Comparison()));
  now["settings"] = {{"model", "tiny"}};
  EXPECT_THAT(ReadComparison(path, now).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("window is 512 there and none now")));
  for (const char* text :
       {"", "[]", "{}", R"({"settings": {}, "notes": [], "results": 1})",
        R"({"settings": {}, "notes": [], "results": [1]})"}) {
    folder.WriteFile("results.json", text);
    EXPECT_THAT(ReadComparison(path, now).status(),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("remove it")))
        << text;
  }
  // What can't be read is not nothing.
  std::filesystem::remove(path + "/results.json");
  std::filesystem::create_symlink("results.json", path + "/results.json");
  EXPECT_THAT(std::string(ReadComparison(path, now).status().message()),
              HasSubstr("symbolic links"));
}

}  // namespace
}  // namespace ounce::client
