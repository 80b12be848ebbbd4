// Quantizing a model of a real server while it serves.
#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

class QuantizeTest : public testing::ServingTest {
 protected:
  void StartDeepModel() { Start({"--model", "tiny=" + DeepModel()}); }
};

TEST_F(QuantizeTest, FourStreamsGoOnWhileTheModelIsQuantized) {
  Start();
  constexpr int kStreams = 4;
  std::atomic<bool> enough = false;
  std::atomic<int64_t> tokens = 0;
  std::atomic<int> requests = 0;
  std::atomic<int64_t> first_version = 0;
  std::atomic<int64_t> last_version = 0;
  std::vector<absl::Status> failures[kStreams];
  std::vector<std::thread> threads;
  for (int i = 0; i < kStreams; ++i) {
    threads.emplace_back([&, i] {
      while (!enough) {
        v1::GenerateResponse last;
        const absl::Status status =
            client_->Generate(Request(absl::StrCat("def f", i, "():\n"), 100),
                              [&](const v1::GenerateResponse& message) {
                                tokens += message.token_ids_size();
                                last = message;
                                return true;
                              });
        if (!status.ok()) failures[i].push_back(status);
        ++requests;
        int64_t none = 0;
        first_version.compare_exchange_strong(none, last.model_version());
        last_version = last.model_version();
      }
    });
  }
  const auto speed = [&](const std::function<void()>& during) {
    const absl::Time start = absl::Now();
    const int64_t before = tokens;
    during();
    return static_cast<double>(tokens - before) /
           absl::ToDoubleSeconds(absl::Now() - start);
  };
  absl::SleepFor(absl::Milliseconds(300));
  const double alone = speed([] { absl::SleepFor(absl::Seconds(1)); });
  constexpr int kRounds = 4;
  const double beside = speed([&] {
    for (int round = 0; round < kRounds; ++round) {
      v1::QuantizeRequest request = ToInt8();
      if (round % 2 == 1) request.set_method("float16");
      const auto report = Quantize(request);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->version(), round + 2);
    }
  });
  WaitUntil([&] { return last_version == kRounds + 1; });
  enough = true;
  for (std::thread& thread : threads) thread.join();
  for (const auto& stream : failures) {
    for (const absl::Status& status : stream) ADD_FAILURE() << status;
  }
  EXPECT_EQ(first_version, 1);
  EXPECT_EQ(last_version, kRounds + 1);
  EXPECT_EQ(Metric("ounce_requests_total", {"outcome=\"error\""}), 0);
  absl::PrintF(
      "%d requests, none failed; %.0f tok/s alone, %.0f tok/s beside %d "
      "quantizations: %.1f %% slower\n",
      requests.load(), alone, beside, kRounds, 100 * (1 - beside / alone));
}

TEST_F(QuantizeTest, MetricsSayWhatTheReportSaid) {
  Start();
  const double checkpoint = Metric("ounce_model_checkpoint_bytes");
  EXPECT_EQ(Metric("ounce_model_stored_bytes", {"version=\"1\""}), checkpoint);
  const auto report = Quantize(ToInt8());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->checkpoint_bytes(), checkpoint);
  EXPECT_EQ(report->version(), 2);
  EXPECT_LT(report->stored_bytes_after(), report->stored_bytes_before());
  const std::vector<std::string> version = {
      "model=\"tiny\"", "version=\"2\"",
      absl::StrCat("method=\"", report->method(), "\"")};
  EXPECT_EQ(Metric("ounce_model_stored_bytes", version),
            report->stored_bytes_after());
  EXPECT_EQ(Metric("ounce_model_weight_bytes", version),
            report->resident_bytes_after());
  EXPECT_EQ(Metric("ounce_model_saved_bytes"),
            report->checkpoint_bytes() - report->stored_bytes_after());
  EXPECT_NEAR(Metric("ounce_model_saved_ratio"), report->saved_ratio(), 1e-6);
  EXPECT_EQ(Metric("ounce_model_stored_bytes", {"version=\"1\""}), -1)
      << "the version before is forgotten";
  EXPECT_EQ(Metric("ounce_model_weight_bytes", {"version=\"1\""}), -1);
  EXPECT_EQ(Metric("ounce_quantizations_total",
                   {"method=\"linear\"", "outcome=\"done\""}),
            1);
  EXPECT_EQ(Metric("ounce_quantization_seconds_count"), 1);
  EXPECT_EQ(Metric("ounce_quantization_stage"), -1);
  // And the tensors add up.
  int64_t before = 0, after = 0;
  for (const v1::TensorReport& tensor : report->tensors()) {
    before += tensor.bytes_before();
    after += tensor.bytes_after();
    EXPECT_NE(tensor.left_alone().empty(),
              tensor.shape_size() < 2 ||
                  tensor.name().find("wte") != std::string::npos ||
                  tensor.name().find("lm_head") != std::string::npos)
        << tensor.ShortDebugString();
  }
  EXPECT_EQ(before, report->checkpoint_bytes());
  EXPECT_EQ(after, report->stored_bytes_after());
  // What is served is what was reported.
  const v1::Model model = Model("tiny");
  EXPECT_EQ(model.version(), 2);
  EXPECT_EQ(model.method(), report->method());
  EXPECT_EQ(model.stored_bytes(), report->stored_bytes_after());
  EXPECT_EQ(model.resident_bytes(), report->resident_bytes_after());
}

