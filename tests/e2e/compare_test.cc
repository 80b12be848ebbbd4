// Methods side by side, on a model of a real server that serves on.
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/patched_weight.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kText[] = OUNCE_SOURCE_ROOT "/tests/golden/perplexity/code.txt";
constexpr char kDetector[] = OUNCE_SOURCE_ROOT "/embedded/detr-tiny";

constexpr char kSmallModel[] =
    OUNCE_SOURCE_ROOT "/tests/golden/codegen/bfloat16";

class CompareTest : public testing::ServingTest {
 protected:
  Finished Compare(const std::string& methods,
                   const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {
        "compare",      "tiny", "--methods", methods,
        "--text",       kText,  "--window",  "128",
        "--stride",     "64",   "--out",     folder_.Path("out"),
        "--new_tokens", "8"};
    args.insert(args.end(), more.begin(), more.end());
    return Cli(args);
  }
  // A tiny model with a weight that is too large for something.
  std::string Patched(const std::string& tensor, float value) {
    const std::string folder = folder_.Path("patched");
    std::filesystem::copy(kSmallModel, folder);
    testing::PatchFirstWeight(folder + "/model.safetensors", tensor, value);
    return folder;
  }
  nlohmann::json Results(const std::string& folder = "out") {
    return nlohmann::json::parse(
        testing::ReadFile(folder_.Path(folder) + "/results.json"));
  }
  std::vector<std::string> Served() {
    std::vector<std::string> names;
    const v1::ListModelsResponse models = client_->ListModels().value();
    for (const v1::Model& model : models.models()) {
      names.push_back(model.name());
    }
    return names;
  }
};

TEST_F(CompareTest, MeasuresEachAndLeavesTheModelAsItWas) {
  Start();
  const Finished done = Compare("keep; linear ;*.mlp.*=linear:bits=4 linear;");
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, StartsWith("SPEC "));
  EXPECT_THAT(done.err, HasSubstr("3/3 *.mlp.*=linear:bits=4 linear: "));
  EXPECT_THAT(Served(), ElementsAre("tiny"));
  EXPECT_EQ(Model("tiny").version(), 1);
  EXPECT_EQ(Model("tiny").method(), "float16");

  const auto comparison = Results();
  EXPECT_EQ(comparison["settings"]["window"], 128);
  EXPECT_EQ(comparison["settings"]["text_bytes"],
            std::filesystem::file_size(kText));
  const auto& results = comparison["results"];
  ASSERT_EQ(results.size(), 3u);
  for (const auto& result : results) {
    for (const char* figure :
         {"stored_bytes", "resident_bytes", "bits_per_weight", "perplexity",
          "tokens_per_second", "first_token_seconds", "cpu_seconds_per_token",
          "quantize_seconds"}) {
      EXPECT_GT(result.value(figure, 0.0), 0) << figure;
    }
    EXPECT_GT(result["tensors"].size(), 10u);
  }
  const auto& keep = results[0];
  EXPECT_EQ(keep["bits_per_weight"], 16);
  EXPECT_EQ(keep["weight_error"], 0);
  EXPECT_EQ(keep["kl_divergence"], 0);
  EXPECT_EQ(keep["top1_agreement"], 1);
  EXPECT_EQ(keep["perplexity"], keep["float_perplexity"]);
  EXPECT_EQ(keep["stored_bytes"], Model("tiny").stored_bytes());
  const auto& linear = results[1];
  EXPECT_EQ(linear["spec"], "linear");
  EXPECT_NEAR(linear["bits_per_weight"], 8.06, 0.01);
  EXPECT_GT(linear["kl_divergence"], 0);
  EXPECT_EQ(linear["float_perplexity"], keep["perplexity"]);
  EXPECT_GT(results[2]["weight_error"], linear["weight_error"]);
  EXPECT_LT(results[2]["stored_bytes"], linear["stored_bytes"]);

  EXPECT_THAT(testing::ReadFile(folder_.Path("out") + "/results.csv"),
              HasSubstr("\nlinear,"));
  EXPECT_THAT(testing::ReadFile(folder_.Path("out") + "/results.md"),
              HasSubstr("| `linear` |"));
}

