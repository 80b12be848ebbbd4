// The ounce command line against a real server.
#include <algorithm>

#include "client/report.h"
#include "gmock/gmock.h"
#include "image/decode.h"
#include "tests/e2e/serving.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

class CliTest : public testing::ServingTest {
 protected:
  void SetUp() override { Start(); }

  // The lines of --json, parsed.
  static std::vector<nlohmann::json> Lines(const std::string& out) {
    std::vector<nlohmann::json> lines;
    for (const absl::string_view line :
         absl::StrSplit(out, '\n', absl::SkipEmpty())) {
      lines.push_back(nlohmann::json::parse(std::string(line)));
    }
    return lines;
  }
};

TEST_F(CliTest, GeneratesTheTextThatTheRpcGives) {
  const auto expected = Generate(Request("def add(a, b):\n", 24));
  ASSERT_TRUE(expected.ok()) << expected.status();
  const Finished cli =
      Cli({"generate", "tiny", "def add(a, b):\n", "--max_new_tokens", "24"});
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_EQ(cli.out, expected->first);
  EXPECT_THAT(cli.err, HasSubstr("24 new tokens"));
  EXPECT_EQ(Cli({"generate", "tiny", "-", "-n", "24"}, "def add(a, b):\n").out,
            expected->first);
}

TEST_F(CliTest, SamplesTheSameWithTheSameSeed) {
  const std::vector<std::string> args = {"generate", "tiny",
                                         "class A",  "-n",
                                         "16",       "-t",
                                         "0.8",      "--top_k",
                                         "50",       "--top_p",
                                         "0.9",      "--min_p",
                                         "0.01",     "--repetition_penalty",
                                         "1.1",      "--seed",
                                         "7"};
  const Finished first = Cli(args);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(Cli(args).out, first.out);
}

TEST_F(CliTest, EndsAtAStopString) {
  const std::string text = Cli({"generate", "tiny", "def ", "-n", "40"}).out;
  ASSERT_GT(text.size(), 12u);
  const std::string stop = text.substr(8, 4);
  const Finished cli =
      Cli({"generate", "tiny", "def ", "-n", "40", "--stop", stop});
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_EQ(cli.out, text.substr(0, text.find(stop)));
  EXPECT_THAT(cli.err, HasSubstr("stop string"));
}

TEST_F(CliTest, PrintsEachMessageAsAJsonLine) {
  const Finished generate =
      Cli({"--json", "generate", "tiny", "def ", "-n", "8", "--logprobs", "2"});
  EXPECT_EQ(generate.code, 0) << generate.err;
  std::string text;
  int num_logprobs = 0;
  const auto lines = Lines(generate.out);
  for (const auto& line : lines) {
    text += line.value("text", "");
    if (line.contains("logprobs")) num_logprobs += line["logprobs"].size();
  }
  EXPECT_EQ(text, Generate(Request("def ", 8))->first);
  EXPECT_EQ(num_logprobs, 8);
  EXPECT_EQ(lines.back()["finish_reason"], "FINISH_REASON_LENGTH");
  EXPECT_EQ(lines.back()["usage"]["new_tokens"], "8");

  const auto models = Lines(Cli({"models", "--json"}).out);
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0]["models"][0]["name"], "tiny");
  EXPECT_EQ(models[0]["models"][0]["state"], "MODEL_STATE_READY");

  const auto quantize =
      Lines(Cli({"quantize", "tiny", "linear", "--dry_run", "--json"}).out);
  EXPECT_EQ(quantize.back()["stage"], "QUANTIZE_STAGE_DONE");
  EXPECT_GT(quantize.back()["report"]["tensors"].size(), 10u);
}

