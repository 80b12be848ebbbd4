#include "client/report.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

v1::QuantizeReport Report() {
  v1::QuantizeReport report;
  report.set_model("tiny");
  report.set_version(2);
  report.set_method("linear");
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
    const std::string text = ReportText(report, "tiny", all);
    EXPECT_THAT(text, AllOf(HasSubstr("  [1]\n"),
                            HasSubstr("\n[1] kept: an embedding stays")));
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      EXPECT_LE(line.size(), 120u) << line;
    }
  }
}

TEST(ReportTest, GathersTensorsThatDifferInNumbersWithTheirWorstError) {
  const std::string text = ReportText(Report(), "tiny", /*all=*/false);
  EXPECT_THAT(
      text, AllOf(HasSubstr("tiny: float16 -> linear, "
                            "version 2, 1.25 s"),
                  HasSubstr("50.00%"), HasSubstr("75.00%"), HasSubstr("h.*.w"),
                  HasSubstr("0.00300"), HasSubstr("58.0 dB"),
                  HasSubstr("120 B"), HasSubstr("60 B"),
                  HasSubstr("not a matrix"), Not(HasSubstr("h.1.w"))));
}

TEST(ReportTest, SaysWhichCodesAShapeTookInsteadOnALineOfItsOwn) {
  v1::QuantizeReport report = Report();
  report.mutable_tensors(1)->set_note("stored as q5_0 instead of q4_k: narrow");
  const std::string text = ReportText(report, "tiny", /*all=*/false);
  EXPECT_THAT(text, ContainsRegex("h.\\*.w +2 .*0.00300.*\n"));
  EXPECT_THAT(text, ContainsRegex("h.\\*.w +1 .*0.00200.*\\[1\\]\n"));
  EXPECT_THAT(text, HasSubstr("\n[1] stored as q5_0 instead of q4_k: narrow"));
}

TEST(ReportTest, ShowsHowManyWeightsAreClampedWhereSomeMayBe) {
  v1::QuantizeReport report = Report();
  EXPECT_THAT(ReportText(report, "tiny", false), Not(HasSubstr("CLAMPED")));
  report.mutable_tensors(0)->set_clamp_rate(0.125);
  report.mutable_tensors(2)->set_clamp_rate(0.0625);
  report.mutable_tensors(2)->set_computed_relative_l2_error(0.00017);
  EXPECT_THAT(ReportText(report, "tiny", /*all=*/false),
              ContainsRegex("h.\\*.w +linear +12.500% +0.00300 +0.00017\n"));
  EXPECT_THAT(
      ReportText(report, "tiny", /*all=*/true),
      AllOf(ContainsRegex("h.0.w +linear +12.500% +0.00100\n"),
            ContainsRegex("h.2.w +linear +6.250% +0.00300 +0.00017\n")));
}

TEST(ReportTest, ShowsEveryTensorOnDemand) {
  EXPECT_THAT(ReportText(Report(), "tiny", /*all=*/true),
              AllOf(HasSubstr("h.0.w"), HasSubstr("h.1.w"), HasSubstr("h.2.w"),
                    HasSubstr("0.00100"), HasSubstr("60.0 dB")));
}

TEST(ReportTest, SaysWhatAVersionBesideTheModelTakesInsteadOfWhatItSaves) {
  v1::QuantizeReport report = Report();
  report.set_model("tiny8");
  report.set_version(1);
  report.set_resident_bytes_after(5'935'000);
  const std::string text = ReportText(report, "tiny", false);
  EXPECT_THAT(text,
              AllOf(StartsWith("tiny -> tiny8: linear, version 1, +5.66 MiB in "
                               "memory, 1.25 s\n"),
                    ContainsRegex("\n +CHECKPOINT +NEW +SAVED\n"),
                    ContainsRegex("\nin memory \\(packed\\) +5.66 MiB\n")));
}

