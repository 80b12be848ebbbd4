#include "server/service/rpc_metrics.h"

#include <grpcpp/generic/generic_stub.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "server/metrics/metrics.h"
#include "server/net/relay.h"
#include "tests/server/service/service_fixture.h"

namespace ounce {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RpcMetricsTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    metrics_ = server::Metrics::Create({});
    figures_ = &metrics_->figures();
    ServiceTest::SetUp();
  }

  // Connections and calls are counted until they have ended.
  void TearDown() override {
    ServiceTest::TearDown();
    listeners_.reset();
  }

  std::string Line(const std::string& rpc, const std::string& code, int count) {
    return absl::StrCat("ounce_rpc_requests_total{code=\"", code, "\",rpc=\"",
                        rpc, "\"} ", count, "\n");
  }
  // A client may hear the end before the server has counted it.
  bool Counts(const std::string& rpc, const std::string& code, int count) {
    return WaitUntil([&] {
      return metrics_->Text().find(Line(rpc, code, count)) != std::string::npos;
    });
  }

  // Calls any method with any bytes.
  grpc::Status Call(const std::string& method, const std::string& bytes = "") {
    grpc::GenericStub stub(channel_);
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    Mutex mu;
    CondVar changed;
    bool done = false;
    grpc::Status result;
    stub.UnaryCall(&context, method, grpc::StubOptions(), &request, &response,
                   [&](const grpc::Status& status) {
                     MutexLock lock(&mu);
                     result = status;
                     done = true;
                     changed.SignalAll();
                   });
    MutexLock lock(&mu);
    while (!done) changed.Wait(&mu);
    return result;
  }

  std::unique_ptr<server::Metrics> metrics_;
};

TEST_F(RpcMetricsTest, CountsEveryCallByMethodAndCode) {
  const std::string generate = "ounce.v1.Inference/Generate";
  const std::string text = metrics_->Text();
  for (const char* code : {"OK", "CANCELLED", "INTERNAL"}) {
    EXPECT_THAT(text, HasSubstr(Line(generate, code, 0)));
  }
  EXPECT_THAT(text, HasSubstr(Line("ounce.v1.ModelAdmin/Quantize", "OK", 0)));

  EXPECT_TRUE(Generate(Request("tiny", "a", 3)).status.ok());
  EXPECT_TRUE(Generate(Request("tiny", "a", 3)).status.ok());
  EXPECT_EQ(Generate(Request("nobody", "a", 3)).status.error_code(),
            grpc::NOT_FOUND);
  v1::TokenizeRequest tokenize;
  tokenize.set_model("tiny");
  tokenize.set_text("abc");
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  EXPECT_TRUE(inference_->Tokenize(&context, tokenize, &tokens).ok());
  EXPECT_TRUE(Counts(generate, "OK", 2));
  EXPECT_TRUE(Counts(generate, "NOT_FOUND", 1));
  EXPECT_TRUE(Counts("ounce.v1.Inference/Tokenize", "OK", 1));
  EXPECT_THAT(
      metrics_->Text(),
      HasSubstr(
          R"(ounce_rpc_duration_seconds_count{rpc="ounce.v1.Inference/Generate"} 3)"));
}

TEST_F(RpcMetricsTest, EveryReasonToCutAConnectionIsThereFromTheStart) {
  const std::string text = metrics_->Text();
  for (const char* reason : server::kCutReasons) {
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat(
                    "ounce_connections_cut_total{listener=\"listen\",reason=\"",
                    reason, "\"} 0\n")));
  }
  using Fault = server::Http2Guard::Fault;
  for (int i = 0; i <= static_cast<int>(Fault::kSlowUpload); ++i) {
    const absl::string_view name = FaultName(static_cast<Fault>(i));
    EXPECT_THAT(server::kCutReasons, ::testing::Contains(name));
  }
}

