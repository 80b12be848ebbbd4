// Published figures: what models of the published shapes take of bytes by each
// method and rule.
#include "model/loader/counting.h"

#include <cmath>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "model/loader/loader.h"
#include "tests/testing/generated_checkpoint.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::GeneratedCheckpoint;
using ::ounce::testing::MakeTinyCheckpoint;
using quant::DType;

const std::string kPublished = "tests/golden/published/";
const std::string kGpt2 = kPublished + "gpt2";
const std::string kOpt = kPublished + "opt-350m";
const std::string kCodeGen = kPublished + "codegen-350M-mono";
const std::string kDetr = "tests/golden/detr/full_size";

LoadOptions With(const std::string& plan) {
  LoadOptions options;
  options.plan = *ParseMethodPlan(plan);
  return options;
}

LoadReport Planned(const Checkpoint& checkpoint, const std::string& plan) {
  auto planned = PlanModel(checkpoint, With(plan));
  EXPECT_OK(planned.status()) << plan;
  return planned->report;
}

struct Bytes {
  int64_t before = 0;
  int64_t after = 0;
  bool operator==(const Bytes&) const = default;
};
void PrintTo(const Bytes& bytes, std::ostream* out) {
  *out << bytes.before << " -> " << bytes.after;
}

// By the names of rules.
std::map<std::string, Bytes> Footprints(const LoadReport& report) {
  std::map<std::string, Bytes> by_rule;
  for (const Footprint& footprint : report.footprints) {
    by_rule[std::string(footprint.rule->name)] = {footprint.before,
                                                  footprint.after};
  }
  return by_rule;
}

std::map<std::string, Bytes> Footprints(const std::string& folder, DType dtype,
                                        const std::string& plan) {
  return Footprints(Planned(GeneratedCheckpoint(folder, dtype), plan));
}

// Per cent saved, rounded as they were published.
double Saved(const Bytes& bytes) {
  const double ratio =
      1 - static_cast<double>(bytes.after) / static_cast<double>(bytes.before);
  return std::round(10000 * ratio) / 100;
}

TEST(PublishedFootprintTest, Opt350mInEightBits) {
  const Bytes bytes = Footprints(kOpt, DType::kBF16, "linear").at("ounce");
  EXPECT_EQ(bytes, (Bytes{662'392'832, 359'799'808}));
  EXPECT_EQ(Saved(bytes), 45.68);
}

TEST(PublishedFootprintTest, Gpt2ByBitsandbytes) {
  const auto by_rule = Footprints(kGpt2, DType::kF32, "bnb-int8");
  EXPECT_EQ(by_rule.at("bitsandbytes"), (Bytes{510'342'192, 176'527'896}));
  EXPECT_EQ(by_rule.at("float16-base"), (Bytes{248'879'616, 164'276'784}));
}

