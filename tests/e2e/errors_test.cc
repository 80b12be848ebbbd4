// What callers and operators learn of requests, above all of those that end
// badly: details, ids, the log, and nothing of the server's files.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/error_details.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "ounce/v1/model_admin.grpc.pb.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kDetector[] = OUNCE_SOURCE_ROOT "/embedded/detr-tiny";

class ErrorsTest : public ServingTest {
 protected:
  // A copy of the embedded model under a folder of the test's.
  std::string Copy(const std::string& name) {
    const std::string folder = folder_.Path(name);
    std::filesystem::create_directories(folder);
    for (const auto& file : std::filesystem::directory_iterator(kTinyModel)) {
      if (!file.is_regular_file()) continue;
      std::filesystem::copy(file.path(),
                            folder + "/" + file.path().filename().string());
    }
    return folder;
  }

  absl::Status Load(const std::string& name, const std::string& path) {
    v1::LoadModelRequest request;
    request.set_name(name);
    request.set_path(path);
    return client_->LoadModel(request).status();
  }
  absl::Status Inspect(const std::string& path) {
    v1::InspectRequest request;
    request.set_path(path);
    return client_->Inspect(request).status();
  }

  // The detail of type Detail in a status, or an empty one.
  template <class Detail>
  static Detail DetailOf(const grpc::Status& status) {
    google::rpc::Status details;
    if (grpc::ExtractErrorDetails(status, &details).ok()) {
      for (const auto& any : details.details()) {
        Detail detail;
        if (any.UnpackTo(&detail)) return detail;
      }
    }
    return Detail();
  }
  static std::string ReasonOf(const grpc::Status& status) {
    return DetailOf<google::rpc::ErrorInfo>(status).reason();
  }

  // The lines of the log that are about requests, once there are so many.
  std::vector<nlohmann::json> RequestLines(size_t count) {
    std::vector<nlohmann::json> lines;
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (true) {
      lines.clear();
      for (const absl::string_view line :
           absl::StrSplit(server_->err(), '\n')) {
        if (absl::StrContains(line, "\"request_id\"") &&
            absl::EndsWith(line, "}")) {
          lines.push_back(nlohmann::json::parse(std::string(line)));
        }
      }
      if (lines.size() >= count || absl::Now() > deadline) return lines;
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
};

TEST_F(ErrorsTest, NothingThatStrangersHearHoldsAPathOfTheServers) {
  const std::string secret = folder_.Path("secret");
  const std::string good = Copy("secret/good");
  const std::string damaged = Copy("secret/damaged");
  std::filesystem::resize_file(damaged + "/model.safetensors", 1000);
  Start({"--keep_going", "--model", absl::StrCat("tiny=", good), "--model",
         absl::StrCat("damaged=", damaged), "--model",
         absl::StrCat("shapes=", kDetector)});
  // The files go away under a model that serves.
  ASSERT_TRUE(std::filesystem::remove_all(good) > 0);

  const auto channel =
      grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials());
  const auto stub = v1::Inference::NewStub(channel);
  const auto unary = [&](const auto& method, const auto& request,
                         auto response) {
    grpc::ClientContext context;
    const grpc::Status status =
        (stub.get()->*method)(&context, request, &response);
    return absl::StrCat(status.error_message(), status.error_details(),
                        response.SerializeAsString());
  };
  using Stub = v1::Inference::Stub;
  std::vector<std::string> heard;
  for (const char* model : {"tiny", "damaged", "shapes", "nosuch", ""}) {
    for (const std::string& prompt :
         {std::string("a"), std::string(), std::string(2000, 'a')}) {
      v1::GenerateRequest generate = Request(prompt, 2);
      generate.set_model(model);
      grpc::ClientContext context;
      const auto reader = stub->Generate(&context, generate);
      v1::GenerateResponse message;
      while (reader->Read(&message)) heard.push_back(message.DebugString());
      const grpc::Status status = reader->Finish();
      heard.push_back(
          absl::StrCat(status.error_message(), status.error_details()));
      v1::TokenizeRequest tokenize;
      tokenize.set_model(model);
      tokenize.set_text(prompt);
      heard.push_back(
          unary(static_cast<grpc::Status (Stub::*)(
                    grpc::ClientContext*, const v1::TokenizeRequest&,
                    v1::TokenizeResponse*)>(&Stub::Tokenize),
                tokenize, v1::TokenizeResponse()));
    }
    for (const std::string& image :
         {std::string("no picture"), std::string("\xff\xd8\xff\xe0 cut")}) {
      v1::DetectObjectsRequest detect;
      detect.set_model(model);
      detect.set_image(image);
      heard.push_back(
          unary(static_cast<grpc::Status (Stub::*)(
                    grpc::ClientContext*, const v1::DetectObjectsRequest&,
                    v1::DetectObjectsResponse*)>(&Stub::DetectObjects),
                detect, v1::DetectObjectsResponse()));
    }
  }
  heard.push_back(
      unary(static_cast<grpc::Status (Stub::*)(
                grpc::ClientContext*, const v1::ListServedModelsRequest&,
                v1::ListServedModelsResponse*)>(&Stub::ListModels),
            v1::ListServedModelsRequest(), v1::ListServedModelsResponse()));
  EXPECT_THAT(heard.back(), HasSubstr("tiny"));
  for (const std::string& words : heard) {
    EXPECT_THAT(words, AllOf(Not(HasSubstr(secret)),
                             Not(HasSubstr(OUNCE_SOURCE_ROOT))));
  }
  // Operators do hear of them.
  EXPECT_THAT(Load("again", damaged),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(damaged)));
}