TEST_F(CompareTest, MeasuresADetectorOnAFolderOfPictures) {
  Start({"--model", absl::StrCat("detr=", kDetector)});
  const Finished done =
      Cli({"compare", "detr", "--methods", "keep;@convolution=linear linear",
           "--pictures", absl::StrCat(kDetector, "/examples"), "--out",
           folder_.Path("out"), "--json"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '\n'), 2);
  const auto results = Results()["results"];
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0]["matched"], results[0]["float_objects"]);
  EXPECT_EQ(results[0]["box_drift"], 0);
  EXPECT_GT(results[1]["matched"], 0);
  EXPECT_GT(results[1]["box_drift"], 0);
  EXPECT_GT(results[1]["seconds_per_picture"], 0);
  EXPECT_LT(results[1]["stored_bytes"], results[0]["stored_bytes"]);
  EXPECT_EQ(nlohmann::json::parse(done.out.substr(done.out.find('\n'))),
            results[1]);
  EXPECT_THAT(Served(), ElementsAre("detr"));
}

TEST_F(CompareTest, GoesOnWhereItEnded) {
  Start();
  ASSERT_EQ(Compare("linear").code, 0);
  const auto before = Results()["results"][0];
  const Finished more = Compare("float32;linear");
  ASSERT_EQ(more.code, 0) << more.err;
  EXPECT_THAT(more.err, HasSubstr("1 of 2 were measured before"));
  const auto results = Results()["results"];
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0], before);  // times too
  EXPECT_EQ(results[1]["spec"], "float32");
  // As they were told when they were measured.
  const Finished all = Compare("float32;linear", {"--json"});
  ASSERT_EQ(all.code, 0) << all.err;
  const std::vector<std::string> lines = absl::StrSplit(all.out, '\n');
  ASSERT_EQ(lines.size(), 3u) << all.out;
  EXPECT_EQ(nlohmann::json::parse(lines[0]), results[1]);
  EXPECT_EQ(nlohmann::json::parse(lines[1]), results[0]);

  const Finished other = Compare("linear", {"--prompt_tokens", "5"});
  EXPECT_EQ(other.code, 3);
  EXPECT_THAT(other.err, HasSubstr("prompt_tokens is 32 there and 5 now"));
}

TEST_F(CompareTest, KeepsEachVariantInAFolderWhereItIsAskedTo) {
  std::filesystem::create_directory(folder_.Path("root"));
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--save_root",
         folder_.Path("root")});
  const std::string set = "keep;lm_head=keep linear;linear;bnb-int8;bnb-nf4";
  // Measured before, and not saved.
  ASSERT_EQ(Compare("linear").code, 0);
  EXPECT_FALSE(Results()["results"][0].contains("saved"));
  const Finished done = Compare(set, {"--save", "variants"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.err, AllOf(HasSubstr("3/5 linear: saving"),
                              Not(HasSubstr("measured before"))));
  const std::string folder =
      std::filesystem::canonical(folder_.Path("root/variants")).string();
  EXPECT_THAT(done.out,
              HasSubstr("\nkeep: saved in " + folder + "/original ("));
  for (const auto& result : Results()["results"]) {
    ASSERT_TRUE(result.contains("saved")) << result["spec"];
    EXPECT_GT(result["perplexity"], 1);
  }
  EXPECT_THAT(Served(), ElementsAre("tiny"));
  for (const char* name :
       {"original", "selective_8bit", "quantized_8bit", "8bit", "nf4"}) {
    v1::LoadModelRequest load;
    load.set_name(name);
    load.set_path(absl::StrCat(folder, "/", name));
    // In whatever format the server found first.
    ASSERT_OK_AND_ASSIGN(const v1::Model loaded, client_->LoadModel(load));
    EXPECT_EQ(loaded.method() == "float16", std::string(name) == "original");
    EXPECT_THAT(
        testing::ReadFile(absl::StrCat(folder, "/", name, "/README.md")),
        AllOf(HasSubstr("| Text | code.txt |"), HasSubstr("| Perplexity | ")));
  }
  // What is saved already is done.
  const Finished again = Compare(set, {"--save", "variants"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("5 of 5 were measured before"));
}

TEST_F(CompareTest, AVariantThatCannotBeSavedKeepsItsFigures) {
  std::filesystem::create_directories(folder_.Path("root/variants/original"));
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--save_root",
         folder_.Path("root")});
  const Finished done = Compare("keep;linear", {"--save", "variants"});
  EXPECT_EQ(done.code, 3);
  EXPECT_THAT(done.err, HasSubstr("keep: not saved: "));
  const auto results = Results()["results"];
  ASSERT_EQ(results.size(), 2u);
  EXPECT_GT(results[0]["perplexity"], 1);
  EXPECT_EQ(results[0]["not_saved"]["code"], "ALREADY_EXISTS");
  EXPECT_TRUE(results[1].contains("saved"));
}

