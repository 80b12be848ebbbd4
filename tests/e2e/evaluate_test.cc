// How well a model of a real server predicts a text, while it serves.
#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/patched_weight.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::StatusIs;

constexpr char kText[] = OUNCE_SOURCE_ROOT "/tests/golden/perplexity/code.txt";

class EvaluateTest : public testing::ServingTest {
 protected:
  static v1::EvaluateRequest Request(uint32_t window, uint32_t stride) {
    v1::EvaluateRequest request;
    request.set_model("tiny");
    request.set_text(testing::ReadFile(kText));
    request.set_window(window);
    request.set_stride(stride);
    return request;
  }
  absl::StatusOr<v1::EvaluateReport> Evaluate(
      const v1::EvaluateRequest& request,
      const std::function<bool(const v1::EvaluateProgress&)>& on_message =
          [](const v1::EvaluateProgress&) { return true; }) {
    v1::EvaluateReport report;
    const absl::Status status =
        client_->Evaluate(request, [&](const v1::EvaluateProgress& progress) {
          if (progress.has_report()) report = progress.report();
          return on_message(progress);
        });
    if (!status.ok()) return status;
    return report;
  }
  // What transformers finds of the embedded model.
  static double Golden(int64_t window, int64_t stride) {
    const auto goldens = nlohmann::json::parse(testing::ReadFile(
        OUNCE_SOURCE_ROOT "/tests/golden/perplexity/expected.json"));
    for (const auto& golden : goldens["texts"]) {
      if (golden["name"] != "codegen_tiny") continue;
      for (const auto& expected : golden["windows"]) {
        if (expected["window"] == window && expected["stride"] == stride) {
          return expected["perplexity"];
        }
      }
    }
    ADD_FAILURE() << "no golden";
    return 0;
  }
};

TEST_F(EvaluateTest, TheCommandTellsWhatTransformersFindsAndWhatInt8Costs) {
  Start();
  const double expected = Golden(512, 256);
  const Finished text = Cli({"evaluate", "tiny", "--text", kText});
  ASSERT_EQ(text.code, 0) << text.err;
  const std::string begin = "tiny v1 float16: perplexity ";
  ASSERT_THAT(text.out, StartsWith(begin));
  EXPECT_NEAR(std::stod(text.out.substr(begin.size())) / expected, 1, 1e-3);
  EXPECT_THAT(text.out, HasSubstr("windows of 512, one every 256"));
  EXPECT_THAT(text.err, HasSubstr("evaluating "));

  const Finished json = Cli({"evaluate", "tiny", "--text", "-", "--window",
                             "128", "--stride", "64", "--json"},
                            testing::ReadFile(kText));
  ASSERT_EQ(json.code, 0) << json.err;
  const auto last = nlohmann::json::parse(
      json.out.substr(json.out.rfind('\n', json.out.size() - 2) + 1));
  const double floats = last["report"]["quality"]["perplexity"];
  EXPECT_NEAR(floats / Golden(128, 64), 1, 1e-3);
  EXPECT_EQ(Model("tiny").quality().perplexity(), floats);
  EXPECT_NEAR(Metric("ounce_model_perplexity", {"method=\"float16\""}), floats,
              1e-4);

  ASSERT_OK(Quantize(ToInt8()));
  EXPECT_FALSE(Model("tiny").has_quality());
  const auto quantized = Evaluate(Request(128, 64));
  ASSERT_OK(quantized);
  EXPECT_EQ(quantized->quality().version(), 2);
  EXPECT_EQ(quantized->quality().method(), "linear");
  EXPECT_NE(quantized->quality().perplexity(), floats);
  EXPECT_NEAR(quantized->quality().perplexity() / floats, 1, 0.01);
  EXPECT_NEAR(Metric("ounce_model_perplexity", {"method=\"linear\""}),
              quantized->quality().perplexity(), 1e-4);
  const Finished compared = Cli({"evaluate", "tiny", "--text", kText,
                                 "--window", "128", "--floats", "--json"});
  ASSERT_EQ(compared.code, 0) << compared.err;
  const auto report = nlohmann::json::parse(compared.out.substr(
      compared.out.rfind('\n', compared.out.size() - 2) + 1))["report"];
  const auto& comparison = report["quality"]["floats"];
  EXPECT_EQ(comparison["perplexity"], floats);
  EXPECT_EQ(report["quality"]["perplexity"], quantized->quality().perplexity());
  EXPECT_GT(comparison["mean_kl_divergence"], 0);
  EXPECT_LT(comparison["mean_kl_divergence"], 0.01);
  EXPECT_GT(comparison["top1_agreement"], 0.9);
  EXPECT_NEAR(Metric("ounce_model_perplexity", {"method=\"float16\""}), floats,
              1e-4);
}