TEST_F(ErrorsTest, RefusalsOfModelAdminHaveTheirReasons) {
  const std::string damaged = Copy("damaged");
  std::filesystem::resize_file(damaged + "/model.safetensors", 1000);
  const std::string unknown = Copy("unknown");
  std::filesystem::remove(unknown + "/config.json");
  std::ofstream(unknown + "/config.json")
      << R"({"architectures": ["NoSuchModel"], "model_type": "nosuch"})";
  Start();
  const auto stub = v1::ModelAdmin::NewStub(
      grpc::CreateChannel(admin_, grpc::InsecureChannelCredentials()));
  const auto load = [&](const std::string& name, const std::string& path,
                        const std::string& plan = "") {
    v1::LoadModelRequest request;
    request.set_name(name);
    request.set_path(path);
    request.set_plan(plan);
    grpc::ClientContext context;
    v1::Model response;
    return stub->LoadModel(&context, request, &response);
  };
  EXPECT_EQ(ReasonOf(load("new", "/no/such/folder")), "CHECKPOINT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(load("new", damaged)), "CHECKPOINT_INVALID");
  EXPECT_EQ(ReasonOf(load("new", unknown)), "CHECKPOINT_NOT_SUPPORTED");
  const std::string good = Copy("good");
  EXPECT_TRUE(load("good", good).ok());
  // They have heard of files; the log has none of those that calls name.
  EXPECT_THAT(server_->err(),
              AllOf(HasSubstr("LoadModel from 127.0.0.1, model new: "
                              "INVALID_ARGUMENT: CHECKPOINT_INVALID (request "),
                    HasSubstr("model good: loaded as float16 in "),
                    Not(HasSubstr("/no/such")), Not(HasSubstr(damaged)),
                    Not(HasSubstr(good))));
  const grpc::Status plan = load("new", kTinyModel, "no plan");
  EXPECT_EQ(ReasonOf(plan), "FIELD_INVALID");
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(plan).field_violations(0).field(),
            "plan");
  const grpc::Status taken = load("tiny", kTinyModel);
  EXPECT_EQ(ReasonOf(taken), "MODEL_EXISTS");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(taken).resource_name(), "tiny");

  const auto quantize = [&](const v1::QuantizeRequest& request) {
    grpc::ClientContext context;
    const auto reader = stub->Quantize(&context, request);
    v1::QuantizeProgress progress;
    while (reader->Read(&progress)) {
    }
    return reader->Finish();
  };
  v1::QuantizeRequest nobody = ToInt8();
  nobody.set_model("nobody");
  EXPECT_EQ(ReasonOf(quantize(nobody)), "MODEL_NOT_FOUND");
  v1::QuantizeRequest too_coarse = ToInt8();
  too_coarse.set_method("binary");
  too_coarse.set_probe(true);
  too_coarse.set_max_kl(1e-6);
  EXPECT_EQ(ReasonOf(quantize(too_coarse)), "QUALITY_TOO_LOW");

  v1::InspectRequest inspect;
  inspect.set_model("tiny");
  inspect.set_tensor("no.such");
  grpc::ClientContext context;
  v1::InspectResponse inspected;
  EXPECT_EQ(ReasonOf(stub->Inspect(&context, inspect, &inspected)),
            "TENSOR_NOT_FOUND");
}

