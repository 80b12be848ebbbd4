#include "client/report.h"

#include <string>
#include <utility>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

v1::QuantizeReport Report() {
  v1::QuantizeReport report;
  report.set_model("tiny");
  report.set_version(2);
  report.set_method("linear:bits=8,mode=symmetric");
  report.set_method_before("float16");
  report.set_stored_bytes_before(2000);
  report.set_stored_bytes_after(1000);
  report.set_resident_bytes_before(4096);
  report.set_resident_bytes_after(1024);
  report.set_checkpoint_bytes(4000);
  report.set_saved_ratio(0.75);
  report.set_seconds(1.25);
  for (int layer = 0; layer < 3; ++layer) {
    v1::TensorReport* tensor = report.add_tensors();
    tensor->set_name("h." + std::to_string(layer) + ".w");
    tensor->add_shape(4);
    tensor->add_shape(5);
    tensor->set_method(report.method());
    tensor->set_bytes_before(40);
    tensor->set_bytes_after(20);
    tensor->set_relative_l2_error(0.001 * (layer + 1));
    tensor->set_snr_db(60 - layer);
  }
  v1::TensorReport* bias = report.add_tensors();
  bias->set_name("h.0.b");
  bias->add_shape(4);
  bias->set_bytes_before(8);
  bias->set_bytes_after(8);
  bias->set_left_alone("not a matrix");
  return report;
}

// "linear", whose defaults are 8 symmetric bits.
v1::ListMethodsResponse Methods() {
  v1::ListMethodsResponse methods;
  v1::Method* linear = methods.add_methods();
  linear->set_name("linear");
  for (const auto& [name, value] :
       {std::pair("bits", "8"), std::pair("mode", "symmetric")}) {
    v1::MethodParameter* parameter = linear->add_parameters();
    parameter->set_name(name);
    parameter->set_default_value(value);
  }
  methods.add_methods()->set_name("float16");
  return methods;
}

TEST(ReportTest, ShortensASpecByItsDefaults) {
  const auto shortened = [](const std::string& spec) {
    return ShortSpec(spec, Methods());
  };
  EXPECT_EQ(shortened("linear:bits=8,mode=symmetric"), "linear");
  EXPECT_EQ(shortened("linear:bits=4,mode=symmetric"), "linear:bits=4");
  EXPECT_EQ(shortened("linear:bits=80,mode=s"), "linear:bits=80,mode=s");
  EXPECT_EQ(shortened("float16"), "float16");
  EXPECT_EQ(shortened("other:bits=8"), "other:bits=8");
  EXPECT_EQ(shortened(""), "");
}

// As wide as those of a codegen model.
TEST(ReportTest, FitsATerminalOf120Columns) {
  v1::QuantizeReport report = Report();
  const auto set = [&](int i, const std::string& name, int64_t cols) {
    v1::TensorReport* tensor = report.mutable_tensors(i);
    tensor->set_name(name);
    tensor->set_shape(0, 51200);
    if (cols > 0) tensor->set_shape(1, cols);
    tensor->set_bytes_before(1000 << 20);
    tensor->set_bytes_after(1000 << 20);
  };
  set(0, "transformer.h.0.attn.qkv_proj.weight", 1024);
  set(3, "lm_head.bias", 0);
  report.mutable_tensors(3)->set_left_alone(
      "kept: an embedding stays in the checkpoint's dtype unless included");
  report.mutable_tensors(3)->set_method("float16");
  for (const bool all : {false, true}) {
    const std::string text = ReportText(report, Methods(), all);
    EXPECT_THAT(text, AllOf(HasSubstr("  [1]\n"),
                            HasSubstr("\n[1] kept: an embedding stays")));
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      EXPECT_LE(line.size(), 120u) << line;
    }
  }
}

TEST(ReportTest, GathersTensorsThatDifferInNumbersWithTheirWorstError) {
  const std::string text = ReportText(Report(), Methods(), /*all=*/false);
  EXPECT_THAT(text,
              AllOf(HasSubstr("tiny: float16 -> linear:bits=8,mode=symmetric, "
                              "version 2, 1.25 s"),
                    HasSubstr("50.00 %"), HasSubstr("75.00 %"),
                    HasSubstr("h.*.w"), HasSubstr("0.00300"),
                    HasSubstr("58.0 dB"), HasSubstr("120 B"), HasSubstr("60 B"),
                    HasSubstr("not a matrix"), Not(HasSubstr("h.1.w"))));
}

TEST(ReportTest, ShowsEveryTensorOnDemand) {
  EXPECT_THAT(ReportText(Report(), Methods(), /*all=*/true),
              AllOf(HasSubstr("h.0.w"), HasSubstr("h.1.w"), HasSubstr("h.2.w"),
                    HasSubstr("0.00100"), HasSubstr("60.0 dB")));
}

TEST(ReportTest, SaysThatADryRunChangedNothing) {
  v1::QuantizeReport report = Report();
  report.set_version(0);
  EXPECT_THAT(ReportText(report, Methods(), false), HasSubstr("dry run"));
}

TEST(ReportTest, ShowsAModelThatLoadsWithoutFiguresItHasNot) {
  v1::ListModelsResponse response;
  EXPECT_EQ(ModelsText(response, Methods()), "no models\n");
  v1::Model* model = response.add_models();
  model->set_name("tiny");
  model->set_state(v1::MODEL_STATE_LOADING);
  EXPECT_THAT(ModelsText(response, Methods()),
              AllOf(HasSubstr("loading"), Not(HasSubstr("0 B"))));
}

TEST(ReportTest, CountsTheSpeedFromTheFirstTokenOn) {
  v1::GenerateResponse last;
  last.set_finish_reason(v1::FINISH_REASON_STOP);
  last.set_model_version(3);
  last.set_method("linear:bits=8,mode=symmetric");
  last.mutable_usage()->set_prompt_tokens(5);
  last.mutable_usage()->set_new_tokens(11);
  last.mutable_usage()->set_time_to_first_token_seconds(0.5);
  last.mutable_usage()->set_total_seconds(1.0);
  EXPECT_EQ(UsageText("tiny", last),
            "[5 prompt + 11 new tokens, 20.0 tok/s, first after 500 ms; tiny "
            "v3 linear; stop string]");
}

TEST(ReportTest, DrawsProgress) {
  v1::QuantizeProgress progress;
  progress.set_stage(v1::QUANTIZE_STAGE_QUANTIZING);
  progress.set_tensors_done(1);
  progress.set_tensors_total(2);
  progress.set_tensor("h.0.w");
  EXPECT_EQ(ProgressBar(progress),
            "[############............] 1/2 quantizing h.0.w");
  progress.set_tensors_done(-5);
  EXPECT_THAT(ProgressBar(progress), HasSubstr("[........................]"));
}

}  // namespace
}  // namespace ounce::client