TEST_F(EvaluateTest, AQuantizationBeyondItsLimitsLeavesTheOldVersionServing) {
  Start();
  const auto before = Generate(ServingTest::Request("def ", 20));
  ASSERT_OK(before);
  const double weights = Metric("ounce_memory_bytes", {"share=\"weights\""});
  const Finished refused =
      Cli({"quantize", "tiny", "linear:bits=2", "--samples", kText,
           "--max_perplexity_increase", "0.01", "--max-kl", "0.05"});
  EXPECT_EQ(refused.code, 3) << refused.err;
  EXPECT_THAT(refused.err,
              AllOf(HasSubstr("the new version does not serve: perplexity"),
                    HasSubstr("max_perplexity_increase is 0.01 (1%); KL"),
                    HasSubstr("max_kl is 0.05"), HasSubstr("evaluating")));
  EXPECT_THAT(refused.out,
              AllOf(HasSubstr("refused: nothing that is served has changed"),
                    HasSubstr("414 of 415 tokens count"),
                    HasSubstr("floats: perplexity"), HasSubstr("OUTPUT")));
  EXPECT_EQ(Model("tiny").version(), 1);
  EXPECT_FALSE(Model("tiny").has_quality());
  EXPECT_EQ(Metric("ounce_memory_bytes", {"share=\"weights\""}), weights);
  EXPECT_EQ(Metric("ounce_quantizations_total",
                   {"method=\"linear:bits=2\"", "outcome=\"refused_quality\""}),
            1);
  EXPECT_EQ(Metric("ounce_quantizations_total",
                   {"method=\"linear:bits=2\"", "outcome=\"error\""}),
            0);
  EXPECT_EQ(Generate(ServingTest::Request("def ", 20))->first, before->first);

  const Finished served =
      Cli({"quantize", "tiny", "linear", "--probe", "--max_kl", "0.05",
           "--max_perplexity_increase", "0.01", "--json"});
  ASSERT_EQ(served.code, 0) << served.err;
  const auto report = nlohmann::json::parse(served.out.substr(
      served.out.rfind('\n', served.out.size() - 2) + 1))["report"];
  const double perplexity = report["quality"]["perplexity"];
  EXPECT_GT(perplexity, 1);
  EXPECT_EQ(report["refused"], "");
  double most = 0;
  for (const auto& tensor : report["tensors"]) {
    if (tensor["kind"] != "TENSOR_KIND_LINEAR") continue;
    most = std::max<double>(most, tensor.at("relative_l2_output_error"));
  }
  EXPECT_GT(most, 0.001);
  EXPECT_LT(most, 0.1);
  EXPECT_EQ(Model("tiny").version(), 2);
  EXPECT_EQ(Model("tiny").quality().perplexity(), perplexity);
  EXPECT_NEAR(
      Metric("ounce_model_perplexity", {"method=\"linear\""}) / perplexity, 1,
      1e-6);
  EXPECT_THAT(Cli({"quantize", "tiny", "linear", "--max_kl", "1"}).err,
              HasSubstr("max_kl: needs samples"));
  const std::string half = folder_.WriteFile("half", std::string(3 << 20, 'x'));
  EXPECT_THAT(
      Cli({"quantize", "tiny", "linear", "--samples", half, half}).err,
      HasSubstr("texts: must be at most 4194304 bytes together, are 6291456"));
  EXPECT_THAT(Cli({"quantize", "tiny", "linear", "--max_kl", "much"}).err,
              HasSubstr("--max_kl"));
}

TEST_F(EvaluateTest, NumbersThatAreNotFiniteAreTheMethodsOrTheCheckpoints) {
  const std::string folder = folder_.Path("patched");
  std::filesystem::copy(OUNCE_SOURCE_ROOT "/tests/golden/codegen/bfloat16",
                        folder);
  for (const char* layer : {"0", "1"}) {
    testing::PatchFirstWeight(
        folder + "/model.safetensors",
        absl::StrCat("transformer.h.", layer, ".mlp.fc_out.bias"), 3.3e38f);
  }
  Start({"--model", absl::StrCat("tiny=", folder)});
  const auto version = StatusIs(
      absl::StatusCode::kFailedPrecondition,
      AllOf(HasSubstr("the model as bfloat16 computes numbers that are not "
                      "finite (the logits of"),
            HasSubstr("store it by another method, or by plan keep")));
  const auto floats =
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("the checkpoint's floats compute numbers that are "
                         "not finite (the logits of token "));
  EXPECT_THAT(Generate(ServingTest::Request("def ", 4)).status(), version);
  v1::EvaluateRequest request = Request(64, 32);
  EXPECT_THAT(Evaluate(request).status(), version);
  request.set_compare_with_floats(true);
  EXPECT_THAT(Evaluate(request).status(), floats);
  v1::QuantizeRequest quantize = ToInt8();
  quantize.set_probe(true);
  EXPECT_THAT(Quantize(quantize).status(), floats);
  EXPECT_EQ(Model("tiny").version(), 1);
  EXPECT_EQ(Metric("ounce_quantizations_total",
                   {"method=\"linear\"", "outcome=\"refused_quality\""}),
            1);
}

