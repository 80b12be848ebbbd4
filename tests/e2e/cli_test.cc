// The ounce command line against a real server.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/report.h"
#include "gmock/gmock.h"
#include "image/decode.h"
#include "tests/e2e/serving.h"
#include "tests/e2e/terminal.h"
#include "tests/testing/relay.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
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
  EXPECT_EQ(lines.back()["usage"]["new_tokens"], 8);

  const auto models = Lines(Cli({"models", "--json"}).out);
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0]["models"][0]["name"], "tiny");
  EXPECT_EQ(models[0]["models"][0]["state"], "MODEL_STATE_READY");

  const auto quantize =
      Lines(Cli({"quantize", "tiny", "linear", "--dry_run", "--json"}).out);
  EXPECT_EQ(quantize.back()["stage"], "QUANTIZE_STAGE_DONE");
  EXPECT_GT(quantize.back()["report"]["tensors"].size(), 10u);
}

TEST_F(CliTest, PrintsJsonThatPythonReadsAsNumbers) {
  const Finished models = Cli({"models", "--json"});
  const auto model = Lines(models.out)[0]["models"][0];
  for (const char* field :
       {"version", "stored_bytes", "kv_used_bytes", "running_requests"}) {
    EXPECT_TRUE(model[field].is_number_integer()) << field << model;
  }
  const Finished python = testing::RunToEnd(
      {"python3", "-c",
       "import json, sys\n"
       "model = json.load(sys.stdin)['models'][0]\n"
       "print(model['stored_bytes'] // 1000 + model['queued_requests'])"},
      models.out);
  EXPECT_EQ(python.code, 0) << python.err;
  EXPECT_EQ(python.out,
            absl::StrCat(Model("tiny").stored_bytes() / 1000, "\n"));
}

TEST_F(CliTest, UsesNoProxyForThisMachine) {
  std::vector<std::string> args = {"env"};
  for (const char* name :
       {"http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"}) {
    args.push_back(absl::StrCat(name, "=http://127.0.0.1:1"));
  }
  args.insert(args.end(), {OUNCE_CLI_BINARY, "--server", inference_, "health"});
  const Finished cli = testing::RunToEnd(args);
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_EQ(cli.out, "serving\n");
}

TEST_F(CliTest, NamesTheMetricsPortForWhatItIs) {
  const Finished cli =
      testing::RunToEnd({OUNCE_CLI_BINARY, "--server", metrics_, "health"});
  EXPECT_EQ(cli.code, 4);
  EXPECT_THAT(cli.err, AllOf(HasSubstr("does not speak gRPC"),
                             HasSubstr("the port for metrics")));
}

TEST_F(CliTest, ReportsOutputThatIsNotWritten) {
  const std::vector<std::vector<std::string>> lines = {
      {"models"},
      {"models", "--json"},
      {"methods"},
      {"health"},
      {"tokenize", "tiny", "a"},
      {"detokenize", "tiny", "1"},
      {"generate", "tiny", "a", "-n", "2000"},
      {"generate", "tiny", "a", "-n", "2000", "--json"},
      {"quantize", "tiny", "linear", "--dry_run"},
      {"quantize", "tiny", "linear", "--dry_run", "--json"}};
  for (const std::vector<std::string>& line : lines) {
    std::vector<std::string> args = {"sh",
                                     "-c",
                                     "exec \"$0\" \"$@\" > /dev/full",
                                     OUNCE_CLI_BINARY,
                                     "--server",
                                     inference_,
                                     "--admin",
                                     admin_};
    args.insert(args.end(), line.begin(), line.end());
    const Finished full = testing::RunToEnd(args);
    EXPECT_EQ(full.code, 4) << absl::StrJoin(line, " ");
    EXPECT_THAT(full.err, EndsWith("ounce: DATA_LOSS: cannot write to stdout: "
                                   "No space left on device\n"))
        << absl::StrJoin(line, " ");
  }
  // A completion that nobody takes ends.
  EXPECT_TRUE(WaitUntil([&] { return Model("tiny").running_requests() == 0; }));
  // Where stdout is closed, no file or connection has taken its number.
  const Finished closed =
      testing::RunToEnd({"sh", "-c", "exec \"$0\" \"$@\" >&-", OUNCE_CLI_BINARY,
                         "--admin", admin_, "models"});
  EXPECT_EQ(closed.code, 4);
  EXPECT_EQ(closed.err,
            "ounce: DATA_LOSS: cannot write to stdout: Bad file descriptor\n");
}