TEST_F(ErrorsTest, AFullQueueSaysWhoseLimitItIsAndWhenToComeBack) {
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--max_queued_requests",
         "1", "--max_running_requests", "1"});
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials()));
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> calls;
  // One runs, one waits, and of the third the server says so.
  for (int i = 0; i < 3; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    calls.push_back(
        stub->Generate(contexts.back().get(), Request("def f(x):", 4000)));
    v1::GenerateResponse first;
    if (i == 0) {
      ASSERT_TRUE(calls[0]->Read(&first));
    }
    if (i == 1) {
      const absl::Time deadline = absl::Now() + absl::Seconds(20);
      while (Metric("ounce_requests_queued") < 1) {
        ASSERT_LT(absl::Now(), deadline);
        absl::SleepFor(absl::Milliseconds(5));
      }
    }
  }
  const grpc::Status full = calls[2]->Finish();
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(full), "QUEUE_FULL");
  EXPECT_EQ(DetailOf<google::rpc::QuotaFailure>(full).violations(0).subject(),
            "model");
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(full).retry_delay().seconds(), 1);
  const Finished cli = Cli({"generate", "tiny", "a"});
  EXPECT_EQ(cli.code, 3);
  EXPECT_THAT(cli.err, HasSubstr("try again in 1s"));
  for (int i = 0; i < 2; ++i) {
    contexts[i]->TryCancel();
    EXPECT_EQ(calls[i]->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(ErrorsTest, EachRequestHasALineOfJsonWithItsId) {
  Start({"--model", absl::StrCat("tiny=", kTinyModel), "--request_log", "all"});
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "from-the-caller");
  const auto reader = stub->Generate(&context, Request("my secret", 3));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  // Each has its line when the caller has had its answer, or a moment later.
  ASSERT_THAT(RequestLines(1), SizeIs(1));
  EXPECT_TRUE(client_->IsServing("").ok());  // has no line
  v1::TokenizeRequest nobody;
  nobody.set_model("nobody");
  nobody.set_text("my secret");
  EXPECT_THAT(client_->Tokenize(nobody), StatusIs(absl::StatusCode::kNotFound));

  const std::vector<nlohmann::json> lines = RequestLines(2);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_EQ(lines[0]["request_id"], "from-the-caller");
  EXPECT_EQ(lines[0]["method"], "ounce.v1.Inference/Generate");
  EXPECT_EQ(lines[0]["model"], "tiny");
  EXPECT_EQ(lines[0]["version"], 1);
  EXPECT_EQ(lines[0]["peer"], "127.0.0.1");
  EXPECT_EQ(lines[0]["code"], "OK");
  EXPECT_EQ(lines[0]["tokens_out"], 3);
  EXPECT_GT(lines[0]["tokens_in"], 0);
  EXPECT_GT(lines[0]["total_ms"], 0);
  EXPECT_GE(lines[0]["total_ms"], lines[0]["first_token_ms"]);
  EXPECT_GE(lines[0]["first_token_ms"], lines[0]["queued_ms"]);
  EXPECT_EQ(lines[0]["level"], "info");
  EXPECT_TRUE(lines[0].contains("time"));
  EXPECT_EQ(lines[1]["code"], "NOT_FOUND");
  EXPECT_EQ(lines[1]["reason"], "MODEL_NOT_FOUND");
  const std::string id = lines[1]["request_id"];
  EXPECT_THAT(id, SizeIs(32));
  // The line for people, with what was said, has the same id.
  EXPECT_THAT(server_->err(), HasSubstr(absl::StrCat("(request ", id, ")")));
  EXPECT_THAT(server_->err(), Not(HasSubstr("my secret")));
}

TEST_F(ErrorsTest, OfErrorsAloneThoseThatEndWellHaveNoLine) {
  Start({"--model", absl::StrCat("tiny=", kTinyModel), "--request_log",
         "errors"});
  EXPECT_OK(Generate(Request("a", 1)).status());
  v1::TokenizeRequest nobody;
  nobody.set_model("nobody");
  EXPECT_FALSE(client_->Tokenize(nobody).ok());
  const std::vector<nlohmann::json> lines = RequestLines(1);
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0]["method"], "ounce.v1.Inference/Tokenize");
}

