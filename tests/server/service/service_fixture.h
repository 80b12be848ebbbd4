// The services over a fake catalog, reached through real gRPC.
#ifndef OUNCE_TESTS_SERVER_SERVICE_SERVICE_FIXTURE_H_
#define OUNCE_TESTS_SERVER_SERVICE_SERVICE_FIXTURE_H_

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/error_details.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "ounce/v1/model_admin.grpc.pb.h"
#include "server/frontend/front_end.h"
#include "server/frontend/picture_reader.h"
#include "server/scheduler/picture_memory.h"
#include "server/service/inference_service.h"
#include "server/service/listeners.h"
#include "server/service/model_admin_service.h"
#include "server/service/oip_admin_service.h"
#include "server/service/oip_service.h"
#include "tests/server/service/fake_catalog.h"

namespace ounce::testing {

class ServiceTest : public ::testing::Test {
 protected:
  static constexpr int64_t kPictureMemory = 3 << 20;
  static constexpr int64_t kMaxPixels = 1'000'000;

  void SetUp() override {
    front_end_ = std::make_unique<server::FrontEnd>(
        server::FrontEnd::Options{
            .max_new_tokens = 1'000'000,
            .draw_seed = [] { return uint64_t{42}; },
            .on_rejected =
                [this](const std::string& model, const absl::Status& why) {
                  MutexLock lock(&mu_);
                  rejected_.push_back(model);
                  rejections_.push_back(absl::StrCat(
                      model, " ", absl::StatusCodeToString(why.code())));
                },
            .on_detect_rejected =
                [this](const std::string& model, const absl::Status& why) {
                  MutexLock lock(&mu_);
                  detect_rejected_.push_back(absl::StrCat(
                      model, " ", absl::StatusCodeToString(why.code())));
                },
            .text_threads = 1,
            .picture_threads = 1},
        catalog_, pictures_, Clock::Real());
    inference_service_ =
        std::make_unique<server::InferenceService>(*front_end_, reception_);
    admin_service_ = std::make_unique<server::ModelAdminService>(
        catalog_, pictures_, reception_, Clock::Real());
    oip_service_ =
        std::make_unique<server::OipService>(*front_end_, reception_, "1.2.3");
    oip_admin_service_ = std::make_unique<server::OipAdminService>(
        catalog_, reception_, admin_service_->jobs(), "1.2.3",
        std::vector<server::LoadParams>{
            {.name = "tiny", .path = "/models/tiny", .reserved = true},
            {.name = "other", .path = "/models/other", .reserved = true}});
    auto listeners = server::Listeners::Start(
        {.inference = "127.0.0.1:0",
         .admin = "127.0.0.1:0",
         .max_message_bytes = 4 << 20,
         .figures = figures_,
         .reception = &reception_},
        {{v1::Inference::service_full_name(), inference_service_.get()},
         {server::OipService::service_full_name(), oip_service_.get()}},
        {{v1::ModelAdmin::service_full_name(), admin_service_.get()},
         {server::OipService::service_full_name(), oip_admin_service_.get()}});
    ASSERT_TRUE(listeners.ok()) << listeners.status();
    listeners_ = *std::move(listeners);
    channel_ = grpc::CreateChannel(listeners_->inference_address(),
                                   grpc::InsecureChannelCredentials());
    admin_channel_ = grpc::CreateChannel(listeners_->admin_address(),
                                         grpc::InsecureChannelCredentials());
    inference_ = v1::Inference::NewStub(channel_);
    admin_ = v1::ModelAdmin::NewStub(admin_channel_);
  }

  void TearDown() override {
    if (listeners_ != nullptr) listeners_->Shutdown(absl::ZeroDuration());
  }

  // All messages of a call and how it ended.
  struct Answer {
    std::vector<v1::GenerateResponse> messages;
    grpc::Status status;
    std::string text() const {
      std::string text;
      for (const auto& message : messages) text += message.text();
      return text;
    }
  };
  Answer Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    Answer answer;
    auto reader = inference_->Generate(&context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) answer.messages.push_back(message);
    answer.status = reader->Finish();
    return answer;
  }

  static v1::GenerateRequest Request(const std::string& model,
                                     const std::string& prompt,
                                     uint32_t max_new_tokens = 0) {
    v1::GenerateRequest request;
    request.set_model(model);
    request.set_prompt(prompt);
    request.set_max_new_tokens(max_new_tokens);
    return request;
  }

  // Generates without an end from "long", and cancels after the first message.
  void GenerateAndCancel(grpc::ClientContext* context) {
    const auto reader =
        inference_->Generate(context, Request("long", "a", 100'000));
    v1::GenerateResponse message;
    ASSERT_TRUE(reader->Read(&message));
    context->TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }

  std::vector<std::string> rejected() {
    MutexLock lock(&mu_);
    return rejected_;
  }
  // The same with the codes.
  std::vector<std::string> rejections() {
    MutexLock lock(&mu_);
    return rejections_;
  }

  // The detail of type Detail in a status, if there is one.
  template <class Detail>
  static std::optional<Detail> DetailOf(const grpc::Status& status) {
    google::rpc::Status details;
    if (!grpc::ExtractErrorDetails(status, &details).ok()) return std::nullopt;
    for (const auto& any : details.details()) {
      Detail detail;
      if (any.UnpackTo(&detail)) return detail;
    }
    return std::nullopt;
  }

  static bool WaitUntil(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }

  std::vector<std::string> detect_rejected() {
    MutexLock lock(&mu_);
    return detect_rejected_;
  }

  // What was traced, once there is so much of it; it may come after the
  // client's answer.
  std::vector<server::Work> Works(size_t count) {
    EXPECT_TRUE(WaitUntil([&] {
      MutexLock lock(&mu_);
      return works_.size() >= count;
    }));
    MutexLock lock(&mu_);
    return works_;
  }

  std::vector<std::string> lines() {
    MutexLock lock(&mu_);
    return lines_;
  }

  Mutex mu_;
  std::vector<std::string> rejected_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> rejections_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> detect_rejected_ ABSL_GUARDED_BY(mu_);
  server::PictureMemory picture_memory_{kPictureMemory};
  const server::PictureReader pictures_{{.max_pixels = kMaxPixels},
                                        picture_memory_};
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);  // of the request log
  std::atomic<uint64_t> drawn_ = 0;
  std::vector<server::Work> works_ ABSL_GUARDED_BY(mu_);
  // Traces those whose callers do.
  const server::Tracer tracer_{{.sample = 0,
                                .draw = [] { return uint64_t{9}; },
                                .record =
                                    [this](server::Work work) {
                                      MutexLock lock(&mu_);
                                      works_.push_back(std::move(work));
                                    }}};
  server::Reception reception_{
      Clock::Real(),
      {.request_log = {.mode = server::RequestLogMode::kAll,
                       .write =
                           [this](const std::string& line) {
                             MutexLock lock(&mu_);
                             lines_.push_back(line);
                           }},
       .tracer = &tracer_,
       .draw = [this] { return ++drawn_; }}};
  FakeCatalog catalog_;
  server::Figures* figures_ = nullptr;  // to be set before SetUp
  std::unique_ptr<server::FrontEnd> front_end_;
  std::unique_ptr<server::InferenceService> inference_service_;
  std::unique_ptr<server::ModelAdminService> admin_service_;
  std::unique_ptr<server::OipService> oip_service_;
  std::unique_ptr<server::OipAdminService> oip_admin_service_;
  std::unique_ptr<server::Listeners> listeners_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> admin_channel_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::ModelAdmin::Stub> admin_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_SERVER_SERVICE_SERVICE_FIXTURE_H_
