#include "server/service/call_watch.h"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/service/service_fixture.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

// The only one, or what is wrong.
std::string IdIn(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  if (trailers.count("x-request-id") != 1) return "not once";
  const auto id = trailers.find("x-request-id")->second;
  return std::string(id.data(), id.size());
}

class CallWatchTest : public testing::ServiceTest {
 protected:
  grpc::Status Tokenize(grpc::ClientContext* context, const std::string& model,
                        const std::string& text) {
    v1::TokenizeRequest request;
    request.set_model(model);
    request.set_text(text);
    v1::TokenizeResponse response;
    return inference_->Tokenize(context, request, &response);
  }

  // Of the request log, once there are so many lines; they may come after the
  // client's answer.
  std::vector<nlohmann::json> Lines(size_t count) {
    EXPECT_TRUE(WaitUntil([&] { return lines().size() >= count; }));
    std::vector<nlohmann::json> result;
    for (const std::string& line : lines()) {
      result.push_back(nlohmann::json::parse(line));
    }
    EXPECT_THAT(result, SizeIs(count));
    return result;
  }
};

TEST_F(CallWatchTest, AnIdOfTheCallersComesBackWhateverBecomesOfTheCall) {
  grpc::ClientContext good, bad, stream;
  for (grpc::ClientContext* context : {&good, &bad, &stream}) {
    context->AddMetadata("x-request-id", "order 66/a");
  }
  ASSERT_TRUE(Tokenize(&good, "tiny", "a").ok());
  EXPECT_EQ(IdIn(good), "order 66/a");
  const grpc::Status refused = Tokenize(&bad, "nosuch", "a");
  EXPECT_EQ(IdIn(bad), "order 66/a");
  const auto info = DetailOf<google::rpc::RequestInfo>(refused);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->request_id(), "order 66/a");
  const auto reader = inference_->Generate(&stream, Request("tiny", "a", 3));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(IdIn(stream), "order 66/a");
}

TEST_F(CallWatchTest, ACallWithoutAnIdOrWithAWrongOneGetsOne) {
  grpc::ClientContext none, longest, too_long, empty;
  longest.AddMetadata("x-request-id", std::string(64, 'x'));
  too_long.AddMetadata("x-request-id", std::string(65, 'x'));
  empty.AddMetadata("x-request-id", "");
  for (grpc::ClientContext* context : {&none, &longest, &too_long, &empty}) {
    ASSERT_TRUE(Tokenize(context, "tiny", "a").ok());
  }
  EXPECT_EQ(IdIn(none), "00000000000000010000000000000002");
  EXPECT_EQ(IdIn(longest), std::string(64, 'x'));
  EXPECT_EQ(IdIn(too_long), "00000000000000030000000000000004");
  EXPECT_EQ(IdIn(empty), "00000000000000050000000000000006");
}

TEST_F(CallWatchTest, HealthAndMethodsThatThereAreNotHaveAnIdAndAReasonToo) {
  grpc::ClientContext health;
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(grpc::health::v1::Health::NewStub(channel_)
                  ->Check(&health, {}, &response)
                  .ok());
  EXPECT_THAT(IdIn(health), SizeIs(32));
  // Of the other listener.
  grpc::ClientContext unknown;
  v1::Model model;
  const grpc::Status status = v1::ModelAdmin::NewStub(channel_)->GetModel(
      &unknown, v1::GetModelRequest(), &model);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(IdIn(unknown), SizeIs(32));
  EXPECT_EQ(DetailOf<google::rpc::RequestInfo>(status)->request_id(),
            IdIn(unknown));
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status)->reason(),
            "UNIMPLEMENTED");
}

TEST_F(CallWatchTest, TheLogSaysOfACallAtTheWrongPortWhereItIsServed) {
  std::ostringstream log;
  const std::shared_ptr<spdlog::logger> before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  grpc::ClientContext context;
  v1::Model model;
  const grpc::Status status = v1::ModelAdmin::NewStub(channel_)->GetModel(
      &context, v1::GetModelRequest(), &model);
  spdlog::set_default_logger(before);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(log.str(), AllOf(HasSubstr("GetModel from 127.0.0.1"),
                               HasSubstr("ModelAdmin at --admin_listen")));
}

TEST_F(CallWatchTest, ARequestHasALineAboutHowItWentAndNotAboutWhatItSaid) {
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "first");
  const auto reader =
      inference_->Generate(&context, Request("tiny", "secret", 5));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  const nlohmann::json line = Lines(1)[0];
  EXPECT_EQ(line["request_id"], "first");
  EXPECT_EQ(line["method"], "ounce.v1.Inference/Generate");
  EXPECT_EQ(line["model"], "tiny");
  EXPECT_EQ(line["peer"], "127.0.0.1");
  EXPECT_EQ(line["code"], "OK");
  EXPECT_FALSE(line.contains("reason"));
  EXPECT_EQ(line["tokens_in"], message.usage().prompt_tokens());
  EXPECT_EQ(line["tokens_cached"], message.usage().cached_tokens());
  EXPECT_EQ(line["tokens_out"], message.usage().new_tokens());
  EXPECT_GE(line["total_ms"], 0);
  EXPECT_TRUE(line.contains("queued_ms"));

  grpc::ClientContext refused;
  EXPECT_FALSE(Tokenize(&refused, "nosuch", "secret").ok());
  const nlohmann::json second = Lines(2)[1];
  EXPECT_EQ(second["request_id"], IdIn(refused));
  EXPECT_EQ(second["method"], "ounce.v1.Inference/Tokenize");
  EXPECT_EQ(second["model"], "nosuch");
  EXPECT_EQ(second["code"], "NOT_FOUND");
  EXPECT_EQ(second["reason"], "MODEL_NOT_FOUND");
  EXPECT_THAT(lines(), Each(Not(HasSubstr("secret"))));
}

TEST_F(CallWatchTest, ACallThatItsCallerCancelsIsSaidToBeCancelled) {
  catalog_.scheduler("long").SetStep(absl::Milliseconds(1));
  grpc::ClientContext context;
  ASSERT_NO_FATAL_FAILURE(GenerateAndCancel(&context));
  EXPECT_EQ(Lines(1)[0]["code"], "CANCELLED");
}

}  // namespace
}  // namespace ounce
