// Bearer tokens of a real server, with the real clients.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <sys/socket.h>

#include <deque>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;

struct Made {
  std::string token;
  std::string line;
};

Made MakeToken(const std::string& name, const std::string& scopes) {
  const Finished made =
      testing::RunToEnd({OUNCE_CLI_BINARY, "token", "new", "--name", name,
                         "--scope", scopes, "--json"});
  EXPECT_EQ(made.code, 0) << made.err;
  const auto json = nlohmann::json::parse(made.out);
  return {json["token"], json["line"]};
}

class TokensTest : public testing::ServingTest {
 protected:
  TokensTest()
      : web_(MakeToken("web", "infer")),
        operator_(MakeToken("operator", "infer,admin")) {
    Write(absl::StrCat(web_.line, "\n", operator_.line, "\n"));
  }

  void StartWithTokens() {
    Start({"--model", absl::StrCat("tiny=", testing::kTinyModel),
           "--token_file", folder_.Path("tokens")});
  }

  // As programs do that write whole files.
  void Write(const std::string& text) {
    std::filesystem::rename(folder_.WriteFile("tokens.new", text),
                            folder_.Path("tokens"));
  }

  std::unique_ptr<client::Client> With(const std::string& token) {
    return client::Client::Create(
        {.server = inference_, .admin = admin_, .token = token});
  }

  bool WaitForReload(const std::string& outcome) {
    return WaitUntil([&] {
      return Metric("ounce_file_reloads_total",
                    {"\"token_file\"", absl::StrCat("\"", outcome, "\"")}) >= 1;
    });
  }

  const Made web_, operator_;
};

TEST_F(TokensTest, AreNeededForEveryCallButHealth) {
  StartWithTokens();
  // Without one: Inference, ModelAdmin.
  EXPECT_THAT(Generate(Request("def", 2)).status(),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("a token is needed")));
  EXPECT_THAT(client_->ListModels().status(),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_EQ(*client_->IsServing(""), true);
  EXPECT_EQ(*client_->IsServing("ounce.v1.ModelAdmin"), true);
  EXPECT_EQ(Cli({"health"}).code, 0);

  EXPECT_THAT(With(web_.token)->ListServedModels().status(), IsOk());
  EXPECT_THAT(With(web_.token)->ListModels().status(),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("'web' lacks the scope admin"),
                             Not(HasSubstr(web_.token)))));
  EXPECT_THAT(With(operator_.token)->ListModels().status(), IsOk());
  EXPECT_THAT(With("ounce_wrong")->ListServedModels().status(),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr("not known"), Not(HasSubstr("wrong")))));
  const auto refused = [&](const char* listener, const char* code) {
    return Metric("ounce_token_refusals_total",
                  {absl::StrCat("\"", listener, "\""), code});
  };
  EXPECT_EQ(refused("listen", "UNAUTHENTICATED"), 2);
  EXPECT_EQ(refused("admin_listen", "UNAUTHENTICATED"), 1);
  EXPECT_EQ(refused("admin_listen", "PERMISSION_DENIED"), 1);
  EXPECT_THAT(server_->err(),
              AllOf(HasSubstr("listen: refused a call of "
                              "/ounce.v1.Inference/Generate: a token is"),
                    Not(HasSubstr("ounce_wrong"))));
}

TEST_F(TokensTest, SayWhoAsks) {
  StartWithTokens();
  v1::GetModelRequest request;
  request.set_name("nothing");
  EXPECT_FALSE(With(operator_.token)->GetModel(request).ok());
  EXPECT_THAT(server_->err(), HasSubstr("GetModel from token:operator"));
}

// From one address, so by their names alone are the two told apart.
TEST_F(TokensTest, TellThoseApartWhoTakeTurns) {
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--token_file",
         folder_.Path("tokens"), "--max_running_requests", "4",
         "--max_queued_requests", "1000"});
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials()));
  constexpr int kMany = 1000;
  std::deque<grpc::ClientContext> contexts(kMany);
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> calls;
  for (grpc::ClientContext& context : contexts) {
    context.AddMetadata("authorization", absl::StrCat("Bearer ", web_.token));
    calls.push_back(stub->Generate(&context, Request("def f(x):", 4000)));
  }
  const auto waiting = [&] { return Metric("ounce_requests_queued"); };
  EXPECT_TRUE(WaitUntil([&] { return waiting() >= kMany - 8; }));
  EXPECT_THAT(With(operator_.token)
                  ->WithTimeout(absl::Minutes(1))
                  ->Generate(Request("def f(x):", 1),
                             [](const v1::GenerateResponse&) { return true; }),
              IsOk());
  EXPECT_GE(waiting(), kMany / 2);
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (const auto& call : calls) call->Finish();
}