TEST_F(ErrorsTest, CallsLoadFromUnderTheRootsAlone) {
  const std::string inside = Copy("models/good");
  const std::string outside = Copy("outside");
  std::filesystem::create_directory_symlink(outside,
                                            folder_.Path("models/sly"));
  // The model of the start is the operator's own.
  Start({"--model", absl::StrCat("tiny=", kTinyModel), "--model_roots",
         folder_.Path("models")});
  EXPECT_OK(Load("inside", inside));
  EXPECT_OK(Inspect(inside));
  const auto denied =
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--model_roots"));
  EXPECT_THAT(Load("outside", outside), denied);
  EXPECT_THAT(Load("outside", folder_.Path("models/../outside")), denied);
  EXPECT_THAT(Load("outside", folder_.Path("models/sly")), denied);
  EXPECT_THAT(Load("outside", kTinyModel), denied);
  EXPECT_THAT(Load("outside", "/no/such/folder"), denied);
  EXPECT_THAT(Inspect(outside), denied);
  const Finished cli = Cli({"load", "outside", outside});
  EXPECT_EQ(cli.code, 3);
  EXPECT_THAT(cli.err, HasSubstr("PERMISSION_DENIED: path: '"));
  // What serves is quantized wherever it lies.
  EXPECT_OK(Quantize(ToInt8()).status());
  EXPECT_OK(Generate(Request("a", 1)).status());
}

// Before any service gets to see them.
TEST_F(ErrorsTest, WhatGrpcItselfRefusesHasDetailsAndAnIdToo) {
  const std::string token(64, '0');
  const std::string tokens =
      folder_.WriteFile("tokens", absl::StrCat("web infer ", token, "\n"));
  Start({"--max_message_bytes", "100000", "--token_file", tokens});
  const auto ask = [&](const std::string& text, const std::string& id,
                       bool compressed, std::string* heard_id) {
    const auto stub = v1::Inference::NewStub(
        grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    if (!id.empty()) context.AddMetadata("x-request-id", id);
    if (compressed) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    v1::TokenizeRequest request;
    request.set_model("tiny");
    request.set_text(text);
    v1::TokenizeResponse response;
    const grpc::Status status = stub->Tokenize(&context, request, &response);
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto trailer = trailers.find("x-request-id");
    heard_id->clear();
    if (trailer != trailers.end()) {
      heard_id->assign(trailer->second.data(), trailer->second.size());
    }
    return status;
  };
  std::string id;
  const std::string own = "100% mine (request 7) $x";
  grpc::Status status = ask("a", own, false, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ReasonOf(status), "UNAUTHENTICATED");
  EXPECT_EQ(DetailOf<google::rpc::RequestInfo>(status).request_id(), own);
  EXPECT_EQ(id, own);
  EXPECT_THAT(server_->err(), HasSubstr(absl::StrCat("(request ", own, ")")));
  status = ask("a", "", false, &id);
  EXPECT_EQ(ReasonOf(status), "UNAUTHENTICATED");
  EXPECT_THAT(id, SizeIs(32));
  EXPECT_EQ(DetailOf<google::rpc::RequestInfo>(status).request_id(), id);
  Stop();

  Start({"--max_message_bytes", "100000"});
  status = ask(std::string(200'000, 'a'), own, false, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(status), "MESSAGE_TOO_LARGE");
  EXPECT_EQ(DetailOf<google::rpc::QuotaFailure>(status).violations(0).subject(),
            "server");
  EXPECT_THAT(id, SizeIs(32));
  EXPECT_EQ(DetailOf<google::rpc::RequestInfo>(status).request_id(), id);
  EXPECT_THAT(server_->err(),
              AllOf(HasSubstr("listen: refused a call: RESOURCE_EXHAUSTED"),
                    HasSubstr(absl::StrCat("(request ", id, ")"))));
  status = ask(std::string(50'000, 'a'), "", true, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(ReasonOf(status), "UNIMPLEMENTED");
  EXPECT_THAT(id, SizeIs(32));
  const auto refused = [&](const char* listener, const char* code) {
    return Metric("ounce_early_refusals_total",
                  {absl::StrCat("\"", listener, "\""), code});
  };
  EXPECT_EQ(refused("listen", "RESOURCE_EXHAUSTED"), 1);
  EXPECT_EQ(refused("listen", "UNIMPLEMENTED"), 1);
  EXPECT_EQ(refused("admin_listen", "RESOURCE_EXHAUSTED"), 0);
}

}  // namespace
}  // namespace ounce::testing