TEST_F(CliTest, QuantizesBesideTheModelAndSaysWhatThatTakes) {
  const Finished cli = Cli({"quantize", "tiny", "linear", "--as", "tiny8"});
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_THAT(cli.out, MatchesRegex("tiny -> tiny8: linear, version 1, "
                                    "\\+[0-9.]+ MiB in memory, (.|\n)*"));
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
  EXPECT_THAT(other.err, HasSubstr("nothing is named 'models/other'"));
  const auto json = Lines(Cli({"health", "--json"}).out);
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0], nlohmann::json({{"status", "SERVING"}}));
}

TEST_F(CliTest, ShowsModelsWhereOnlyThePublicPortIsInReach) {
  const auto ask = [&](std::vector<std::string> args) {
    args.insert(args.begin(), {OUNCE_CLI_BINARY, "--server", inference_,
                               "--admin", "127.0.0.1:1", "models"});
    return testing::RunToEnd(args);
  };
  const Finished models = ask({});
  EXPECT_EQ(models.code, 0) << models.err;
  EXPECT_THAT(models.out,
              ContainsRegex("tiny +generate +ready +1 +float16 +codegen"));
  EXPECT_THAT(models.err, AllOf(HasSubstr("only the admin port tells them"),
                                HasSubstr("nothing answers at 127.0.0.1:1"),
                                HasSubstr("--admin")));
  const auto json = Lines(ask({"--json"}).out);
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["models"][0]["name"], "tiny");
  EXPECT_EQ(json[0]["models"][0]["max_positions"], 512);
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

TEST_F(CliTest, QuantizesAndLoadsByAPlan) {
  const std::string plan =
      "lm_head=keep *.h.0.*=bfloat16 @embedding=linear linear";
  const Finished cli = Cli({"quantize", "tiny", "--plan", plan});
  EXPECT_EQ(cli.code, 0) << cli.err;
  EXPECT_THAT(cli.out,
              AllOf(HasSubstr("version 2"), HasSubstr("\nplan: " + plan + "\n"),
                    HasSubstr("] kept by 'lm_head=keep'\n")));
  for (const absl::string_view line : absl::StrSplit(cli.out, '\n')) {
    EXPECT_LE(line.size(), 120u) << line;
  }
  const Finished load =
      Cli({"load", "second", testing::kTinyModel, "--plan", plan});
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_EQ(Model("second").plan(), plan);
  EXPECT_EQ(Model("second").stored_bytes(), Model("tiny").stored_bytes());

  EXPECT_THAT(Cli({"quantize", "tiny"}).err, HasSubstr("SPEC is missing"));
  EXPECT_EQ(Cli({"quantize", "tiny"}).code, 2);
  EXPECT_EQ(Cli({"quantize", "tiny", "linear", "--plan", "linear"}).code, 2);
  const Finished both =
      Cli({"quantize", "tiny", "--plan", "linear", "--exclude", "lm_head"});
  EXPECT_EQ(both.code, 3);
  EXPECT_THAT(both.err, HasSubstr("leave these out, or the plan"));
  EXPECT_THAT(Cli({"quantize", "tiny", "--plan", "x=keep linear"}).err,
              HasSubstr("rule 'x=keep' matches no matrix of the model"));
  EXPECT_THAT(Cli({"quantize", "--help"}).out,
              AllOf(HasSubstr("--plan PLAN"), HasSubstr("SELECTOR=SPEC")));
}