TEST_F(CompareTest, SavesNothingAndMeasuresNothingWithoutASaveRoot) {
  Start();
  const Finished done = Compare("linear", {"--save", "variants"});
  EXPECT_EQ(done.code, 3);
  EXPECT_THAT(done.err, HasSubstr("start it with --save_root DIR"));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("out")));
}

TEST_F(CompareTest, TakesItsCopyAwayWhenItIsInterrupted) {
  Start({"--model", absl::StrCat("tiny=", LongModel())});
  std::string text;
  while (text.size() < 200'000) text += testing::ReadFile(kText);
  const std::string file = folder_.WriteFile("long.txt", text);
  testing::Process compare({OUNCE_CLI_BINARY, "--server", inference_, "--admin",
                            admin_, "compare", "tiny", "--methods",
                            "linear;float32", "--text", file, "--stride", "1",
                            "--out", folder_.Path("out")});
  ASSERT_TRUE(WaitUntil([&] {
    return absl::StrContains(compare.err(), "linear: evaluating");
  })) << compare.err();
  EXPECT_THAT(Served(), ElementsAre("tiny", "tiny.compare"));
  compare.Signal(SIGINT);
  EXPECT_EQ(compare.Wait(absl::Seconds(30)), 128 + SIGINT) << compare.err();
  EXPECT_THAT(Served(), ElementsAre("tiny"));
  EXPECT_THAT(compare.err(), HasSubstr("ounce: cancelled"));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("out") + "/results.json"));
}

TEST_F(CompareTest, JudgesAllBeforeItMeasuresTheFirst) {
  Start();
  const Finished bad =
      Compare("linear;linear:bits=9;gguf-q4_k;nothing=keep linear;lineal");
  EXPECT_EQ(bad.code, 3);
  EXPECT_EQ(bad.out, "");
  EXPECT_THAT(
      bad.err,
      AllOf(HasSubstr("2 of 5 can't be, and nothing was measured"),
            HasSubstr("\n  linear:bits=9: plan: rule 'linear:bits=9': "),
            HasSubstr("\n  lineal: plan: rule 'lineal': "),
            Not(HasSubstr("\n  gguf-q4_k: ")), Not(HasSubstr("quantizing"))));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("out")));
  EXPECT_EQ(Model("tiny").state(), v1::MODEL_STATE_READY);
}

TEST_F(CompareTest, GoesOnAfterASpecThatTheModelCannotBeStoredBy) {
  Start();
  const Finished some = Compare("nothing=keep linear;linear");
  EXPECT_EQ(some.code, 3);
  EXPECT_THAT(some.err,
              AllOf(HasSubstr("nothing=keep linear: rule 'nothing=keep' "
                              "matches "),
                    HasSubstr("2/2 linear: ")));
  EXPECT_THAT(some.out, AllOf(StartsWith("SPEC "), HasSubstr("\nlinear "),
                              HasSubstr("\nnothing=keep linear: rule ")));
  const auto results = Results()["results"];
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0]["spec"], "nothing=keep linear");
  EXPECT_EQ(results[0]["error"]["code"], "INVALID_ARGUMENT");
  EXPECT_TRUE(results[1].contains("perplexity"));
  EXPECT_THAT(testing::ReadFile(folder_.Path("out") + "/results.csv"),
              HasSubstr("\nnothing=keep linear,"));
}

