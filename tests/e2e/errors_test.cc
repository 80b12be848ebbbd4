// What callers and operators learn of requests, above all of those that end
// badly: details, ids, the log, and nothing of the server's files.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
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

}  // namespace
}  // namespace ounce::testing
