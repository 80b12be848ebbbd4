#include "hub/push.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/hub/hub_test.h"
#include "tests/testing/status_matchers.h"

namespace ounce::hub {
namespace {

using ::ounce::testing::HubServer;
using ::ounce::testing::IsOk;
using ::ounce::testing::SeenRequest;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr char kToken[] = "hf_secret";

class PushTest : public HubTest {
 protected:
  PushTest() : HubTest(kToken) {}

  void SetUp() override {
    HubTest::SetUp();
    environment_.token = kToken;
    folder_.WriteFile("model/config.json", "{}");
    folder_.WriteFile("model/model.safetensors", weights_);
    folder_.WriteFile("model/q/notes.txt", "");
    folder_.WriteFile("model/.ounce_pull/finished.json", "{}");
  }

  absl::StatusOr<Pushed> PushModel(bool is_private = false,
                                   const std::string& name = "org/model") {
    PushOptions options{folder_.Path("model"), *ParseModelName(name)};
    options.is_private = is_private;
    options.connections = 2;
    return Push(environment_, options, hooks_,
                [this](const Progress& progress) {
                  progress_ = progress;
                  if (on_progress_) on_progress_();
                });
  }

  // Everything that was sent to the storage.
  std::vector<SeenRequest> Put() const {
    std::vector<SeenRequest> put;
    for (const SeenRequest& request : hub_.Seen()) {
      if (request.method == "PUT") put.push_back(request);
    }
    return put;
  }

  // Three parts of 1000 bytes that differ.
  const std::string weights_ =
      std::string(1000, 'a') + std::string(1000, 'b') + std::string(500, 'c');
  Progress progress_;
  std::function<void()> on_progress_;  // once the files are hashed
};

TEST_F(PushTest, MakesARepositoryWithTheFolderInIt) {
  ASSERT_OK_AND_ASSIGN(const Pushed pushed, PushModel());
  EXPECT_EQ(pushed.page, hub_.endpoint() + "/org/model");
  EXPECT_EQ(pushed.commit, HubServer::kCommit);
  EXPECT_THAT(hub_.Committed("org/model"),
              ElementsAre(Pair("config.json", "{}"),
                          Pair("model.safetensors", weights_),
                          Pair("q/notes.txt", "")));
  EXPECT_THAT(Put(), ElementsAre(Field(&SeenRequest::authorization, "")));
  EXPECT_EQ(progress_.bytes_done, 2502);
  EXPECT_THAT(hub_.Seen("/verify"),
              ElementsAre(Field(&SeenRequest::body,
                                HasSubstr(testing::Sha256(weights_)))));
}

TEST_F(PushTest, SendsLargeFilesInParts) {
  hub_.SetChunkSize(1000);
  hub_.Fault({.path = "/part/", .code = 500});
  ASSERT_OK(PushModel());
  EXPECT_EQ(hub_.Committed("org/model")["model.safetensors"], weights_);
  EXPECT_THAT(Put(), SizeIs(4)) << "three parts, one of them twice";
  EXPECT_THAT(waits(), ElementsAre(absl::Seconds(1)));
}

TEST_F(PushTest, SendsNothingTwice) {
  hub_.Fault({.path = "/commit/", .code = 500});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Put(), SizeIs(1));
  ASSERT_OK_AND_ASSIGN(const Pushed again, PushModel());
  EXPECT_THAT(Put(), SizeIs(1));
  EXPECT_TRUE(again.files[1].was_there);
  EXPECT_FALSE(again.files[0].was_there);
  ASSERT_OK_AND_ASSIGN(const Pushed same, PushModel());
  EXPECT_EQ(same.commit, "");
  EXPECT_THAT(hub_.Seen("/commit/"), SizeIs(2));
  folder_.WriteFile("model/config.json", "{\"a\":1}");
  ASSERT_OK(PushModel());
  const std::string commit = hub_.Seen("/commit/").back().body;
  EXPECT_THAT(commit, AllOf(HasSubstr("config.json"),
                            Not(HasSubstr("model.safetensors"))));
}

TEST_F(PushTest, NamesTheCommitThatItFollows) {
  ASSERT_OK(PushModel());
  std::istringstream lines(hub_.Seen("/commit/").back().body);
  std::string line;
  std::getline(lines, line);
  const auto header = nlohmann::json::parse(line);
  EXPECT_EQ(header["key"], "header");
  EXPECT_EQ(header["value"]["parentCommit"], HubServer::kCommit);
  EXPECT_EQ(header["value"]["summary"], "Upload by Ounce");
  folder_.WriteFile("model/config.json", "{\"a\":1}");
  hub_.Fault({.path = "/commit/", .code = 412});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kAborted,
                                    HasSubstr("another commit meanwhile")));
}

TEST_F(PushTest, CommitsNoFileThatChangesMeanwhile) {
  for (const char* text : {"{\"longer\":1}", "[]", "{}"}) {
    on_progress_ = [&] { folder_.WriteFile("model/config.json", text); };
    EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kAborted,
                                      HasSubstr("config.json' has changed")))
        << text;
  }
  EXPECT_THAT(hub_.Seen("/commit/"), IsEmpty());
  on_progress_ = nullptr;
  EXPECT_THAT(PushModel(), IsOk());
}