// Of other codes than a spec says a table has no room for each tensor.
TEST_F(CompareTest, TellsWhereOtherCodesAreStored) {
  Start();
  const Finished done = Compare("gguf-q4_k");
  ASSERT_EQ(done.code, 0) << done.err;
  const auto notes = [&](const std::string& text) {
    EXPECT_THAT(text, ::testing::ContainsRegex(
                          "gguf-q4_k: [0-9]+ of [0-9]+ tensors stored as q5_0 "
                          "instead of q4_k: 192 columns are not whole blocks"));
  };
  notes(done.out);
  notes(testing::ReadFile(folder_.Path("out") + "/results.md"));
}

TEST_F(CompareTest, TellsWhatFailedAndMeasuresTheOthers) {
  Start({"--model", absl::StrCat("tiny=", Patched("transformer.h.0.mlp.fc_in"
                                                  ".weight",
                                                  1e7f))});
  const Finished some = Compare("gguf-q8_0;linear");
  EXPECT_EQ(some.code, 3);
  EXPECT_THAT(some.err, HasSubstr("gguf-q8_0: "));
  const auto results = Results()["results"];
  ASSERT_EQ(results.size(), 2u);
  EXPECT_THAT(results[0]["error"]["message"].get<std::string>(),
              HasSubstr("is too large for q8_0"));
  EXPECT_TRUE(results[1].contains("perplexity"));
  EXPECT_THAT(testing::ReadFile(folder_.Path("out") + "/results.md"),
              HasSubstr("- gguf-q8_0: "));
  EXPECT_THAT(Served(), ElementsAre("tiny"));
}

TEST_F(CompareTest, WhereNothingWasMeasuredTheFolderIsFree) {
  const std::string folder =
      Patched("transformer.h.0.mlp.fc_out.bias", 3.3e38f);
  testing::PatchFirstWeight(folder + "/model.safetensors",
                            "transformer.h.1.mlp.fc_out.bias", 3.3e38f);
  Start({"--model", absl::StrCat("tiny=", folder)});
  const Finished none = Compare("keep;linear");
  EXPECT_EQ(none.code, 3);
  const auto results = Results()["results"];
  ASSERT_EQ(results.size(), 2u);
  for (const auto& result : results) {
    EXPECT_EQ(result["error"]["code"], "FAILED_PRECONDITION");
    EXPECT_THAT(result["error"]["message"].get<std::string>(),
                HasSubstr("compute numbers that are not finite"));
  }
  EXPECT_THAT(Compare("keep", {"--prompt_tokens", "5"}).err,
              AllOf(HasSubstr("not finite"), Not(HasSubstr("is 32 there"))));
  EXPECT_THAT(Served(), ElementsAre("tiny"));
}

TEST_F(CompareTest, SaysWhatIsWrong) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--model",
         absl::StrCat("detr=", kDetector)});
  const auto refused = [&](const std::string& model,
                           std::vector<std::string> args) {
    args.insert(args.begin(), {"compare", model, "--methods", "linear", "--out",
                               folder_.Path("out")});
    const Finished ended = Cli(args);
    EXPECT_NE(ended.code, 0);
    return ended.err;
  };
  EXPECT_THAT(refused("none", {"--text", kText}), HasSubstr("no model 'none'"));
  EXPECT_THAT(refused("tiny", {}), HasSubstr("with --text FILE"));
  EXPECT_THAT(refused("detr", {}), HasSubstr("with --pictures DIR"));
  EXPECT_THAT(refused("detr", {"--pictures", kDetector}),
              HasSubstr("there is no .jpg, .jpeg, .png or .webp in '"));
  EXPECT_THAT(refused("tiny", {"--text", kText, "--window", "513"}),
              HasSubstr("window: must be from 2 to 512"));
  EXPECT_THAT(Served(), ElementsAre("detr", "tiny"));

  v1::QuantizeRequest copy = ToInt8();
  copy.set_as("tiny.compare");
  ASSERT_OK(Quantize(copy));
  EXPECT_THAT(refused("tiny", {"--text", kText}),
              HasSubstr("ounce unload tiny.compare ends it"));
  EXPECT_THAT(Served(), ElementsAre("detr", "tiny", "tiny.compare"));
}

}  // namespace
}  // namespace ounce