TEST_F(EvaluateTest, TheCommandSaysWhatIsWrong) {
  Start();
  const auto refused = [&](std::vector<std::string> args,
                           const std::string& input = "") {
    args.insert(args.begin(), {"evaluate", "tiny"});
    const Finished ended = Cli(args, input);
    EXPECT_NE(ended.code, 0);
    return ended.err;
  };
  EXPECT_THAT(refused({"--text", "-"}), HasSubstr("text: is empty"));
  EXPECT_THAT(refused({"--text", "-"}, "a"),
              HasSubstr("text: must have at least 2 tokens"));
  EXPECT_THAT(refused({"--text", "-"}, "\xff\xff"), HasSubstr("text: must be"));
  EXPECT_THAT(refused({"--text", kText, "--window", "513"}),
              HasSubstr("window: must be from 2 to 512"));
  EXPECT_THAT(refused({"--text", kText, "--window", "9", "--stride", "10"}),
              HasSubstr("stride: must be at most the window's 9, is 10"));
  EXPECT_THAT(refused({"--text", folder_.Path("none")}),
              HasSubstr("No such file"));
  EXPECT_THAT(refused({"--text", folder_.Path(".")}),
              HasSubstr("is a folder, not a text file"));
  EXPECT_THAT(refused({"--text", "-"}, std::string((4 << 20) + 1, 'x')),
              HasSubstr("is larger than 4.00 MiB"));
}

TEST_F(EvaluateTest, ACancelledOneEndsAtOnceAndGivesItsMemoryBack) {
  Start();
  const auto memory = [&] {
    return Metric("ounce_memory_bytes", {"share=\"kv_cache\""}) +
           Metric("ounce_memory_bytes", {"share=\"scratch\""});
  };
  const double before = memory();
  bool more = false;
  EXPECT_THAT(Evaluate(Request(64, 1),
                       [&](const v1::EvaluateProgress& progress) {
                         if (progress.tokens_done() == 0) return true;
                         more = memory() > before;
                         return false;
                       })
                  .status(),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(more);
  EXPECT_TRUE(WaitUntil([&] { return memory() == before; }));
  EXPECT_EQ(
      Metric("ounce_rpc_requests_total", {"Evaluate", "code=\"CANCELLED\""}),
      1);
}

TEST_F(EvaluateTest, StreamsGoOnBesideOne) {
  Start({"--model", absl::StrCat("tiny=", LongModel())});
  std::atomic<bool> enough = false;
  std::atomic<int64_t> tokens[2] = {0, 0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      while (!enough) {
        const absl::Status status = client_->Generate(
            ServingTest::Request(absl::StrCat("def f", i, "():\n"), 4000),
            [&](const v1::GenerateResponse& message) {
              tokens[i] += message.token_ids_size();
              return !enough;
            });
        EXPECT_TRUE(enough || status.ok()) << status;
      }
    });
  }
  EXPECT_TRUE(WaitUntil([&] { return tokens[0] > 50 && tokens[1] > 50; }));
  const int64_t before[2] = {tokens[0], tokens[1]};
  const double steps_before = Metric("ounce_step_tokens_count");
  int64_t rows = 0;
  const auto report =
      Evaluate(Request(128, 8), [&](const v1::EvaluateProgress& progress) {
        rows = std::max<int64_t>(rows, progress.tokens_total());
        return true;
      });
  const double steps = Metric("ounce_step_tokens_count") - steps_before;
  const int64_t during[2] = {tokens[0] - before[0], tokens[1] - before[1]};
  enough = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(report);
  EXPECT_EQ(report->quality().counted_tokens(), 414);
  std::cout << steps << " steps beside " << rows << " rows, " << during[0]
            << " and " << during[1] << " tokens\n";
  // Engines have eight turns for each of 16 rows while they are busy. On a
  // loaded machine they may seem to be idle at times, so a quarter of that;
  // taking turns alike would give them half of this.
  ASSERT_GT(rows, 1000);
  EXPECT_GT(steps, static_cast<double>(rows) / 8);
  EXPECT_GT(during[0], 0);
  EXPECT_GT(during[1], 0);
}

}  // namespace
}  // namespace ounce