TEST_F(RpcMetricsTest, CountsAdminAndHealthCalls) {
  v1::ListModelsRequest request;
  v1::ListModelsResponse response;
  grpc::ClientContext list;
  EXPECT_TRUE(admin_->ListModels(&list, request, &response).ok());
  EXPECT_TRUE(Counts("ounce.v1.ModelAdmin/ListModels", "OK", 1));
  v1::ListServedModelsResponse served;
  grpc::ClientContext public_list;
  EXPECT_TRUE(inference_->ListModels(&public_list, {}, &served).ok());
  EXPECT_TRUE(Counts("ounce.v1.Inference/ListModels", "OK", 1));
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::ClientContext check;
  grpc::health::v1::HealthCheckResponse checked;
  EXPECT_TRUE(health->Check(&check, {}, &checked).ok());
  EXPECT_TRUE(Counts("grpc.health.v1.Health/Check", "OK", 1));
}

TEST_F(RpcMetricsTest, MethodsThatThereAreNotShareOneLabel) {
  EXPECT_EQ(Call("/no.such.Service/Method").error_code(), grpc::UNIMPLEMENTED);
  EXPECT_EQ(Call("/ounce.v1.Inference/Nothing").error_code(),
            grpc::UNIMPLEMENTED);
  EXPECT_EQ(Call("nonsense").error_code(), grpc::UNIMPLEMENTED);
  EXPECT_TRUE(Counts("other", "UNIMPLEMENTED", 3));
  EXPECT_THAT(metrics_->Text(), Not(HasSubstr("no.such")));
}

TEST_F(RpcMetricsTest, CountsMessagesThatCantBeRead) {
  EXPECT_EQ(Call("/ounce.v1.Inference/Tokenize", "\xff\xff\xff").error_code(),
            grpc::INVALID_ARGUMENT);
  EXPECT_TRUE(Counts("ounce.v1.Inference/Tokenize", "INVALID_ARGUMENT", 1));
}

TEST_F(RpcMetricsTest, CountsTheCodeThatTheCallerSees) {
  // Without a deadline of the server's own the call would never end.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(50));
  auto reader = inference_->Generate(&context, Request("long", "a", 900'000));
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Counts("ounce.v1.Inference/Generate", "DEADLINE_EXCEEDED", 1))
      << metrics_->Text();
}

TEST_F(RpcMetricsTest, CountsWhatTheServerFoundOfACallerThatHasGone) {
  // A deadline in the request itself, of which gRPC knows nothing.
  const auto oip = inference::GRPCInferenceService::NewStub(channel_);
  inference::ModelInferRequest request;
  request.set_model_name("long");
  auto* input = request.add_inputs();
  input->set_name("text_input");
  input->set_datatype("BYTES");
  input->add_shape(1);
  input->mutable_contents()->add_bytes_contents("a");
  (*request.mutable_parameters())["max_new_tokens"].set_int64_param(900'000);
  (*request.mutable_parameters())["timeout"].set_int64_param(15'000);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::hours(1));
  std::thread gone([&] {
    EXPECT_TRUE(WaitUntil(
        [&] { return !catalog_.scheduler("long").submitted().empty(); }));
    context.TryCancel();
  });
  inference::ModelInferResponse response;
  EXPECT_FALSE(oip->ModelInfer(&context, request, &response).ok());
  gone.join();
  EXPECT_TRUE(Counts("inference.GRPCInferenceService/ModelInfer",
                     "DEADLINE_EXCEEDED", 1))
      << metrics_->Text();
}

TEST_F(RpcMetricsTest, CancelledIsCancelled) {
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    auto reader = inference_->Generate(&context, Request("long", "a", 900'000));
    if (i % 2 == 0) {
      v1::GenerateResponse message;
      reader->Read(&message);
    }
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  EXPECT_TRUE(Counts("ounce.v1.Inference/Generate", "CANCELLED", 20))
      << metrics_->Text();
}

}  // namespace
}  // namespace ounce
