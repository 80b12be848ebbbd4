// The ounce command line against a real server.
#include "gmock/gmock.h"
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
            HasSubstr("transformer.h.*.attn.qkv_proj.weight"), HasSubstr(" dB"),
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

}  // namespace
}  // namespace ounce