TEST_F(CliTest, ShowsModelsMethodsTokensAndHealth) {
  EXPECT_THAT(Cli({"models"}).out,
              AllOf(StartsWith("MODEL"), HasSubstr("\ntiny"),
                    HasSubstr("ready"), HasSubstr("MiB")));
  EXPECT_THAT(Cli({"methods"}).out,
              AllOf(HasSubstr("float32"), HasSubstr("linear"),
                    HasSubstr("bits=8"), HasSubstr("granularity")));
  const Finished ids = Cli({"tokenize", "tiny", "def f(x):\n    return x"});
  EXPECT_EQ(ids.code, 0);
  EXPECT_THAT(ids.out, MatchesRegex("[0-9 ]+\n"));
  std::vector<std::string> args = {"detokenize", "tiny"};
  for (const absl::string_view id :
       absl::StrSplit(ids.out.substr(0, ids.out.size() - 1), ' ')) {
    args.emplace_back(id);
  }
  EXPECT_EQ(Cli(args).out, "def f(x):\n    return x\n");
  EXPECT_EQ(Cli({"health"}).out, "serving\n");
  EXPECT_EQ(Cli({"health", "models/tiny"}).out, "serving\n");
  const Finished other = Cli({"health", "models/other"});
  EXPECT_EQ(other.code, 3);
  EXPECT_THAT(other.err, HasSubstr("nothing named 'models/other'"));
  const auto json = Lines(Cli({"health", "--json"}).out);
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0], nlohmann::json({{"status", "SERVING"}}));
}

TEST_F(CliTest, QuantizesAndReports) {
  const Finished cli = Cli({"quantize", "tiny", "linear:bits=8"});
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_THAT(
      cli.out,
      AllOf(HasSubstr("version 2"), HasSubstr("stored, against the checkpoint"),
            HasSubstr("transformer.h.*.attn.qkv_proj "), HasSubstr(" dB"),
            HasSubstr("[1] kept"), HasSubstr("\n[2] 1-D")));
  for (const absl::string_view line : absl::StrSplit(cli.out, '\n')) {
    EXPECT_LE(line.size(), 120u) << line;
  }
  EXPECT_THAT(cli.err, HasSubstr("done"));
  EXPECT_THAT(Cli({"quantize", "tiny", "float16", "--all"}).out,
              HasSubstr("transformer.h.3.attn.qkv_proj.weight"));
  const Finished dry = Cli({"quantize", "tiny", "linear", "--dry_run",
                            "--include", "*attn*", "--exclude", "*out_proj*"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("dry run"));
}

TEST_F(CliTest, LoadsAndUnloads) {
  const Finished load =
      Cli({"load", "second", testing::kTinyModel, "--method", "float32"});
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_THAT(load.out, AllOf(HasSubstr("second"), HasSubstr("float32")));
  EXPECT_EQ(Cli({"generate", "second", "a", "-n", "1"}).code, 0);
  EXPECT_EQ(Cli({"load", "second", testing::kTinyModel}).code, 3);
  EXPECT_EQ(Cli({"unload", "second"}).out, "unloaded second\n");
  EXPECT_EQ(Cli({"generate", "second", "a", "-n", "1"}).code, 3);
}

TEST_F(CliTest, ExitCodesTellBadUsageRefusedAndFailedApart) {
  EXPECT_EQ(Cli({}).code, 2);
  const Finished dance = Cli({"dance"});
  EXPECT_EQ(dance.code, 2);
  EXPECT_THAT(dance.err, HasSubstr("no command 'dance'"));
  EXPECT_EQ(Cli({"generate", "tiny"}).code, 2);
  EXPECT_EQ(Cli({"generate", "tiny", "a", "-n", "-1"}).code, 2);
  EXPECT_EQ(Cli({"generate", "tiny", "a", "--seed", "-1"}).code, 2);
  for (const char* seconds : {"0", "-1", "nan", "soon"}) {
    const Finished never = Cli({"--deadline", seconds, "models"});
    EXPECT_EQ(never.code, 2);
    EXPECT_THAT(never.err, HasSubstr("a number of seconds above 0 wanted"));
  }
  EXPECT_EQ(Cli({"--help"}).code, 0);

  const Finished refused = Cli({"generate", "tiny", "a", "--top_p", "7"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err,
              HasSubstr("INVALID_ARGUMENT: sampling.top_p: 0 to 1 wanted, 7"));
  const Finished unknown = Cli({"generate", "other", "a"});
  EXPECT_EQ(unknown.code, 3);
  EXPECT_THAT(unknown.err, HasSubstr("NOT_FOUND"));
  const Finished method = Cli({"quantize", "tiny", "linear:bots=8"});
  EXPECT_EQ(method.code, 3);
  EXPECT_THAT(method.err, AllOf(HasSubstr("bots"), HasSubstr("bits")));
  EXPECT_EQ(Cli({"generate", "tiny", "\xff\xfe"}).code, 3);

  EXPECT_THAT(Cli({"generate", "tiny", "-"}, std::string(34'000'000, 'x')).err,
              HasSubstr("--max_message_bytes"));
  EXPECT_THAT(testing::RunToEnd({OUNCE_CLI_BINARY, "--server", admin_,
                                 "generate", "tiny", "a"})
                  .err,
              HasSubstr("--server (Inference)"));

  const Finished late =
      Cli({"--deadline", "0.001", "generate", "tiny", "a", "-n", "500"});
  EXPECT_EQ(late.code, 4) << late.err;
  const Finished nobody =
      testing::RunToEnd({OUNCE_CLI_BINARY, "--admin", "127.0.0.1:1", "models"});
  EXPECT_EQ(nobody.code, 4);
  EXPECT_THAT(nobody.err, AllOf(HasSubstr("nothing answers at 127.0.0.1:1"),
                                HasSubstr("ounce-server --model")));
}

// Where the pictures that the embedded detector was not trained on lie.
constexpr char kExamples[] = OUNCE_SOURCE_ROOT "/models/detr-tiny/examples";

class CliDetectTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    Start({"--model",
           absl::StrCat("detr=", OUNCE_SOURCE_ROOT, "/models/detr-tiny"),
           "--model", absl::StrCat("tiny=", testing::kTinyModel)});
  }

  static std::string Example(const std::string& name) {
    return absl::StrCat(kExamples, "/", name);
  }
};

