// What real calls leave for the tracer.
#include "server/service/call_trace.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/client_unary_call.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <variant>

#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "tests/server/service/service_fixture.h"
#include "tests/testing/png_file.h"

namespace ounce {
namespace {

using server::Attribute;
using server::Work;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kParent[] =
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

class CallTraceTest : public testing::ServiceTest {
 protected:
  static void Trace(grpc::ClientContext* context) {
    context->AddMetadata("traceparent", kParent);
  }

  grpc::Status Generate(grpc::ClientContext* context,
                        const v1::GenerateRequest& request) {
    const auto reader = inference_->Generate(context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  }

  // As text; "" without it.
  static std::string Value(const Work& work, const std::string& key) {
    struct ToText {
      std::string operator()(const std::string& text) { return text; }
      std::string operator()(int64_t number) { return absl::StrCat(number); }
      std::string operator()(double number) { return absl::StrCat(number); }
      std::string operator()(const std::vector<std::string>& texts) {
        return absl::StrCat("[", texts.at(0), "]");
      }
    };
    for (const Attribute& attribute : work.attributes) {
      if (key == attribute.key) return std::visit(ToText(), attribute.value);
    }
    return "";
  }
  static std::vector<std::string> PhaseNames(const Work& work) {
    std::vector<std::string> names;
    for (const server::Phase& phase : work.phases) names.push_back(phase.name);
    return names;
  }
  // Each within the work, and after the one before it.
  static void ExpectInOrder(const Work& work) {
    EXPECT_LE(work.start, work.end);
    absl::Time last = work.start;
    for (const server::Phase& phase : work.phases) {
      EXPECT_GE(phase.start, last) << phase.name;
      EXPECT_GE(phase.end, phase.start) << phase.name;
      last = phase.end;
    }
  }
};

TEST_F(CallTraceTest, AGenerateIsASpanBelowItsCallersWithItsPhases) {
  grpc::ClientContext context;
  Trace(&context);
  context.AddMetadata("tracestate", "rojo=1");
  context.AddMetadata("tracestate", "congo=2");
  context.AddMetadata("x-request-id", "order 66");
  v1::GenerateRequest request = Request("tiny", "secret", 5);
  request.add_stop("secret");
  request.mutable_sampling()->set_temperature(0.7f);
  request.mutable_sampling()->set_top_k(40);
  request.mutable_sampling()->set_top_p(0.9f);
  ASSERT_TRUE(Generate(&context, request).ok());
  const Work work = Works(1)[0];
  EXPECT_EQ(server::Hex(work.context.trace),
            "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(server::Hex(work.context.parent), "00f067aa0ba902b7");
  EXPECT_EQ(work.context.state, "rojo=1,congo=2");
  EXPECT_EQ(work.name, "ounce.v1.Inference/Generate");
  EXPECT_EQ(work.kind, Work::Kind::kServer);
  EXPECT_FALSE(work.failed);
  EXPECT_THAT(PhaseNames(work), ElementsAre("queue", "prefill", "decode"));
  EXPECT_EQ(work.phases[1].end - work.phases[1].start, absl::Milliseconds(1));
  EXPECT_EQ(work.phases[2].end - work.phases[2].start, absl::Milliseconds(1));
  EXPECT_GE(work.phases[0].start, work.start);
  const auto port = listeners_->inference_address().substr(10);
  for (const auto& [key, value] :
       {std::pair("rpc.system", "grpc"),
        {"rpc.service", "ounce.v1.Inference"},
        {"rpc.method", "Generate"},
        {"rpc.grpc.status_code", "0"},
        {"server.address", "127.0.0.1"},
        {"server.port", port.c_str()},
        {"client.address", "127.0.0.1"},
        {"error.type", ""},
        {"ounce.request.id", "order 66"},
        {"ounce.model.name", "tiny"},
        {"ounce.model.version", "3"},
        {"ounce.model.method", "float32"},
        {"gen_ai.operation.name", "text_completion"},
        {"gen_ai.provider.name", "ounce"},
        {"gen_ai.request.model", "tiny"},
        {"gen_ai.request.max_tokens", "5"},
        {"gen_ai.request.temperature", "0.7"},
        {"gen_ai.request.top_p", "0.9"},
        {"gen_ai.request.top_k", "40"},
        {"gen_ai.usage.input_tokens", "6"},
        {"gen_ai.usage.output_tokens", "5"},
        {"gen_ai.response.finish_reasons", "[length]"}}) {
    EXPECT_EQ(Value(work, key), value) << key;
  }
  for (const Attribute& attribute : work.attributes) {
    EXPECT_THAT(Value(work, attribute.key), Not(HasSubstr("secret")));
  }
}

TEST_F(CallTraceTest, WhatIsRefusedSaysWhyAndWhoseFaultItIs) {
  grpc::ClientContext refused;
  Trace(&refused);
  EXPECT_FALSE(Generate(&refused, Request("nosuch", "a", 1)).ok());
  const Work of_caller = Works(1)[0];
  EXPECT_FALSE(of_caller.failed);
  EXPECT_EQ(Value(of_caller, "error.type"), "MODEL_NOT_FOUND");
  EXPECT_EQ(Value(of_caller, "rpc.grpc.status_code"), "5");
  EXPECT_EQ(Value(of_caller, "gen_ai.request.model"), "nosuch");
  EXPECT_THAT(of_caller.phases, IsEmpty());

  catalog_.tokenizer("tiny").Fail("cannot read /secret");
  grpc::ClientContext broken;
  Trace(&broken);
  EXPECT_FALSE(Generate(&broken, Request("tiny", "a", 1)).ok());
  const Work of_server = Works(2)[1];
  EXPECT_TRUE(of_server.failed);
  EXPECT_EQ(Value(of_server, "error.type"), "INTERNAL");
  EXPECT_EQ(Value(of_server, "rpc.grpc.status_code"), "13");
}

TEST_F(CallTraceTest, OfOtherCallsNothingIsToldButTheLogKnowsTheirTraces) {
  grpc::ClientContext unsampled, twice, none, health;
  unsampled.AddMetadata(
      "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
  Trace(&twice);
  Trace(&twice);
  for (grpc::ClientContext* context : {&unsampled, &twice, &none}) {
    ASSERT_TRUE(Generate(context, Request("tiny", "a", 1)).ok());
  }
  Trace(&health);
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(grpc::health::v1::Health::NewStub(channel_)
                  ->Check(&health, {}, &response)
                  .ok());
  EXPECT_TRUE(WaitUntil([&] { return lines().size() == 3; }));
  EXPECT_EQ(nlohmann::json::parse(lines()[0])["trace_id"],
            "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(nlohmann::json::parse(lines()[1])["trace_id"],
            "00000000000000090000000000000009");
  EXPECT_THAT(Works(0), IsEmpty());
}

TEST_F(CallTraceTest, NamesOfMethodsThatCallersMakeUpAreNoNames) {
  grpc::ClientContext context;
  Trace(&context);
  grpc::internal::RpcMethod method("/made.Up/Name",
                                   grpc::internal::RpcMethod::NORMAL_RPC);
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  EXPECT_EQ(grpc::internal::BlockingUnaryCall(channel_.get(), method, &context,
                                              request, &response)
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  const Work work = Works(1)[0];
  EXPECT_EQ(work.name, "other");
  EXPECT_EQ(Value(work, "rpc.method"), "");
  EXPECT_EQ(Value(work, "rpc.grpc.status_code"), "12");
}

TEST_F(CallTraceTest, ADetectionIsReadThenWaitsThenIsInTheModel) {
  grpc::ClientContext context;
  Trace(&context);
  v1::DetectObjectsRequest request;
  request.set_model("detr");
  request.set_image(testing::MakePng(64, 80));
  v1::DetectObjectsResponse response;
  ASSERT_TRUE(inference_->DetectObjects(&context, request, &response).ok());
  const Work work = Works(1)[0];
  EXPECT_THAT(PhaseNames(work), ElementsAre("decode", "queue", "model"));
  const server::Phase& decode = work.phases[0];
  EXPECT_NEAR(absl::ToDoubleSeconds(decode.end - decode.start),
              response.decode_seconds(), 1e-6);
  EXPECT_EQ(work.phases[1].start, decode.end);
  EXPECT_EQ(work.phases[2].start, work.phases[1].end);
  ExpectInOrder(work);
  const Attribute& in_model = work.phases[2].attributes.at(0);
  EXPECT_STREQ(in_model.key, "ounce.model.seconds");
  EXPECT_EQ(std::get<double>(in_model.value), 0.003);
  EXPECT_GE(decode.start, work.start);
  EXPECT_EQ(Value(work, "ounce.picture.width"), "80");
  EXPECT_EQ(Value(work, "ounce.picture.height"), "64");
  EXPECT_EQ(Value(work, "gen_ai.operation.name"), "");
}

// The turns that others have in between are of its phase, not of its seconds.
TEST_F(CallTraceTest, ADetectionIsInTheModelFromItsBatchsBeginning) {
  testing::FakeDetectEngine& engine = catalog_.detect_engine();
  engine.Hold();
  grpc::ClientContext context;
  Trace(&context);
  absl::Time in_batch;
  std::thread others([&] {
    engine.AwaitBatch();
    in_batch = Clock::Real().Now();
    absl::SleepFor(absl::Milliseconds(20));
    engine.Finish();
  });
  v1::DetectObjectsRequest request;
  request.set_model("detr");
  request.set_image(testing::MakePng(64, 80));
  v1::DetectObjectsResponse response;
  ASSERT_TRUE(inference_->DetectObjects(&context, request, &response).ok());
  others.join();
  const server::Phase model = Works(1)[0].phases.at(2);
  EXPECT_LE(model.start, in_batch);
  EXPECT_GE(model.end - model.start, absl::Milliseconds(20));
}

TEST_F(CallTraceTest, ACallThatIsCancelledTellsWhatBecameOfItsRequest) {
  catalog_.scheduler("long").SetStep(absl::Milliseconds(20));
  grpc::ClientContext context;
  Trace(&context);
  ASSERT_NO_FATAL_FAILURE(GenerateAndCancel(&context));
  const Work work = Works(1)[0];
  EXPECT_EQ(Value(work, "rpc.grpc.status_code"), "1");
  EXPECT_FALSE(work.failed);
  EXPECT_THAT(PhaseNames(work), ElementsAre("queue", "prefill", "decode"));
  EXPECT_EQ(Value(work, "ounce.model.version"), "3");
  EXPECT_EQ(Value(work, "gen_ai.usage.input_tokens"), "1");
  EXPECT_NE(Value(work, "gen_ai.usage.output_tokens"), "");
  EXPECT_EQ(Value(work, "server.address"), "127.0.0.1");
  EXPECT_EQ(Value(work, "client.address"), "127.0.0.1");
  const auto line = nlohmann::json::parse(lines().at(0));
  EXPECT_EQ(line["code"], "CANCELLED");
  EXPECT_EQ(line["tokens_in"], 1);
}

// gRPC forgets whose a call was when writing to it fails.
TEST_F(CallTraceTest, EachOfManyCallsThatAreCancelledIsItsCallers) {
  constexpr size_t kCalls = 200;
  for (size_t i = 0; i < kCalls; ++i) {
    grpc::ClientContext context;
    Trace(&context);
    ASSERT_NO_FATAL_FAILURE(GenerateAndCancel(&context));
  }
  for (const Work& work : Works(kCalls)) {
    EXPECT_EQ(Value(work, "client.address"), "127.0.0.1");
  }
}

TEST_F(CallTraceTest, ACallPastItsDeadlineTellsWhatBecameOfItsRequest) {
  catalog_.scheduler("long").SetStep(absl::Milliseconds(5));
  // Long enough for a first token on any machine, and no longer.
  bool begun = false;
  for (auto patience = absl::Milliseconds(50); !begun; patience *= 2) {
    ASSERT_LT(patience, absl::Minutes(1));
    grpc::ClientContext context;
    Trace(&context);
    context.set_deadline(absl::ToChronoTime(absl::Now() + patience));
    const auto reader =
        inference_->Generate(&context, Request("long", "a", 100'000));
    v1::GenerateResponse message;
    begun = reader->Read(&message);
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  std::vector<Work> works;
  EXPECT_TRUE(WaitUntil([&] {
    works = Works(0);
    return !works.empty() &&
           Value(works.back(), "gen_ai.usage.output_tokens") != "";
  }));
  const Work& work = works.back();
  EXPECT_EQ(Value(work, "rpc.grpc.status_code"), "4");
  EXPECT_TRUE(work.failed);
  EXPECT_THAT(PhaseNames(work), ElementsAre("queue", "prefill", "decode"));
  EXPECT_EQ(Value(work, "ounce.model.version"), "3");
}

TEST_F(CallTraceTest, AStreamHasThePhasesOfAllItsRequests) {
  grpc::ClientContext context;
  Trace(&context);
  const auto stream =
      inference::GRPCInferenceService::NewStub(channel_)->ModelStreamInfer(
          &context);
  inference::ModelInferRequest request;
  request.set_model_name("tiny");
  auto* const input = request.add_inputs();
  input->set_name("text_input");
  input->set_datatype("BYTES");
  input->add_shape(1);
  input->mutable_contents()->add_bytes_contents("a");
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  inference::ModelStreamInferResponse message;
  while (stream->Read(&message)) {
  }
  ASSERT_TRUE(stream->Finish().ok());
  const Work work = Works(1)[0];
  EXPECT_EQ(work.name, "inference.GRPCInferenceService/ModelStreamInfer");
  EXPECT_THAT(work.phases, SizeIs(64));  // at most
  EXPECT_STREQ(work.phases[3].name, "queue");
  EXPECT_EQ(Value(work, "gen_ai.usage.input_tokens"), "1");
}

TEST_F(CallTraceTest, AQuantizationHasItsStages) {
  catalog_.quantize =
      [](const server::QuantizeParams& params,
         auto& progress) -> absl::StatusOr<server::QuantizeReport> {
    using server::QuantizeStage;
    for (const QuantizeStage stage :
         {QuantizeStage::kReading, QuantizeStage::kQuantizing,
          QuantizeStage::kQuantizing, QuantizeStage::kSwapping}) {
      server::QuantizeUpdate update;
      update.stage = stage;
      const absl::Status status = progress(update);
      if (!status.ok()) return status;
    }
    server::QuantizeReport report;
    report.model = params.model;
    report.method = "linear";
    report.method_before = "float32";
    report.stored_bytes_before = 4'000;
    report.stored_bytes_after = 1'000;
    return report;
  };
  grpc::ClientContext context;
  Trace(&context);
  v1::QuantizeRequest request;
  request.set_model("tiny");
  request.set_method("linear");
  const auto reader = admin_->Quantize(&context, request);
  v1::QuantizeProgress message;
  while (reader->Read(&message)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  const Work work = Works(1)[0];
  EXPECT_EQ(work.name, "ounce.v1.ModelAdmin/Quantize");
  EXPECT_THAT(PhaseNames(work),
              ElementsAre("reading", "quantizing", "swapping"));
  ExpectInOrder(work);
  EXPECT_EQ(Value(work, "ounce.model.name"), "tiny");
  EXPECT_EQ(Value(work, "ounce.model.method"), "linear");
  EXPECT_EQ(Value(work, "ounce.quantize.bytes_after"), "1000");
}

}  // namespace
}  // namespace ounce