TEST(PublishedFootprintTest, CodeGenByEachOfItsRules) {
  const auto by_rule = Footprints(kCodeGen, DType::kF16, "linear");
  EXPECT_EQ(by_rule.at("ounce"), (Bytes{713'424'896, 462'135'296}));
  EXPECT_EQ(Saved(by_rule.at("ounce")), 35.22);
  EXPECT_EQ(by_rule.at("mask-buffers"), (Bytes{797'310'976, 546'021'376}));
  EXPECT_EQ(Saved(by_rule.at("mask-buffers")), 31.52);
  EXPECT_EQ(by_rule.at("float32-base-mask-buffers"),
            (Bytes{1'510'735'872, 756'498'432}));
  EXPECT_EQ(Saved(by_rule.at("float32-base-mask-buffers")), 49.93);
  EXPECT_EQ(Saved(by_rule.at("float32-base")), 52.86);
  // Embedding and head too, another reading of what was published as 49 %.
  const Bytes all = Footprints(kCodeGen, DType::kF16, "*=linear").at("ounce");
  EXPECT_EQ(all, (Bytes{713'424'896, 357'482'496}));
  EXPECT_EQ(Saved(all), 49.89);
  EXPECT_EQ(Footprints(kCodeGen, DType::kF16, "linear:bits=4,granularity=group")
                .at("ounce")
                .after,
            343'801'856);
}

TEST(CountingTest, LeavesOutRulesInWhoseDtypeASpecHasNoCodes) {
  const auto by_rule =
      Footprints(kGpt2, DType::kF32, "linear:granularity=tensor,scale=100000");
  EXPECT_EQ(by_rule.count("ounce"), 1u);
  EXPECT_EQ(by_rule.count("float32-base"), 1u);
  EXPECT_EQ(by_rule.count("float16-base"), 0u);
  EXPECT_EQ(by_rule.count("bitsandbytes"), 0u);
}

TEST(PublishedFootprintTest, DetrInEightBits) {
  const Bytes bytes = Footprints(kDetr, DType::kF32, "linear").at("ounce");
  EXPECT_EQ(bytes, (Bytes{166'524'032, 114'803'840}));
  EXPECT_EQ(Saved(bytes), 31.06);
}

// In the order gpt2, opt-350m, codegen-350M, detr-resnet-50.
struct Row {
  const char* method;
  int64_t bytes[4];
  // What a published container has for each matrix beside ours: bytes.
  int64_t container = 0;
};

constexpr int64_t kMatrices[] = {48, 146, 80, 96};
const std::string kFolders[] = {kGpt2, kOpt, kCodeGen, kDetr};

void ExpectRows(std::vector<Row> rows, const char* rule) {
  for (int model = 0; model < 4; ++model) {
    const GeneratedCheckpoint checkpoint(kFolders[model], DType::kF16);
    for (const Row& row : rows) {
      EXPECT_EQ(Footprints(Planned(checkpoint, row.method)).at(rule).after +
                    kMatrices[model] * row.container,
                row.bytes[model])
          << kFolders[model] << " " << row.method;
    }
  }
}

TEST(PublishedFootprintTest, OfEveryMethodOnFourModelsInSixteenBits) {
  ExpectRows(
      {
          {"keep", {248'879'616, 662'392'832, 713'424'896, 83'262'016}},
          {"linear", {164'110'848, 359'799'808, 462'135'296, 66'052'672}},
          {"linear:mode=asymmetric",
           {164'193'792, 360'022'528, 462'319'616, 66'098'752}},
          {"bnb-int8", {164'276'784, 360'245'394, 462'504'016, 66'144'928}},
          {"bnb-nf4", {126'789'120, 226'784'384, 351'671'296, 58'397'248}},
          {"bnb-fp4", {126'789'120, 226'784'384, 351'671'296, 58'397'248}},
          {"bnb-nf4:double_quant=true",
           {122'877'696, 212'802'944, 340'018'176, 57'688'768}},
          // "pack-quantized" also has each weight's shape.
          {"linear:bits=4,granularity=group,group=128",
           {122'805'504, 212'572'448, 339'870'976, 57'581'632},
           16},
          {"gguf-q8_0", {169'253'376, 378'294'272, 477'495'296, 67'041'856}},
          {"gguf-q6_k", {148'683'264, 304'902'144, 416'546'816, 62'851'648}},
          {"gguf-q5_k", {137'402'880, 264'654'848, 383'123'456, 60'553'792}},
          {"gguf-q5_0", {137'402'880, 264'654'848, 383'123'456, 60'553'792}},
          {"gguf-q4_k", {126'786'048, 226'775'040, 351'666'176, 58'391'104}},
          {"gguf-q4_0", {126'786'048, 226'775'040, 351'666'176, 58'391'104}},
          {"gguf-iq4_nl", {126'786'048, 226'775'040, 351'666'176, 58'391'104}},
          {"gguf-q3_k", {115'505'664, 186'527'744, 318'242'816, 56'093'248}},
          {"gguf-q2_k", {106'879'488, 155'750'400, 292'683'776, 54'336'064}},
          {"gguf-tq2_0", {100'907'520, 134'443'008, 274'989'056, 53'119'552}},
          {"ternary", {100'907'520, 134'443'008, 274'989'056, 53'119'552}},
          {"binary", {90'954'240, 98'930'688, 245'497'856, 51'092'032}},
      },
      "ounce");
}

TEST(PublishedFootprintTest, OfEightBitsOnFourModelsInFloat32) {
  ExpectRows({{"linear", {243'287'040, 416'561'152, 672'612'352, 114'803'840}}},
             "float32-base");
}

// Not by shapes alone.
TEST(PublishedFootprintTest, Gpt2LoadedTakesWhatWasPlanned) {
  const GeneratedCheckpoint checkpoint(kGpt2);
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                       LoadModel(checkpoint, With("bnb-int8")));
  EXPECT_EQ(Footprints(loaded.report),
            Footprints(kGpt2, DType::kF32, "bnb-int8"));
  EXPECT_EQ(Footprints(loaded.report).at("bitsandbytes").after, 176'527'896);
}

TEST(CountingTest, TheFirstRuleIsThatOfTheReport) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    for (const bool tied : {false, true}) {
      const auto checkpoint =
          MakeTinyCheckpoint({.tied = tied, .dtype = dtype});
      for (const char* plan :
           {"keep", "linear", "bfloat16", "lm_head=keep linear:bits=4",
            "*=linear", "prune-24+float16", "bnb-nf4"}) {
        const LoadReport report = Planned(*checkpoint, plan);
        ASSERT_FALSE(report.footprints.empty());
        EXPECT_EQ(report.footprints[0].rule, &CountingRules()[0]);
        EXPECT_EQ(report.footprints[0].before, report.checkpoint_bytes);
        EXPECT_EQ(report.footprints[0].after, report.stored_bytes) << plan;
      }
    }
  }
  const auto untied = MakeTinyCheckpoint({.tied = true});
  for (const char* plan :
       {"lm_head=linear:untie=true", "bfloat16:untie=true"}) {
    const LoadReport report = Planned(*untied, plan);
    EXPECT_EQ(report.footprints[0].before, report.checkpoint_bytes);
    EXPECT_EQ(report.footprints[0].after, report.stored_bytes) << plan;
  }
  // With batch norms that are folded, and that are not.
  const GeneratedCheckpoint detr(kDetr);
  for (const char* plan : {"keep", "linear", "@convolution=linear linear",
                           "@convolution=bfloat16 linear", "float16"}) {
    const LoadReport report = Planned(detr, plan);
    EXPECT_EQ(report.footprints[0].before, report.checkpoint_bytes);
    EXPECT_EQ(report.footprints[0].after, report.stored_bytes) << plan;
  }
}

TEST(CountingTest, RulesThatSayNothingOfAModelAreLeftOut) {
  EXPECT_EQ(Footprints(kCodeGen, DType::kF16, "keep").size(),
            CountingRules().size());
  const auto by_rule = Footprints(kOpt, DType::kF16, "keep");
  EXPECT_EQ(by_rule.size(), CountingRules().size() - 2);
  EXPECT_FALSE(by_rule.contains("mask-buffers"));
  EXPECT_FALSE(by_rule.contains("float32-base-mask-buffers"));
}

}  // namespace
}  // namespace ounce::model