TEST_F(CliDetectTest, PrintsWhatTheRpcFinds) {
  const std::string path = Example("shapes-400x300.png");
  v1::DetectObjectsRequest request;
  request.set_model("detr");
  request.set_image(testing::ReadFile(path));
  request.set_threshold(0.5f);
  const auto expected = client_->DetectObjects(request);
  ASSERT_TRUE(expected.ok()) << expected.status();
  ASSERT_GT(expected->detections_size(), 0);
  const Finished cli = Cli({"detect", "detr", path, "--threshold", "0.5"});
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_EQ(cli.out, client::DetectionsText(*expected, 0.5f));
  EXPECT_THAT(cli.err, MatchesRegex("\\[400x300 pixels, .* ms decoding, .* ms "
                                    "in the model, .*; detr v1 .*\\]\n"));
  const Finished from_stdin = Cli(
      {"detect", "detr", "-", "--threshold", "0.5", "--json"}, request.image());
  EXPECT_EQ(from_stdin.code, 0) << from_stdin.err;
  const auto json = nlohmann::json::parse(from_stdin.out);
  ASSERT_EQ(json["detections"].size(),
            static_cast<size_t>(expected->detections_size()));
  EXPECT_EQ(json["detections"][0]["label"], expected->detections(0).label());
  EXPECT_EQ(json["image_width"], 400);
  request.set_max_detections(1);
  EXPECT_EQ(
      Cli({"detect", "detr", path, "--threshold", "0.5", "--max", "1"}).out,
      client::DetectionsText(*client_->DetectObjects(request), 0.5f));
}

// Intersection over union of x, y, width, height and a BoundingBox.
double Overlap(const nlohmann::json& bbox, const nlohmann::json& box) {
  const double left = bbox[0], top = bbox[1];
  const double right = left + bbox[2].get<double>();
  const double bottom = top + bbox[3].get<double>();
  const double x_min = box["x_min"], y_min = box["y_min"];
  const double x_max = box["x_max"], y_max = box["y_max"];
  const double both =
      std::max(0.0, std::min(right, x_max) - std::max(left, x_min)) *
      std::max(0.0, std::min(bottom, y_max) - std::max(top, y_min));
  return both / ((right - left) * (bottom - top) +
                 (x_max - x_min) * (y_max - y_min) - both);
}