TEST_F(TokensTest, OfLargeMessagesAreAskedForBeforeThese) {
  StartWithTokens();
  v1::DetectObjectsRequest request;
  request.set_model("tiny");
  request.set_image(std::string(20 << 20, 'x'));
  EXPECT_THAT(client_->DetectObjects(request).status(),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(TokensTest, AreReplacedWhileItRuns) {
  StartWithTokens();
  const Made renewed = MakeToken("web", "infer");
  EXPECT_FALSE(With(renewed.token)->ListServedModels().ok());
  Write(absl::StrCat(renewed.line, "\n"));
  ASSERT_TRUE(WaitForReload("done")) << server_->err();
  EXPECT_THAT(With(renewed.token)->ListServedModels().status(), IsOk());
  EXPECT_FALSE(With(web_.token)->ListServedModels().ok());
  // A broken file changes nothing but the log and the count.
  Write("web infer");
  ASSERT_TRUE(WaitForReload("error")) << server_->err();
  EXPECT_THAT(server_->err(), HasSubstr("line 1: must be NAME SCOPES SHA-256"));
  EXPECT_THAT(With(renewed.token)->ListServedModels().status(), IsOk());
}

TEST_F(TokensTest, AreKnownWhileTheirFileIsGone) {
  StartWithTokens();
  std::filesystem::rename(folder_.Path("tokens"), folder_.Path("elsewhere"));
  ASSERT_TRUE(WaitForReload("error")) << server_->err();
  EXPECT_THAT(server_->err(), AllOf(HasSubstr("error token_file: "),
                                    HasSubstr("goes on with what it had")));
  EXPECT_THAT(With(web_.token)->ListServedModels().status(), IsOk());
  EXPECT_FALSE(With(MakeToken("web", "infer").token)->ListServedModels().ok());
  std::filesystem::rename(folder_.Path("elsewhere"), folder_.Path("tokens"));
  ASSERT_TRUE(WaitForReload("done")) << server_->err();
  EXPECT_THAT(With(web_.token)->ListServedModels().status(), IsOk());
}

TEST_F(TokensTest, ComeToTheCommandLineByFileOrEnvironment) {
  StartWithTokens();
  const std::string file = folder_.WriteFile("mine", operator_.token + "\n");
  EXPECT_EQ(Cli({"--token_file", file, "models"}).code, 0);
  const Finished none = Cli({"models"});
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.err, HasSubstr("UNAUTHENTICATED: a token is needed"));
  setenv("OUNCE_TOKEN", operator_.token.c_str(), 1);
  EXPECT_EQ(Cli({"models"}).code, 0);
  unsetenv("OUNCE_TOKEN");
  const Finished empty =
      Cli({"--token_file", folder_.WriteFile("empty", ""), "models"});
  EXPECT_EQ(empty.code, 3);
  EXPECT_THAT(empty.err, HasSubstr("--token_file: '"));
}

TEST_F(TokensTest, GoToOtherMachinesWithTlsOnly) {
  const auto other =
      client::Client::Create({.server = "192.0.2.1:8500", .token = web_.token});
  EXPECT_THAT(
      other->ListServedModels().status(),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("in plain text"), HasSubstr("--plaintext_token"),
                     Not(HasSubstr(web_.token)))));
}

TEST_F(TokensTest, AreMadeAtRandomAndShownOnce) {
  EXPECT_NE(MakeToken("web", "infer").token, web_.token);
  EXPECT_THAT(web_.token, ::testing::MatchesRegex("ounce_[-_A-Za-z0-9]{43}"));
  EXPECT_THAT(web_.line, ::testing::MatchesRegex("web infer [0-9a-f]{64}"));
  const Finished text = testing::RunToEnd(
      {OUNCE_CLI_BINARY, "token", "new", "--name", "a", "--scope", "admin"});
  EXPECT_THAT(text.out, AllOf(HasSubstr("\nounce_"), HasSubstr("\na admin ")));
  const Finished wrong = testing::RunToEnd(
      {OUNCE_CLI_BINARY, "token", "new", "--name", "a", "--scope", "all"});
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("--scope: must be infer, admin or"));
}

TEST_F(TokensTest, AServerThatCannotReadThemDoesNotStart) {
  const Finished server = testing::RunToEnd(
      {OUNCE_SERVER_BINARY, "--token_file", folder_.Path("nothing")});
  EXPECT_EQ(server.code, 1);
  EXPECT_THAT(server.err, HasSubstr("token_file: cannot read '"));
}

TEST_F(TokensTest, AnAdminListenerForOthersNeedsThem) {
  const Finished server =
      testing::RunToEnd({OUNCE_SERVER_BINARY, "--admin_listen", "0.0.0.0:0"});
  EXPECT_EQ(server.code, 2);
  EXPECT_THAT(server.err,
              AllOf(HasSubstr("admin_listen: at '0.0.0.0:0'"),
                    HasSubstr("set --token_file, or --admin_tls_client_ca")));
}

}  // namespace
}  // namespace ounce