TEST_F(QuantizeTest, GivesTheTokensOfAServerStartedThatWay) {
  Start({"--model",
         absl::StrCat("tiny=", testing::kTinyModel, ",method=linear:bits=8")});
  const auto started = Generate(Request("def f(x):\n    ", 60));
  ASSERT_TRUE(started.ok()) << started.status();
  const double resident_started = Metric("ounce_process_resident_bytes");
  Stop();
  Start();
  const auto before = Generate(Request("def f(x):\n    ", 60));
  ASSERT_TRUE(Quantize(ToInt8()).ok());
  const auto after = Generate(Request("def f(x):\n    ", 60));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->first, started->first);
  const double resident = Metric("ounce_process_resident_bytes");
  EXPECT_LE(resident, 1.05 * resident_started + 30e6);
  // And back again.
  v1::QuantizeRequest back = ToInt8();
  back.set_method("float16");
  ASSERT_TRUE(Quantize(back).ok());
  EXPECT_EQ(Generate(Request("def f(x):\n    ", 60))->first, before->first);
}

// All of a report but what it took, and what was there before.
std::string Outcome(v1::QuantizeReport report) {
  report.clear_version();
  report.clear_seconds();
  report.clear_method_before();
  report.clear_stored_bytes_before();
  report.clear_resident_bytes_before();
  return report.DebugString();
}

TEST_F(QuantizeTest, APlanLiveAndTheSamePlanAtStartGiveTheSameReport) {
  Start();
  v1::QuantizeRequest request;
  request.set_model("tiny");
  request.set_plan(
      "lm_head=linear *.mlp.*=linear:bits=4 *.h.0.*=bfloat16 linear:bits=8");
  const auto report = Quantize(request);
  ASSERT_TRUE(report.ok()) << report.status();
  const std::string plan =
      "lm_head=linear *.mlp.*=linear:bits=4 *.h.0.*=bfloat16 linear";
  EXPECT_EQ(report->plan(), plan);
  EXPECT_EQ(report->method(), plan);
  EXPECT_EQ(Metric("ounce_model_stored_bytes",
                   {"version=\"2\"", "method=\"" + plan + "\""}),
            report->stored_bytes_after());
  const v1::Model live = Model("tiny");
  EXPECT_EQ(live.plan(), plan);
  const auto tokens = Generate(Request("def f(x):\n    ", 60));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  const auto server = client_->GetServer();
  ASSERT_TRUE(server.ok()) << server.status();
  Stop();

  Start({"--model",
         absl::StrCat("tiny=", testing::kTinyModel, ",plan=", report->plan())});
  const auto expect_the_same = [&] {
    const v1::Model started = Model("tiny");
    EXPECT_EQ(started.plan(), plan);
    EXPECT_EQ(started.method(), live.method());
    EXPECT_EQ(started.parameters(), live.parameters());
    EXPECT_EQ(started.stored_bytes(), live.stored_bytes());
    EXPECT_EQ(started.resident_bytes(), live.resident_bytes());
    EXPECT_EQ(Generate(Request("def f(x):\n    ", 60))->first, tokens->first);
    request.set_plan(plan);
    request.set_dry_run(true);
    const auto again = Quantize(request);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->stored_bytes_before(), report->stored_bytes_after());
    EXPECT_EQ(again->resident_bytes_before(), report->resident_bytes_after());
    EXPECT_EQ(Outcome(*again), Outcome(*report));
  };
  expect_the_same();
  Stop();
  // What the server wrote down of itself does it too.
  Start({"--config", folder_.WriteFile("next.textproto", server->config())});
  expect_the_same();
}