TEST_F(CliTest, LoadsAndUnloads) {
  const Finished load =
      Cli({"load", "second", testing::kTinyModel, "--method", "float32"});
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_THAT(load.out, AllOf(HasSubstr("second"), HasSubstr("float32")));
  EXPECT_EQ(Cli({"generate", "second", "a", "-n", "1"}).code, 0);
  EXPECT_EQ(Cli({"load", "second", testing::kTinyModel}).code, 3);
  EXPECT_EQ(Cli({"unload", "second"}).out, "unloaded second\n");
  // The server may have been done by then, and the program says so.
  const Finished hasty =
      Cli({"--deadline", "0.001", "load", "third", testing::kTinyModel});
  EXPECT_EQ(hasty.code, 4);
  EXPECT_THAT(hasty.err,
              AnyOf(HasSubstr("the deadline has passed; 'third' is not served"),
                    HasSubstr("'third' was loaded by then and is served")));
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
    EXPECT_THAT(never.err,
                HasSubstr("must be a number of seconds above 0, is '"));
  }
  EXPECT_EQ(Cli({"--help"}).code, 0);

  const Finished refused = Cli({"generate", "tiny", "a", "--top_p", "7"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err,
              HasSubstr("sampling.top_p: must be from 0 to 1, is 7"));
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

// A server is elsewhere, or nowhere.
class CliAloneTest : public ::testing::Test {
 protected:
  static Finished Ounce(std::vector<std::string> args) {
    args.insert(args.begin(), OUNCE_CLI_BINARY);
    return testing::RunToEnd(args);
  }
};

TEST_F(CliAloneTest, HelpsAndSuggests) {
  const Finished help = Ounce({"help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out,
              AllOf(HasSubstr("\n  generate "), HasSubstr("\n  help "),
                    HasSubstr("Exit codes: 0 success, 2 wrong usage, "
                              "3 refused")));
  EXPECT_EQ(help.out, Ounce({"--help"}).out);
  EXPECT_EQ(Ounce({"help", "quantize"}).out, Ounce({"quantize", "--help"}).out);
  const Finished wrong = Ounce({"genrate", "tiny", "a"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_EQ(wrong.out, "");
  EXPECT_THAT(wrong.err, HasSubstr("did you mean 'generate'?"));
  EXPECT_EQ(Ounce({"dance", "--help"}).code, 2);
  EXPECT_EQ(Ounce({"help", "dance"}).code, 2);
}

// Every flag, of every command.
TEST_F(CliAloneTest, TakesEveryFlagWithDashesAndListsItOnce) {
  int num_flags = 0;
  for (const char* command : {"generate", "detect", "quantize", "load"}) {
    const std::string help = Ounce({"help", command}).out;
    for (const absl::string_view word :
         absl::StrSplit(help, absl::ByAnyChar(" ,\n"), absl::SkipEmpty())) {
      if (!absl::StartsWith(word, "--") || !absl::StrContains(word, '_')) {
        continue;
      }
      ++num_flags;
      const std::string dashed = absl::StrReplaceAll(word, {{"_", "-"}});
      EXPECT_FALSE(absl::StrContains(help, dashed)) << dashed;
      EXPECT_THAT(Ounce({command, dashed}).err,
                  AnyOf(HasSubstr("needs a value"), HasSubstr("is missing\n")))
          << dashed;
    }
  }
  EXPECT_GE(num_flags, 6);
}

TEST_F(CliAloneTest, WrongWordsAreAnotherThingThanFilesThatAreNotThere) {
  const std::string none = "/no/such/file";
  EXPECT_EQ(Ounce({"models", "--ca"}).code, 2);
  EXPECT_EQ(Ounce({"models", "--deadline", "soon"}).code, 2);
  for (const std::vector<std::string>& files :
       {std::vector<std::string>{"models", "--ca", none},
        {"models", "--token_file", none},
        {"detect", "shapes", none},
        {"evaluate", "code", "--text", none},
        {"quantize", "code", "linear", "--samples", none}}) {
    const Finished cli = Ounce(files);
    EXPECT_EQ(cli.code, 3) << cli.err;
    EXPECT_THAT(cli.err, HasSubstr(none));
  }
}

TEST_F(CliAloneTest, ReportsOutputThatIsNotWritten) {
  for (const std::string line : {"--help", "--version", "help generate"}) {
    const Finished full = testing::RunToEnd(
        {"sh", "-c", "exec $0 $1 > /dev/full", OUNCE_CLI_BINARY, line});
    EXPECT_EQ(full.code, 4) << line;
    EXPECT_EQ(full.err,
              "ounce: DATA_LOSS: cannot write to stdout: No space left on "
              "device\n");
  }
}

TEST_F(CliAloneTest, SaysWhatIsWrongWithAnAddressAndNothingOfGrpc) {
  const auto says = [](const std::string& server, int code,
                       const std::string& what) {
    const Finished cli = Ounce({"--server", server, "health"});
    EXPECT_EQ(cli.code, code) << server;
    EXPECT_THAT(cli.err, AllOf(StartsWith("ounce: "), HasSubstr(what)));
    EXPECT_EQ(std::count(cli.err.begin(), cli.err.end(), '\n'), 1) << cli.err;
  };
  says("", 2, "ounce: --server: must be HOST:PORT, is empty");
  says("somewhere", 2, "is 'somewhere', which has no port");
  says("https://127.0.0.1:1", 2, "and --tls for TLS");
  says("127.0.0.1:x", 2, "a port from 1 to 65535");
  says("nosuchhost.invalid:1", 4, "no host 'nosuchhost.invalid'");
  says("127.0.0.1:1", 4, "nothing answers at 127.0.0.1:1 (Connection refused)");
  const Finished environment = testing::RunToEnd(
      {"env", "OUNCE_SERVER=here", OUNCE_CLI_BINARY, "health"});
  EXPECT_EQ(environment.code, 2);
  EXPECT_THAT(environment.err,
              HasSubstr("ounce: OUNCE_SERVER: must be HOST:PORT, is 'here'"));
}

// A server that a test ends as it likes.
class CliTerminalTest : public testing::ServingTest {
 protected:
  void SetUp() override { Start(); }

  std::vector<std::string> Line(std::vector<std::string> args) const {
    args.insert(args.begin(),
                {OUNCE_CLI_BINARY, "--server", inference_, "--admin", admin_});
    return args;
  }

  // A completion that does not come to its end, because the relay holds back
  // more than half of it; returns when a part of it is shown.
  std::unique_ptr<testing::Terminal> Stuck(const testing::Relay& relay) {
    const std::string prompt = "def f(x):\n";
    auto terminal = std::make_unique<testing::Terminal>(
        std::vector<std::string>{OUNCE_CLI_BINARY, "--server", relay.address(),
                                 "generate", "tiny", prompt, "-n", "400",
                                 "--logprobs", "20"},
        80);
    const std::string text = Generate(Request(prompt, 1))->first;
    EXPECT_TRUE(terminal->Shows(text)) << terminal->screen();
    EXPECT_TRUE(WaitUntil([&] { return relay.holding(); }));
    return terminal;
  }
};

constexpr int64_t kPartOfACompletion = 32 << 10;  // bytes, with logprobs

TEST_F(CliTerminalTest, EndsByTheSignalAfterSayingWhatCtrlCDid) {
  const testing::Relay relay(inference_, kPartOfACompletion);
  const auto terminal = Stuck(relay);
  terminal->Type("\x03");
  EXPECT_EQ(terminal->Wait(), 128 + SIGINT) << terminal->screen();
  EXPECT_THAT(terminal->screen(),
              ContainsRegex("\r\n[^\r\n]*ounce: cancelled after [0-9]+ "
                            "tokens?[^\r\n]*\r\n$"));
  EXPECT_TRUE(WaitUntil([&] { return Model("tiny").running_requests() == 0; }));
}

TEST_F(CliTerminalTest, SaysAfterHowManyTokensTheServerWentAway) {
  testing::Relay relay(inference_, kPartOfACompletion);
  const auto terminal = Stuck(relay);
  relay.HangUp();
  EXPECT_EQ(terminal->Wait(), 4) << terminal->screen();
  EXPECT_THAT(
      terminal->screen(),
      ContainsRegex("\r\n[^\r\n]*ounce: UNAVAILABLE: the server went away "
                    "after [0-9]+ tokens?"));
}

TEST_F(CliTerminalTest, SaysThatItWaitsForATerminalsInput) {
  testing::Terminal waiting(Line({"generate", "tiny", "-", "-n", "3"}), 80);
  ASSERT_TRUE(
      waiting.Shows("reading the prompt from this terminal; end it "
                    "with Ctrl-D"))
      << waiting.screen();
  waiting.Type("def f(x):\n\x04");
  EXPECT_EQ(waiting.Wait(), 0) << waiting.screen();
  EXPECT_THAT(waiting.screen(), HasSubstr("3 new tokens"));

  // Nothing is under way that could be cancelled.
  testing::Terminal ended(Line({"tokenize", "tiny", "-"}), 80);
  ASSERT_TRUE(ended.Shows("reading the text")) << ended.screen();
  ended.Type("\x03");
  EXPECT_EQ(ended.Wait(), 128 + SIGINT) << ended.screen();
}

TEST_F(CliTerminalTest, KeepsProgressOnOneLineOfANarrowTerminal) {
  for (const int columns : {20, 60, 74, 200}) {
    testing::Terminal terminal(Line({"quantize", "tiny", "linear"}), columns);
    ASSERT_EQ(terminal.Wait(), 0) << terminal.screen();
    const std::string& screen = terminal.screen();
    const size_t report = screen.find("tiny: ");
    ASSERT_NE(report, std::string::npos) << screen;
    int num_updates = 0;
    for (const absl::string_view shown :
         absl::StrSplit(screen.substr(0, report), "\r\033[K")) {
      EXPECT_LT(shown.size(), static_cast<size_t>(columns)) << shown;
      EXPECT_FALSE(absl::StrContains(shown, '\n')) << shown;
      ++num_updates;
    }
    EXPECT_GE(num_updates, 3);
  }
  EXPECT_THAT(Cli({"quantize", "tiny", "float16"}).err, Not(HasSubstr("\033")));
}

TEST_F(CliTerminalTest, KeepsWhatItSaysApartFromTheText) {
  const std::vector<std::string> line =
      Line({"generate", "tiny", "import os\n", "-n", "3"});
  // Into a pipe whose end is the same terminal.
  std::vector<std::string> piped = {"sh", "-c", "\"$0\" \"$@\" | cat"};
  piped.insert(piped.end(), line.begin(), line.end());
  for (const auto& args : {line, piped}) {
    testing::Terminal terminal(args, 80);
    EXPECT_EQ(terminal.Wait(), 0);
    EXPECT_THAT(terminal.screen(), HasSubstr("\r\n[3 prompt + 3 new"))
        << terminal.screen();
  }
  // In files of their own nothing is added to either.
  const Finished files = testing::RunToEnd(line);
  EXPECT_THAT(files.err, StartsWith("["));
}

// Where the pictures that the embedded detector was not trained on lie.
constexpr char kExamples[] = OUNCE_SOURCE_ROOT "/embedded/detr-tiny/examples";

class CliDetectTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    Start({"--model",
           absl::StrCat("detr=", OUNCE_SOURCE_ROOT, "/embedded/detr-tiny"),
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
  const auto line = nlohmann::json::parse(from_stdin.out);
  EXPECT_EQ(line["file"], "-");
  const auto& json = line["response"];
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
    const auto answer = nlohmann::json::parse(cli.out)["response"];
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
  EXPECT_THAT(detect.err, HasSubstr("detr v2 @convolution=linear linear"));
  const Finished load = Cli(
      {"load", "small", absl::StrCat(OUNCE_SOURCE_ROOT, "/embedded/detr-tiny"),
       "--method", "linear", "--convolutions"});
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_EQ(Model("small").stored_bytes(), Model("detr").stored_bytes());
  const Finished models = Cli({"models"});
  EXPECT_THAT(models.out, AllOf(HasSubstr("detect"), HasSubstr("generate"),
                                HasSubstr("KV LIMIT")));
  for (const absl::string_view line : absl::StrSplit(models.out, '\n')) {
    EXPECT_LE(line.size(), 100u) << line;
  }
}

}  // namespace
}  // namespace ounce