TEST(ReportTest, RoundsNothingUpToAll) {
  v1::QuantizeReport report = Report();
  report.set_saved_ratio(0.999'999);
  EXPECT_THAT(ReportText(report, "tiny", false),
              AllOf(HasSubstr("99.99%"), Not(HasSubstr("100.00%"))));
  v1::DetectObjectsResponse response;
  response.add_detections()->set_score(0.999'99f);
  EXPECT_THAT(DetectionsText(response, std::nullopt),
              AllOf(HasSubstr("0.9999"), Not(HasSubstr("1.0000"))));
  response.mutable_detections(0)->set_score(1);
  EXPECT_THAT(DetectionsText(response, std::nullopt), HasSubstr("1.0000"));
}

TEST(ReportTest, LetsNoTensorWriteToTheTerminal) {
  v1::QuantizeReport report = Report();
  report.mutable_tensors(0)->set_name("h.0.\x1b[2Jw");
  for (const bool all : {false, true}) {
    EXPECT_THAT(ReportText(report, "tiny", all), Not(HasSubstr("\x1b")));
  }
  v1::QuantizeProgress progress;
  progress.set_tensor("h.0.\x1b[2Jw");
  EXPECT_THAT(ProgressBar(progress), Not(HasSubstr("\x1b")));
}

TEST(ReportTest, SaysThatADryRunChangedNothing) {
  v1::QuantizeReport report = Report();
  report.set_version(0);
  EXPECT_THAT(ReportText(report, "tiny", false), HasSubstr("dry run"));
}

TEST(ReportTest, ShowsAModelThatLoadsWithoutFiguresItHasNot) {
  v1::ListModelsResponse response;
  EXPECT_EQ(ModelsText(response), "no models\n");
  v1::Model* model = response.add_models();
  model->set_name("tiny");
  model->set_state(v1::MODEL_STATE_LOADING);
  EXPECT_THAT(ModelsText(response),
              AllOf(HasSubstr("loading"), Not(HasSubstr("0 B"))));
}

v1::ListModelsResponse Served() {
  v1::ListModelsResponse response;
  v1::Model* code = response.add_models();
  code->set_name("code");
  code->set_state(v1::MODEL_STATE_QUANTIZING);
  code->set_version(12);
  code->set_method("linear:bits=4");
  code->set_parameters(356'711'424);
  code->set_checkpoint_bytes(713'424'896);
  code->set_stored_bytes(462'135'296);
  code->set_resident_bytes(463'000'000);
  code->set_kv_capacity_bytes(int64_t{2} << 30);
  code->set_kv_used_bytes(10 << 20);
  code->set_running_requests(31);
  code->set_queued_requests(256);
  code->add_tasks(v1::TASK_GENERATE);
  code->set_compute("float32");
  v1::Model* detr = response.add_models();
  *detr = *code;
  detr->set_name("detr-resnet-101-dc5");
  detr->set_method("float16");
  detr->clear_kv_capacity_bytes();
  detr->clear_kv_used_bytes();
  detr->set_tasks(0, v1::TASK_DETECT_OBJECTS);
  detr->set_compute("bfloat16");
  return response;
}

TEST(ReportTest, ShowsWhatModelsDoAndWhatTheyWeighIn100Columns) {
  const std::string text = ModelsText(Served());
  EXPECT_THAT(
      text, AllOf(ContainsRegex("code +generate +quantizing +12 +linear:bits=4 "
                                "+float32 +31 +256\n"),
                  ContainsRegex("\ndetr-resnet-101-dc5 +detect +quantizing +12 "
                                "+float16 +bfloat16 +31"),
                  ContainsRegex("\ncode +356.71 M +680 MiB +441 MiB +35.22% "
                                "+442 MiB +10.0 MiB +2.00 GiB\n"),
                  ContainsRegex("\ndetr-resnet-101-dc5 .* 442 MiB\n")));
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(ReportTest, ShowsPlansInTheWidthOfATable) {
  v1::ListModelsResponse response = Served();
  v1::Model* model = response.mutable_models(1);
  const std::string plan = "*.h.0.*=keep @convolution=linear lm_head=linear";
  model->set_method(plan);
  model->set_plan(plan);
  model->set_convolutions(true);
  model->add_exclude("*.h.0.*");
  EXPECT_THAT(ModelsText(response),
              HasSubstr(" " + plan.substr(0, 32) + "... "));
  model->set_method("@convolution=linear linear");
  EXPECT_THAT(ModelsText(response), HasSubstr(" @convolution=linear linear "));
}

TEST(ReportTest, SaysThePlanWhereTheMethodDoesNot) {
  v1::QuantizeReport report = Report();
  EXPECT_THAT(ReportText(report, "tiny", false), Not(HasSubstr("plan:")));
  report.set_plan(report.method());
  EXPECT_THAT(ReportText(report, "tiny", false), Not(HasSubstr("plan:")));
  const std::string plan = "*.h.0.*=keep @convolution=linear lm_head=linear";
  report.set_plan(plan);
  report.set_method(plan);
  EXPECT_THAT(ReportText(report, "tiny", false),
              AllOf(StartsWith("tiny: float16 -> " + plan.substr(0, 32) +
                               "..., version 2"),
                    HasSubstr("\nplan: " + plan + "\n")));
}

TEST(ReportTest, ShowsWhatAMethodTookInOfServersThatKnowNoPlans) {
  v1::ListModelsResponse response = Served();
  v1::Model* model = response.mutable_models(1);
  model->set_method("linear");
  model->set_convolutions(true);
  EXPECT_THAT(ModelsText(response), HasSubstr(" linear +convolutions "));
  model->set_convolutions(false);
  model->add_include("lm_head");
  model->add_exclude("*.h.0.*");
  EXPECT_THAT(ModelsText(response), HasSubstr(" linear +include +exclude "));
}

TEST(ReportTest, LeavesOutColumnsOfAKvCacheThatNoModelHas) {
  v1::ListModelsResponse response = Served();
  response.mutable_models()->DeleteSubrange(0, 1);
  EXPECT_THAT(ModelsText(response),
              AllOf(HasSubstr("detect"), Not(HasSubstr("KV"))));
}

TEST(ReportTest, ShowsWhatPruningLeftAsZeroAndThatItSavesNoBytes) {
  v1::QuantizeReport report = Report();
  EXPECT_THAT(ReportText(report, "tiny", false),
              AllOf(Not(HasSubstr("ZEROS")), Not(HasSubstr("pruning"))));
  report.mutable_tensors(0)->set_sparsity(0.25);
  EXPECT_THAT(
      ReportText(report, "tiny", true),
      AllOf(ContainsRegex("SNR +ZEROS  NOTE"), ContainsRegex(" dB +25.00%"),
            HasSubstr("zeros of pruning are stored as other weights "
                      "are: they save no bytes\n")));
  // Together by their elements.
  report.mutable_tensors(1)->set_sparsity(0.75);
  EXPECT_THAT(ReportText(report, "tiny", false), ContainsRegex(" dB +50.00%"));
}

TEST(ReportTest, ADryRunShowsWhatIsSavedByEachWayToCount) {
  v1::QuantizeReport report = Report();
  v1::Footprint* footprint = report.add_footprints();
  footprint->set_rule("bitsandbytes");
  footprint->set_help("codes alone");
  footprint->set_bytes_before(510'342'192);
  footprint->set_bytes_after(176'527'896);
  footprint->set_saved_ratio(0.6541);
  EXPECT_THAT(ReportText(report, "tiny", false), Not(HasSubstr("COUNTED BY")));
  report.set_version(0);
  EXPECT_THAT(
      ReportText(report, "tiny", false),
      AllOf(ContainsRegex("COUNTED BY +CHECKPOINT +AFTER +SAVED +WHICH"),
            ContainsRegex("bitsandbytes +510,342,192 +176,527,896 +65.41% +"
                          "codes alone\n")));
}

TEST(ReportTest, ListsMethodsStagesAndKeysWithTheirParameters) {
  v1::ListMethodsResponse response;
  v1::Method* method = response.add_methods();
  method->set_name("linear");
  method->set_summary("Integers.");
  v1::MethodParameter* bits = method->add_parameters();
  bits->set_name("bits");
  bits->set_default_value("8");
  bits->set_min(2);
  bits->set_max(8);
  bits->set_help("of a code");
  EXPECT_EQ(MethodsText(response),
            "linear  Integers.\n"
            "  bits=8 (2 to 8)  of a code\n");
  v1::Method* stage = response.add_stages();
  stage->set_name("prune");
  stage->set_summary("Zeros.");
  v1::MethodParameter* share = stage->add_parameters();
  share->set_name("sparsity");
  share->set_default_value("0.5");
  share->set_lowest(0.001);
  share->set_highest(0.999);
  share->set_help("of all");
  v1::MethodParameter* key = response.add_rule_keys();
  key->set_name("untie");
  key->set_default_value("false");
  key->add_choices("false");
  key->add_choices("true");
  key->set_help("apart");
  EXPECT_EQ(MethodsText(response),
            "linear  Integers.\n"
            "  bits=8 (2 to 8)  of a code\n"
            "\n"
            "stages, which stand before a method: prune+linear\n"
            "prune  Zeros.\n"
            "  sparsity=0.5 (0.001 to 0.999)  of all\n"
            "\n"
            "keys of a plan's rules, behind the parameters of a method\n"
            "  untie=false (false|true)  apart\n");
  v1::SaveFormat* format = response.add_save_formats();
  format->set_name("ounce");
  format->set_summary("Codes.");
  EXPECT_THAT(
      MethodsText(response),
      EndsWith("apart\n\nformats of ounce save, the first that can hold "
               "a model where none is asked for\nounce  Codes.\n"));
}

// A convolution of 1,234,567,000 bytes beside Report()'s linear layers.
v1::QuantizeReport ReportOfKinds() {
  v1::QuantizeReport report = Report();
  for (v1::TensorReport& tensor : *report.mutable_tensors()) {
    tensor.set_kind(v1::TENSOR_KIND_LINEAR);
  }
  v1::TensorReport* bias = report.mutable_tensors(3);
  bias->set_kind(v1::TENSOR_KIND_VECTOR);
  bias->set_method("float16");
  v1::TensorReport* tied = report.add_tensors();  // to another, so not stored
  tied->set_kind(v1::TENSOR_KIND_EMBEDDING);
  tied->set_bytes_before(77);
  v1::TensorReport* convolution = report.add_tensors();
  convolution->set_name(
      "model.backbone.conv_encoder.model.encoder.stages.2."
      "layers.5.layer.1.convolution.weight");
  convolution->set_kind(v1::TENSOR_KIND_CONVOLUTION);
  convolution->set_method("float16");
  convolution->set_bytes_before(1'234'567'000);
  convolution->set_bytes_after(617'283'500);
  return report;
}

TEST(ReportTest, ShowsBytesByKindToTheByte) {
  const std::string text = ReportText(ReportOfKinds(), "tiny", false);
  EXPECT_THAT(
      text,
      AllOf(ContainsRegex("\nBYTES BY KIND +TENSORS +CHECKPOINT +AFTER "
                          "+SAVED\n"),
            ContainsRegex("\nlinear layers +3 +120 +60 +50.00%\n"),
            ContainsRegex(
                "\nconvolutions +1 +1,234,567,000 +617,283,500 +50.00%\n"),
            ContainsRegex("\nnorms and biases +1 +8 +8 +0.00%\n"),
            ContainsRegex("\ntogether +4,000 +1,000 +75.00%\n"),
            Not(HasSubstr("embeddings")), Not(HasSubstr("others"))));
  EXPECT_THAT(ReportText(Report(), "tiny", false),
              Not(HasSubstr("BYTES BY KIND")));
}

TEST(ReportTest, ShortensNamesAndGathersVectorsUnlessAllAreShown) {
  EXPECT_THAT(ReportText(ReportOfKinds(), "tiny", false),
              AllOf(HasSubstr("\nmodel.backbone...*.layer.*.convolution "),
                    ContainsRegex("\nnorms and biases +1 +4 "),
                    Not(HasSubstr("h.*.b"))));
  EXPECT_THAT(
      ReportText(ReportOfKinds(), "tiny", true),
      HasSubstr("encoder.stages.2.layers.5.layer.1.convolution.weight "));
}

TEST(ReportTest, GathersShapesOfOneName) {
  v1::QuantizeReport report = Report();
  report.mutable_tensors(1)->set_shape(0, 9);
  EXPECT_THAT(ReportText(report, "tiny", false),
              ContainsRegex("\nh\\.\\*\\.w +3 +various "));
}

TEST(ReportTest, ShowsHowFarDetectionsMoved) {
  v1::QuantizeReport report = Report();
  EXPECT_THAT(ReportText(report, "tiny", false), Not(HasSubstr("MATCHED")));
  v1::DetectionQuality* quality = report.mutable_detection();
  quality->set_pictures(6);
  quality->set_float_detections(21);
  quality->set_quantized_detections(20);
  quality->set_matched(19);
  quality->set_mean_score_drift(0.00123);
  quality->set_mean_box_drift(0.456);
  EXPECT_THAT(ReportText(report, "tiny", false),
              AllOf(ContainsRegex("\nPICTURES +FLOAT OBJECTS +AFTER "
                                  "+MATCHED +SCORE DRIFT +BOX DRIFT\n"),
                    ContainsRegex("\n +6 +21 +20 +19 +0.0012 +0.46 px\n")));
  quality->set_matched(0);
  EXPECT_THAT(ReportText(report, "tiny", false),
              ContainsRegex("\n +6 +21 +20 +0\n"));
}

TEST(ReportTest, ShowsOutputsInPlaceOfRatiosAndWhyAVersionIsRefused) {
  v1::QuantizeReport report = Report();
  report.set_version(0);
  report.set_refused("the new version does not serve: too far");
  v1::TextQuality& quality = *report.mutable_quality();
  quality.set_perplexity(9.5);
  quality.mutable_floats()->set_perplexity(9.25);
  EXPECT_THAT(ReportText(report, "tiny", false), HasSubstr(" SNR "));
  report.mutable_tensors(0)->set_relative_l2_output_error(0.03125);
  const std::string text = ReportText(report, "tiny", false);
  EXPECT_THAT(text,
              AllOf(HasSubstr("refused: nothing that is served has"),
                    HasSubstr("perplexity 9.5000"),
                    HasSubstr("floats: perplexity 9.2500"),
                    HasSubstr("\nthe new version does not serve: too far"),
                    HasSubstr(" OUTPUT "), HasSubstr(" 0.03125"),
                    Not(HasSubstr("SNR"))));
}

TEST(ReportTest, ShowsAveragePrecisionAndWhatItIsOf) {
  v1::EvaluateReport report;
  report.set_model("detr");
  v1::DetectionQuality& quality = *report.mutable_detection();
  quality.set_version(2);
  quality.set_method("linear");
  quality.set_pictures(6);
  v1::CocoAveragePrecision& coco = *quality.mutable_coco();
  coco.set_ap(0.5);
  coco.set_ap50(0.75);
  coco.set_ap75(0.999'99);
  coco.set_ap_large(0.625);
  coco.set_absent_because("nothing is small");
  EXPECT_EQ(EvaluationText(report),
            "detr v2 linear: 6 pictures, 0.0 s\n\n"
            "AP 0.50:0.95  AP 0.50  AP 0.75  SMALL  MEDIUM   LARGE\n"
            "      0.5000   0.7500   0.9999   none    none  0.6250\n"
            "none: nothing is small\n");
  quality.set_float_detections(4);
  EXPECT_THAT(EvaluationText(report), HasSubstr("FLOAT OBJECTS"));
}

TEST(ReportTest, TabulatesDetections) {
  v1::DetectObjectsResponse response;
  EXPECT_EQ(DetectionsText(response, std::nullopt),
            "no objects with a score above 0.9\n");
  EXPECT_EQ(DetectionsText(response, 0.25f),
            "no objects with a score above 0.25\n");
  for (const auto& [label, x] :
       {std::pair("cat", 3.14159f), std::pair("traffic light", 1234.5f)}) {
    v1::Detection* detection = response.add_detections();
    detection->set_label(label);
    detection->set_score(0.99876f);
    detection->mutable_box()->set_x_max(x);
  }
  EXPECT_EQ(DetectionsText(response, std::nullopt),
            "LABEL           SCORE  X MIN  Y MIN   X MAX  Y MAX\n"
            "cat            0.9988    0.0    0.0     3.1    0.0\n"
            "traffic light  0.9988    0.0    0.0  1234.5    0.0\n");
}

TEST(ReportTest, LetsNoLabelWriteToTheTerminal) {
  const auto shown = [](const std::string& label) {
    v1::DetectObjectsResponse response;
    response.add_detections()->set_label(label);
    const std::string text = DetectionsText(response, std::nullopt);
    const size_t row = text.find('\n') + 1;
    return text.substr(row, text.find("  ", row) - row);
  };
  const std::string replaced = "\xef\xbf\xbd";
  EXPECT_EQ(shown("\x1b[31mred\a"), replaced + "[31mred" + replaced);
  EXPECT_EQ(shown("two\nlines"), "two" + replaced + "lines");
  EXPECT_EQ(shown("\xe2\x80\xaelive"), replaced + "live");  // right to left
  EXPECT_EQ(shown("caf\xc3\xa9 \xe7\x8a\xac"), "caf\xc3\xa9 \xe7\x8a\xac");
  EXPECT_EQ(shown(std::string(100'000, 'x')), std::string(60, 'x') + "...");
}

TEST(ReportTest, TellsTheSeedThatWasDrawn) {
  v1::GenerateResponse last;
  EXPECT_THAT(UsageText("tiny", last), Not(HasSubstr("seed")));
  last.set_seed(0);
  last.set_method("float16");
  EXPECT_THAT(UsageText("tiny", last), HasSubstr(" float16; seed 0; length]"));
}

TEST(ReportTest, TellsHowTokensWereDrawn) {
  v1::GenerateResponse last;
  last.set_method("float16");
  EXPECT_THAT(UsageText("tiny", last), HasSubstr(" float16; length]"));
  last.mutable_sampling()->set_temperature(0);
  EXPECT_THAT(UsageText("tiny", last), HasSubstr(" float16; greedy; length]"));
  last.mutable_sampling()->set_temperature(0.6f);
  last.set_seed(3);
  EXPECT_THAT(UsageText("tiny", last),
              HasSubstr(" float16; temperature 0.6; seed 3; length]"));
}

TEST(ReportTest, CountsTheSpeedFromTheFirstTokenOn) {
  v1::GenerateResponse last;
  last.set_finish_reason(v1::FINISH_REASON_STOP);
  last.set_model_version(3);
  last.set_method("linear");
  last.mutable_usage()->set_prompt_tokens(5);
  last.mutable_usage()->set_new_tokens(11);
  last.mutable_usage()->set_time_to_first_token_seconds(0.5);
  last.mutable_usage()->set_total_seconds(1.0);
  EXPECT_EQ(UsageText("tiny", last),
            "[5 prompt + 11 new tokens, 20.0 tok/s, first after 500 ms; tiny "
            "v3 linear; stop string]");
}

TEST(ReportTest, SaysHowMuchOfAPromptWasFound) {
  v1::GenerateResponse last;
  last.mutable_usage()->set_prompt_tokens(50);
  last.mutable_usage()->set_cached_tokens(48);
  EXPECT_THAT(UsageText("tiny", last),
              HasSubstr("[50 prompt (48 cached) + 0 new tokens, "));
}

TEST(ReportTest, TellsNoSpeedOfWhatWasOverInABlink) {
  v1::GenerateResponse last;
  last.mutable_usage()->set_new_tokens(8);
  last.mutable_usage()->set_time_to_first_token_seconds(0.01);
  last.mutable_usage()->set_total_seconds(0.01107);
  EXPECT_THAT(UsageText("tiny", last),
              HasSubstr("[0 prompt + 8 new tokens, first after 10 ms;"));
  last.mutable_usage()->set_total_seconds(0.045);
  EXPECT_THAT(UsageText("tiny", last), HasSubstr("200.0 tok/s"));
}

TEST(ReportTest, TellsAPerplexityAndHowItWasMeasured) {
  v1::EvaluateReport report;
  report.set_model("tiny");
  report.set_seconds(1.26);
  v1::TextQuality& quality = *report.mutable_quality();
  quality.set_version(3);
  quality.set_method("linear");
  quality.set_bos("<s>");
  quality.set_window(64);
  quality.set_stride(32);
  quality.set_tokens(101);
  quality.set_counted_tokens(100);
  quality.set_mean_negative_log_likelihood(2);
  quality.set_perplexity(7.38905609893065);
  quality.set_bits_per_byte(0.75);
  quality.mutable_worst_token()->set_index(9);
  quality.mutable_worst_token()->set_token("\n\x1b");
  quality.mutable_worst_token()->set_negative_log_likelihood(11.25);
  EXPECT_EQ(
      EvaluationText(report),
      "tiny v3 linear: perplexity 7.3891, 0.7500 bits per byte\n"
      "100 of 101 tokens count, in windows of 64, one every 32; <s> "
      "before the text; 1.3 s\n"
      "worst: '\\n\\033' at 9, with 11.25 nats where the mean is 2.0000\n");
  v1::FloatComparison& floats = *quality.mutable_floats();
  floats.set_perplexity(7.25);
  floats.set_mean_kl_divergence(0.0125);
  floats.set_top1_agreement(0.96875);
  EXPECT_THAT(
      EvaluationText(report),
      HasSubstr("floats: perplexity 7.2500; KL divergence from them 0.012500 "
                "nats a token, the same token first 96.88% of the time\n"));
  floats.set_top1_agreement(0.999'96);
  EXPECT_THAT(EvaluationText(report), HasSubstr("first 99.99% of the time"));
  quality.clear_bos();
  EXPECT_THAT(EvaluationText(report),
              HasSubstr("no special token before the text"));
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
  v1::EvaluateProgress evaluation;
  EXPECT_EQ(ProgressBar(evaluation), "[........................] 0/0 tokens");
  evaluation.set_tokens_done(3);
  evaluation.set_tokens_total(4);
  EXPECT_EQ(ProgressBar(evaluation), "[##################......] 3/4 tokens");
}

}  // namespace
}  // namespace ounce::client