TEST_F(PushTest, LeavesOutWhatTheRepositoryIgnores) {
  folder_.WriteFile("model/a.ignored", "x");
  ASSERT_OK_AND_ASSIGN(const Pushed pushed, PushModel());
  EXPECT_THAT(pushed.files, SizeIs(3));
  EXPECT_FALSE(hub_.Committed("org/model").contains("a.ignored"));
}

TEST_F(PushTest, AddsToARepositoryThatIsThere) {
  hub_.Put("org/model", "README.md", "# Model");
  ASSERT_OK(PushModel());
  EXPECT_THAT(hub_.Committed("org/model"), SizeIs(4));
}

TEST_F(PushTest, KeepsPrivateWhatIsToBePrivate) {
  ASSERT_OK(PushModel(/*is_private=*/true));
  EXPECT_THAT(hub_.Seen("/create").back().body,
              HasSubstr("\"visibility\":\"private\""));
  ASSERT_OK(PushModel(/*is_private=*/true));
  hub_.Put("org/public", "README.md", "# Model");
  EXPECT_THAT(PushModel(/*is_private=*/true, "org/public"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("is there already and is not private")));
  EXPECT_THAT(hub_.Committed("org/public"), SizeIs(1));
}

TEST_F(PushTest, SaysWhatIsMissingBeforeItAsksAnybody) {
  environment_.token = "";
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kUnauthenticated,
                                    AllOf(HasSubstr("a token that may write"),
                                          HasSubstr("/settings/tokens"),
                                          HasSubstr("HF_TOKEN"))));
  environment_.token = kToken;
  EXPECT_THAT(PushModel(false, "model"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must be ORG/NAME")));
  environment_.offline = true;
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kFailedPrecondition));
  environment_.offline = false;
  folder_.WriteFile("model/caf\xc3\xa9", "");
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("rename it")));
  EXPECT_THAT(hub_.Seen(), IsEmpty());
}

TEST_F(PushTest, SaysWhatTheHubRefuses) {
  hub_.Fault(
      {.path = "/create",
       .code = 401,
       .headers = {{"X-Error-Message", "Invalid username or password"}}});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kUnauthenticated,
                                    AllOf(HasSubstr("HF_TOKEN is not valid"),
                                          Not(HasSubstr(kToken)))));
  hub_.Fault({.path = "/create",
              .code = 403,
              .body = "{\"error\":\"no rights in org\"}"});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kPermissionDenied,
                                    HasSubstr("403: no rights in org")));
  hub_.Fault({.path = "/preupload",
              .code = 403,
              .headers = {{"X-Error-Code", "GatedRepo"}}});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kPermissionDenied,
                                    HasSubstr("is gated")));
  hub_.Fault(
      {.path = "/objects/batch",
       .code = 200,
       .body = "{\"objects\":[{\"oid\":\"" + testing::Sha256(weights_) +
               "\",\"error\":{\"code\":1,\"message\":\"too large\"}}]}"});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("does not take it: too large")));
}

TEST_F(PushTest, ShowsNoOddCharactersOfWhereItIsSent) {
  hub_.Fault({.path = "/objects/batch",
              .code = 200,
              .body = "{\"objects\":[{\"oid\":\"" + testing::Sha256(weights_) +
                      "\",\"actions\":{\"upload\":{\"href\":"
                      "\"http://no.\\u009b/\"}}}]}"});
  EXPECT_THAT(PushModel().status().message(),
              AllOf(HasSubstr("http://no.??: "), Not(HasSubstr("\x9b"))));
}

TEST_F(PushTest, SaysThatItKnowsNoXet) {
  hub_.Fault({.path = "/objects/batch",
              .code = 200,
              .body = "{\"transfer\":\"xet\",\"objects\":[]}"});
  EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kUnimplemented,
                                    HasSubstr("by Xet alone")));
}

TEST_F(PushTest, TakesNoAnswersThatMakeNoSense) {
  for (const char* path : {"/preupload", "/objects/batch"}) {
    for (const char* body : {"", "[]", "{}", "{\"files\":[],\"objects\":[]}",
                             "{\"files\":[{}],\"objects\":[{}]}"}) {
      hub_.Fault({.path = path, .code = 200, .body = body});
      EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kDataLoss))
          << path << " " << body;
    }
  }
  const std::string object = "{\"objects\":[{\"oid\":\"" +
                             testing::Sha256(weights_) + "\",\"actions\":";
  for (const char* actions :
       {"{\"verify\":{}}", "{\"upload\":{}}", "{\"upload\":{\"href\":1}}",
        "{\"upload\":{\"href\":\"http://localhost:1/\",\"header\":"
        "{\"chunk_size\":\"0\"}}}",
        "{\"upload\":{\"href\":\"http://localhost:1/\",\"header\":"
        "{\"chunk_size\":\"1000\",\"1\":\"http://localhost:1/\"}}}",
        "{\"upload\":{\"href\":\"http://localhost:1/\",\"header\":"
        "{\"chunk_size\":\"x\"}}}"}) {
    hub_.Fault({.path = "/objects/batch",
                .code = 200,
                .body = object + actions + "}]}"});
    EXPECT_THAT(PushModel(), StatusIs(absl::StatusCode::kDataLoss)) << actions;
  }
  EXPECT_THAT(Put(), IsEmpty());
}

}  // namespace
}  // namespace ounce::hub