TEST_F(QuantizeTest, ServesTheResultBesideTheOldModel) {
  Start();
  v1::QuantizeRequest request = ToInt8();
  request.set_as("small");
  const auto report = Quantize(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Model("tiny").version(), 1);
  EXPECT_EQ(Model("tiny").method(), "float16");
  EXPECT_THAT(Model("small").method(), HasSubstr("linear"));
  EXPECT_EQ(Model("small").stored_bytes(), report->stored_bytes_after());
  v1::GenerateRequest small = Request("a", 3);
  small.set_model("small");
  EXPECT_TRUE(Generate(small).ok());
  EXPECT_TRUE(*client_->IsServing("models/small"));
  EXPECT_THAT(Quantize(request),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("small")));
}

TEST_F(QuantizeTest, ADryRunChangesNothing) {
  Start();
  v1::QuantizeRequest request = ToInt8();
  request.set_dry_run(true);
  const auto report = Quantize(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->version(), 0);
  EXPECT_LT(report->stored_bytes_after(), report->stored_bytes_before());
  EXPECT_EQ(Model("tiny").version(), 1);
  EXPECT_EQ(Model("tiny").method(), "float16");
  EXPECT_EQ(Metric("ounce_model_stored_bytes", {"version=\"1\""}),
            report->stored_bytes_before());
}

TEST_F(QuantizeTest, OneThingAtATimeIsDoneToAModel) {
  StartDeepModel();
  bool asked = false;
  const auto other =
      client::Client::Create({.server = inference_, .admin = admin_});
  const auto report =
      Quantize(ToInt8(), [&](const v1::QuantizeProgress& progress) {
        if (!asked && !progress.has_report()) {
          asked = true;
          EXPECT_THAT(
              other->Quantize(ToInt8(), [](const auto&) { return true; }),
              StatusIs(absl::StatusCode::kAborted));
          v1::UnloadModelRequest unload;
          unload.set_name("tiny");
          EXPECT_THAT(other->UnloadModel(unload).status(),
                      StatusIs(absl::StatusCode::kAborted));
          EXPECT_EQ(Model("tiny").state(), v1::MODEL_STATE_QUANTIZING);
          EXPECT_EQ(Metric("ounce_model_state", {"state=\"quantizing\""}), 1);
        }
        return true;
      });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(asked);
  EXPECT_EQ(Model("tiny").version(), 2);
  EXPECT_EQ(Model("tiny").state(), v1::MODEL_STATE_READY);
}

TEST_F(QuantizeTest, ACancelledQuantizationLeavesAllAsItWas) {
  StartDeepModel();
  const auto before = Generate(Request("def ", 20));
  EXPECT_THAT(
      Quantize(ToInt8(), [](const v1::QuantizeProgress&) { return false; }),
      StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(WaitUntil(
      [&] { return Model("tiny").state() == v1::MODEL_STATE_READY; }));
  EXPECT_EQ(Model("tiny").version(), 1);
  EXPECT_EQ(Generate(Request("def ", 20))->first, before->first);
  EXPECT_EQ(Metric("ounce_quantizations_total", {"outcome=\"cancelled\""}), 1);
}

TEST_F(QuantizeTest, RefusesWhatItDoesNotKnow) {
  Start();
  const auto refusal = [&](const std::string& model,
                           const std::string& method) {
    v1::QuantizeRequest request;
    request.set_model(model);
    request.set_method(method);
    return Quantize(request).status();
  };
  EXPECT_THAT(refusal("other", "linear"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("tiny")));
  EXPECT_THAT(
      refusal("tiny", "octonions"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               ::testing::AllOf(HasSubstr("octonions"), HasSubstr("linear"))));
  EXPECT_THAT(refusal("tiny", "linear:bots=8"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bots")));
  EXPECT_THAT(refusal("tiny", "linear:bits=-3"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-3")));
  v1::QuantizeRequest request;
  request.set_model("tiny");
  request.set_plan("lm_head=keep *.nothing.*=linear linear");
  EXPECT_THAT(Quantize(request).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rule '*.nothing.*=linear' matches no")));
  request.set_method("linear");
  EXPECT_THAT(Quantize(request).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("plan: says all by itself")));
  EXPECT_TRUE(Generate(Request("def ", 4)).ok()) << "the server goes on";
  EXPECT_EQ(Model("tiny").version(), 1);
}

}  // namespace
}  // namespace ounce