TEST_F(CliDetectTest, FindsTheShapesOfTheExamples) {
  const auto truth =
      nlohmann::json::parse(testing::ReadFile(Example("annotations.json")));
  int num_objects = 0, num_found = 0;
  for (const auto& picture : truth["images"]) {
    const Finished cli = Cli({"detect", "detr", Example(picture["file_name"]),
                              "--threshold", "0.5", "--json"});
    ASSERT_EQ(cli.code, 0) << cli.err;
    const auto answer = nlohmann::json::parse(cli.out);
    for (const auto& object : truth["annotations"]) {
      if (object["image_id"] != picture["id"]) continue;
      ++num_objects;
      num_found +=
          std::any_of(answer["detections"].begin(), answer["detections"].end(),
                      [&](const nlohmann::json& found) {
                        return found["label_id"] == object["category_id"] &&
                               Overlap(object["bbox"], found["box"]) >= 0.5;
                      });
    }
  }
  EXPECT_GT(num_objects, 10);
  EXPECT_GE(num_found, 0.9 * num_objects) << num_found << "/" << num_objects;
}

TEST_F(CliDetectTest, DrawsThePicturesThatItWasGiven) {
  const Finished cli = Cli({"detect", "detr", Example("shapes-640x480.jpg"),
                            Example("shapes-300x300.png"), "--threshold", "0.5",
                            "--draw", folder_.Path("out.png")});
  ASSERT_EQ(cli.code, 0) << cli.err;
  EXPECT_THAT(cli.out, AllOf(HasSubstr("shapes-640x480.jpg\nLABEL"),
                             HasSubstr("shapes-300x300.png\nLABEL")));
  const auto first =
      image::Inspect(testing::ReadFile(folder_.Path("out-1.png")));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->width, 640);
  const auto second =
      image::Inspect(testing::ReadFile(folder_.Path("out-2.png")));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->width, 600);  // a small one is enlarged
}

TEST_F(CliDetectTest, TellsRefusedPicturesByNameAndGoesOn) {
  const Finished cli =
      Cli({"detect", "detr", folder_.WriteFile("text.png", "no picture"),
           Example("shapes-400x300.png"), "--threshold", "0.5"});
  EXPECT_EQ(cli.code, 3);
  EXPECT_THAT(cli.err,
              AllOf(HasSubstr("INVALID_ARGUMENT: "), HasSubstr("text.png: ")));
  EXPECT_THAT(cli.out, HasSubstr("LABEL"));
  const Finished above =
      Cli({"detect", "detr", Example("shapes-400x300.png"), "-t", "1.5"});
  EXPECT_EQ(above.code, 3);
  EXPECT_THAT(above.err,
              AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("threshold")));
  const Finished wrong = Cli({"detect", "tiny", Example("shapes-400x300.png")});
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("FAILED_PRECONDITION"));
  EXPECT_THAT(Cli({"generate", "detr", "a"}).err,
              HasSubstr("FAILED_PRECONDITION"));
}

TEST_F(CliDetectTest, ReportsConvolutionsApartAndHowFarDetectionsMoved) {
  const Finished cli =
      Cli({"quantize", "detr", "linear", "--convolutions", "--pictures",
           Example("shapes-400x300.png"), Example("shapes-300x300.png")});
  ASSERT_EQ(cli.code, 0) << cli.err;
  EXPECT_THAT(cli.out,
              AllOf(HasSubstr("\nconvolutions "), HasSubstr("\nlinear layers "),
                    HasSubstr("SCORE DRIFT"), HasSubstr(" px\n")));
  for (const absl::string_view line : absl::StrSplit(cli.out, '\n')) {
    EXPECT_LE(line.size(), 120u) << line;
  }
  const Finished detect =
      Cli({"detect", "detr", Example("shapes-400x300.png"), "-t", "0.5"});
  EXPECT_EQ(detect.code, 0) << detect.err;
  EXPECT_THAT(detect.err, HasSubstr("detr v2 linear"));
  const Finished load = Cli(
      {"load", "small", absl::StrCat(OUNCE_SOURCE_ROOT, "/models/detr-tiny"),
       "--method", "linear", "--convolutions"});
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_EQ(Model("small").stored_bytes(), Model("detr").stored_bytes());
  const Finished models = Cli({"models"});
  EXPECT_THAT(models.out, AllOf(HasSubstr("detect"), HasSubstr("generate"),
                                HasSubstr("KV CAPACITY")));
  for (const absl::string_view line : absl::StrSplit(models.out, '\n')) {
    EXPECT_LE(line.size(), 100u) << line;
  }
}

}  // namespace
}  // namespace ounce
