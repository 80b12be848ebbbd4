// What programs learn of a refusal, whichever call it is of.
#include <grpcpp/client_context.h>

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/scheduler/refusal.h"
#include "tests/server/service/service_fixture.h"
#include "tests/testing/png_file.h"

namespace ounce {
namespace {

using ::ounce::testing::PngOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RefusalsTest : public testing::ServiceTest {
 protected:
  template <class Request, class Response, class Stub>
  static grpc::Status Call(Stub& stub,
                           grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                        const Request&,
                                                        Response*),
                           const std::function<void(Request&)>& fill) {
    grpc::ClientContext context;
    Request request;
    fill(request);
    Response response;
    return (stub.*method)(&context, request, &response);
  }

  grpc::Status Tokenize(const std::string& model, const std::string& text) {
    return Call<v1::TokenizeRequest, v1::TokenizeResponse>(
        *inference_, &v1::Inference::Stub::Tokenize,
        [&](v1::TokenizeRequest& request) {
          request.set_model(model);
          request.set_text(text);
        });
  }
  grpc::Status Detect(const std::string& model, const std::string& image) {
    return Call<v1::DetectObjectsRequest, v1::DetectObjectsResponse>(
        *inference_, &v1::Inference::Stub::DetectObjects,
        [&](v1::DetectObjectsRequest& request) {
          request.set_model(model);
          request.set_image(image);
        });
  }
  grpc::Status Get(const std::string& name) {
    return Call<v1::GetModelRequest, v1::Model>(
        *admin_, &v1::ModelAdmin::Stub::GetModel,
        [&](v1::GetModelRequest& request) { request.set_name(name); });
  }
  grpc::Status Health(const std::string& name) {
    const auto health = grpc::health::v1::Health::NewStub(channel_);
    return Call<grpc::health::v1::HealthCheckRequest,
                grpc::health::v1::HealthCheckResponse>(
        *health, &grpc::health::v1::Health::Stub::Check,
        [&](auto& request) { request.set_service(name); });
  }
};

TEST_F(RefusalsTest, EachHasAReasonOfTheTableAndWhatItIsAbout) {
  struct Case {
    std::string what;
    std::function<grpc::Status()> call;
    std::string reason;
    std::string field = {};  // of BadRequest; empty: none
    std::string model = {};  // of ResourceInfo
    std::string quota = {};  // the subject of QuotaFailure
    bool retry = false;
  };
  v1::GenerateRequest wrong = Request("tiny", "a");
  wrong.mutable_sampling()->set_top_p(2);
  v1::GenerateRequest not_text = Request("tiny", "a");
  not_text.set_prompt("a\xff");
  const auto generate = [&](const v1::GenerateRequest& request) {
    return [&, request] { return Generate(request).status; };
  };
  const std::vector<Case> cases = {
      {"a field out of range", generate(wrong), "FIELD_INVALID",
       "sampling.top_p"},
      {"a field that is not UTF-8", generate(not_text), "FIELD_INVALID",
       "prompt"},
      {"a prompt without tokens", generate(Request("tiny", "")),
       "FIELD_INVALID", "prompt"},
      {"no model of that name", generate(Request("nosuch", "a")),
       "MODEL_NOT_FOUND", "", "nosuch"},
      {"the same of a quick call", [&] { return Tokenize("nosuch", "a"); },
       "MODEL_NOT_FOUND", "", "nosuch"},
      {"the same of the other service", [&] { return Get("nosuch"); },
       "MODEL_NOT_FOUND", "", "nosuch"},
      {"a model that loads", generate(Request("loading", "a")), "MODEL_LOADING",
       "", "loading", "", true},
      {"a detector asked for text", generate(Request("detr", "a")),
       "TASK_NOT_SUPPORTED", "", "detr"},
      {"no picture", [&] { return Detect("detr", "text"); },
       "PICTURE_UNREADABLE", "image"},
      {"a picture of too many pixels",
       [&] { return Detect("detr", PngOf(16'000, 16'000, "")); },
       "PICTURE_TOO_LARGE", "", "", "server"},
      {"a text of too many bytes",
       [&] { return Tokenize("tiny", std::string(1 << 21, 'a')); },
       "FIELD_INVALID", "text"},
      {"a name that health does not know", [&] { return Health("nosuch"); },
       "NAME_UNKNOWN"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    const grpc::Status status = one.call();
    ASSERT_FALSE(status.ok());
    const auto info = DetailOf<google::rpc::ErrorInfo>(status);
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->reason(), one.reason);
    EXPECT_EQ(info->domain(), "ounce");
    for (const server::ReasonRow& row : server::Reasons()) {
      if (row.name != info->reason()) continue;
      EXPECT_EQ(static_cast<int>(row.code),
                static_cast<int>(status.error_code()));
    }
    const auto field = DetailOf<google::rpc::BadRequest>(status);
    EXPECT_EQ(field ? field->field_violations(0).field() : "", one.field);
    if (field) {
      EXPECT_THAT(status.error_message(),
                  HasSubstr(field->field_violations(0).description()));
    }
    const auto model = DetailOf<google::rpc::ResourceInfo>(status);
    EXPECT_EQ(model ? model->resource_name() : "", one.model);
    const auto quota = DetailOf<google::rpc::QuotaFailure>(status);
    EXPECT_EQ(quota ? quota->violations(0).subject() : "", one.quota);
    EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).has_value(), one.retry);
  }
}

TEST_F(RefusalsTest, WhatNobodyForesawIsNotToldToStrangers) {
  catalog_.tokenizer("tiny").Fail("cannot open /srv/models/tiny/vocab.json");
  for (const grpc::Status& status :
       {Tokenize("tiny", "a"), Tokenize("tiny", std::string(5000, 'a')),
        Generate(Request("tiny", "a")).status}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
    EXPECT_EQ(status.error_message(), "the server failed; its log says how");
    EXPECT_THAT(status.error_details(), Not(HasSubstr("/srv/models")));
    EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status)->reason(), "INTERNAL");
    EXPECT_TRUE(DetailOf<google::rpc::RequestInfo>(status).has_value());
  }
}

}  // namespace
}  // namespace ounce
