#include "hub/pull.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>

#include "base/read_file.h"
#include "hub/files.h"
#include "model/checkpoint/hub_cache.h"
#include "tests/hub/hub_test.h"
#include "tests/testing/status_matchers.h"

namespace ounce::hub {
namespace {

namespace fs = std::filesystem;

using ::ounce::testing::HubServer;
using ::ounce::testing::IsOk;
using ::ounce::testing::SeenRequest;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kToken[] = "hf_secret";

// Bytes that are at no two places the same.
std::string Weights(size_t size = 100'000) {
  std::string bytes;
  for (uint32_t i = 0; bytes.size() < size; ++i) {
    bytes.append(reinterpret_cast<const char*>(&i), sizeof(i));
  }
  return bytes;
}

class PullTest : public HubTest {
 protected:
  explicit PullTest(std::string token = "") : HubTest(std::move(token)) {}

  void SetUp() override {
    HubTest::SetUp();
    hub_.Put("org/model", "config.json", "{}");
    hub_.Put("org/model", "tokenizer.json", "{ }");
    hub_.Put("org/model", "model.safetensors", Weights(), /*large=*/true);
    hub_.Put("org/model", "pytorch_model.bin", "old", /*large=*/true);
    hub_.Put("org/model", "README.md", "# Model");
    setenv("HF_HUB_CACHE", environment_.cache.c_str(), 1);
  }

  absl::StatusOr<Pulled> PullModel(const std::string& name = "org/model",
                                   std::vector<std::string> include = {},
                                   const std::string& into = "") {
    return Pull(environment_,
                {*ParseModelName(name), std::move(include), into,
                 /*connections=*/2},
                hooks_, [this](const Progress& progress) {
                  progress_ = progress;
                  if (on_progress_) on_progress_(progress);
                });
  }

  std::string Repository(const std::string& path) const {
    return folder_.Path("cache/models--org--model/" + path);
  }
  std::string IncompleteWeights() const {
    return Repository("blobs/" + testing::Sha256(Weights()) + ".incomplete");
  }

  Progress progress_;
  std::function<void(const Progress&)> on_progress_;
};

TEST_F(PullTest, FillsTheCacheWithWhatServesTheModel) {
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  EXPECT_EQ(pulled.commit, HubServer::kCommit);
  EXPECT_EQ(pulled.folder,
            Repository(std::string("snapshots/") + HubServer::kCommit));
  EXPECT_EQ(model::FindModelFolder("org/model").value(), pulled.folder);
  EXPECT_EQ(ReadFile(pulled.folder + "/model.safetensors").value(), Weights());
  EXPECT_EQ(ReadFile(pulled.folder + "/config.json").value(), "{}");
  EXPECT_FALSE(fs::exists(pulled.folder + "/pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(pulled.folder + "/README.md"));
  EXPECT_EQ(fs::read_symlink(pulled.folder + "/config.json"),
            "../../blobs/" + testing::GitSha1("{}"));
  EXPECT_EQ(ReadFile(Repository("refs/main")).value(), HubServer::kCommit);
  EXPECT_FALSE(fs::exists(IncompleteWeights()));
  EXPECT_EQ(progress_.bytes, 100'005);
  EXPECT_EQ(progress_.bytes_done, progress_.bytes);
  EXPECT_THAT(progress_.files, SizeIs(3));
}

TEST_F(PullTest, FetchesNothingTwice) {
  ASSERT_OK(PullModel());
  const size_t before = hub_.Seen().size();
  hub_.Put("org/model", "tokenizer.json", "{ \"new\": 1 }");
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  EXPECT_EQ(ReadFile(pulled.folder + "/tokenizer.json").value(),
            "{ \"new\": 1 }");
  std::vector<std::string> fetched;
  for (const SeenRequest& request : hub_.Seen("/resolve/")) {
    if (request.method == "GET") fetched.push_back(request.path);
  }
  EXPECT_THAT(fetched, SizeIs(4)) << "three of the first, one of the second";
  EXPECT_EQ(hub_.Seen().size(), before + 5) << "a list, 3 looks, a file";
  EXPECT_TRUE(pulled.files[0].was_there);
  EXPECT_FALSE(pulled.files[2].was_there);
}

TEST_F(PullTest, TakesRevisionsAndFoldersInside) {
  hub_.Put("org/model", "q/m.gguf", "GGUF", /*large=*/true);
  ASSERT_OK_AND_ASSIGN(const Pulled pulled,
                       PullModel("org/model@refs/pr/1", {"*.gguf"}));
  EXPECT_EQ(ReadFile(pulled.folder + "/q/m.gguf").value(), "GGUF");
  EXPECT_FALSE(fs::exists(pulled.folder + "/model.safetensors"));
  EXPECT_TRUE(fs::exists(Repository("refs/refs/pr/1")));
  EXPECT_THAT(model::FindModelFolder("org/model@refs/pr/1"), IsOk());
  ASSERT_OK(PullModel(std::string("org/model@") + HubServer::kCommit));
  EXPECT_FALSE(
      fs::exists(Repository(std::string("refs/") + HubServer::kCommit)));
}

TEST_F(PullTest, FollowsAModelToItsNewName) {
  hub_.Fault(
      {.path = "/api/models/org/old",
       .code = 307,
       .headers = {{"Location", "/api/models/org/model/revision/main"}}});
  for (const char* file :
       {"config.json", "model.safetensors", "tokenizer.json"}) {
    hub_.Fault(
        {.path =
             std::string("/org/old/resolve/") + HubServer::kCommit + "/" + file,
         .method = "HEAD",
         .code = 307,
         .headers = {{"Location", std::string("/org/model/resolve/") +
                                      HubServer::kCommit + "/" + file}}});
  }
  EXPECT_THAT(PullModel("org/old"), IsOk());
  EXPECT_THAT(model::FindModelFolder("org/old"), IsOk());
}

TEST_F(PullTest, GoesOnWhereAConnectionBroke) {
  hub_.Fault({.path = "/get/", .break_after = 40'000});
  hub_.Fault({.path = "/get/", .break_after = 30'000});
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  EXPECT_EQ(ReadFile(pulled.folder + "/model.safetensors").value(), Weights());
  EXPECT_THAT(hub_.Seen("/get/"),
              ElementsAre(Field(&SeenRequest::range, ""),
                          Field(&SeenRequest::range, "bytes=40000-"),
                          Field(&SeenRequest::range, "bytes=70000-")));
  EXPECT_THAT(waits(), ElementsAre(absl::Seconds(1), absl::Seconds(1)))
      << "bytes came, so each is a first failure";
}

TEST_F(PullTest, GoesOnWhereAnotherProcessEnded) {
  folder_.WriteFile("cache/models--org--model/blobs/" +
                        testing::Sha256(Weights()) + ".incomplete",
                    Weights().substr(0, 60'000));
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  EXPECT_EQ(ReadFile(pulled.folder + "/model.safetensors").value(), Weights());
  EXPECT_THAT(hub_.Seen("/get/"),
              ElementsAre(Field(&SeenRequest::range, "bytes=60000-")));
}

TEST_F(PullTest, BeginsAnewWhereTheServerKnowsNoRanges) {
  hub_.Fault({.path = "/get/", .break_after = 40'000});
  hub_.Fault({.path = "/get/", .ignores_range = true});
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  EXPECT_EQ(ReadFile(pulled.folder + "/model.safetensors").value(), Weights());
}

TEST_F(PullTest, GivesUpAFileThatIsShorterThanItsSize) {
  hub_.Fault({.path = "/model.safetensors",
              .method = "HEAD",
              .code = 302,
              .headers = {{"X-Linked-Etag", testing::Sha256(Weights())},
                          {"X-Linked-Size", "100001"},
                          {"Location", "http://localhost:1/"}}});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("answered 416")));
}

TEST_F(PullTest, WaitsAsLongAsTheServerAsks) {
  hub_.Fault(
      {.path = "/api/models", .code = 429, .headers = {{"Retry-After", "7"}}});
  hub_.Fault({.path = "/get/", .code = 503});
  hub_.Fault({.path = "/get/", .code = 503, .headers = {{"Retry-After", "9"}}});
  ASSERT_OK(PullModel());
  EXPECT_THAT(waits(), ElementsAre(absl::Seconds(7), absl::Seconds(1),
                                   absl::Seconds(9)));
}

TEST_F(PullTest, GivesUpAfterSixAttempts) {
  for (int i = 0; i < 6; ++i) {
    hub_.Fault({.path = "/api/models", .code = 502});
  }
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kUnavailable,
                                    HasSubstr("answered 502 (after 6 "
                                              "attempts)")));
  EXPECT_THAT(waits(),
              ElementsAre(absl::Seconds(1), absl::Seconds(2), absl::Seconds(4),
                          absl::Seconds(8), absl::Seconds(16)));
  hub_.Fault({.path = "/api/models",
              .code = 429,
              .headers = {{"Retry-After", "3600"}}});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kResourceExhausted,
                                    HasSubstr("asks to wait for 1h")));
}

TEST_F(PullTest, SaysThatNobodyAnswers) {
  environment_.endpoint = "http://127.0.0.1:1";
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kUnavailable,
                                    HasSubstr("http://127.0.0.1:1: ")));
}

TEST_F(PullTest, HoldsBytesAgainstTheirHash) {
  std::string wrong = Weights();
  wrong[50'000] ^= 1;
  hub_.Fault({.path = "/get/", .bytes = wrong});
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  EXPECT_EQ(ReadFile(pulled.folder + "/model.safetensors").value(), Weights());
}

TEST_F(PullTest, LeavesNoModelWhoseBytesAreWrong) {
  for (int i = 0; i < 2; ++i) {
    hub_.Fault({.path = "/get/", .bytes = std::string(100'000, 'x')});
  }
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kDataLoss,
                                    HasSubstr("do not have the hash ")));
  EXPECT_THAT(model::FindModelFolder("org/model"),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(PullTest, HoldsSmallFilesAgainstGitsHash) {
  for (int i = 0; i < 2; ++i) {
    hub_.Fault({.path = "/config.json", .method = "GET", .bytes = "[]"});
  }
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kDataLoss,
                                    HasSubstr("config.json: the bytes from")));
  EXPECT_FALSE(fs::exists(Repository("refs/main")));
}

TEST_F(PullTest, TakesNoMoreBytesThanAFileHas) {
  hub_.Fault({.path = "/get/", .bytes = Weights() + "more"});
  EXPECT_THAT(PullModel(),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("sends more than the 100000 bytes")));
}

TEST_F(PullTest, RefusesEtagsAndSizesThatCannotBeTrue) {
  hub_.Fault({.path = "/config.json",
              .method = "HEAD",
              .code = 200,
              .headers = {{"ETag", "\"../../../../evil\""}}});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("is no hash")));
  for (const char* size : {"-1", "x", "99999999999999999999", ""}) {
    hub_.Fault({.path = "/config.json",
                .method = "HEAD",
                .code = 200,
                .headers = {{"X-Linked-Etag", testing::GitSha1("{}")},
                            {"X-Linked-Size", size}}});
    const absl::StatusOr<Pulled> pulled = PullModel();
    if (*size == '\0') continue;  // then Content-Length counts
    EXPECT_THAT(pulled, StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("its size is not known")));
  }
}

TEST_F(PullTest, ShowsNoOddCharactersOfWhereItIsLed) {
  for (const char* size : {"2", "-1"}) {
    hub_.Fault({.path = "/config.json",
                .method = "HEAD",
                .code = 307,
                .headers = {{"Location", "/led/\xc2\x9b"}}});
    hub_.Fault(
        {.path = "/led/",
         .method = "HEAD",
         .code = 200,
         .headers = {{"X-Linked-Etag", *size == '-' ? testing::GitSha1("{}")
                                                    : std::string("none")},
                     {"X-Linked-Size", size}}});
    EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("/led/\\xc2\\x9b: its ")));
  }
}

TEST_F(PullTest, ChecksTheRoomBeforeAnythingIsFetched) {
  hub_.Fault({.path = "/model.safetensors",
              .method = "HEAD",
              .code = 302,
              .headers = {{"X-Linked-Etag", testing::Sha256(Weights())},
                          {"X-Linked-Size", "4000000000000"},
                          {"Location", "http://localhost:1/"}}});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kResourceExhausted,
                                    AllOf(HasSubstr("needs 3.64 TiB more"),
                                          HasSubstr("free: make room"))));
  EXPECT_THAT(hub_.Seen("/get/"), IsEmpty());
}

TEST_F(PullTest, WaitsForAnotherProcessThatFetchesTheSame) {
  const std::string path = folder_.WriteFile(
      "cache/.locks/models--org--model/" + testing::Sha256(Weights()) + ".lock",
      "");
  const int lock = open(path.c_str(), O_RDWR);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  bool waited = false;
  on_progress_ = [&](const Progress& progress) {
    for (const FileProgress& file : progress.files) waited |= file.waits;
  };
  on_wait_ = [&] {  // the other is done
    folder_.WriteFile(
        "cache/models--org--model/blobs/" + testing::Sha256(Weights()),
        Weights());
    flock(lock, LOCK_UN);
  };
  ASSERT_OK(PullModel());
  close(lock);
  EXPECT_TRUE(waited);
  EXPECT_THAT(hub_.Seen("/get/"), IsEmpty());
}

TEST_F(PullTest, EndsWhenNobodyWantsItAndGoesOnLater) {
  std::atomic<bool> wanted = true;
  hooks_.proceed = [&] {
    return wanted ? absl::OkStatus() : absl::CancelledError("cancelled");
  };
  on_progress_ = [&](const Progress& progress) {
    for (const FileProgress& file : progress.files) {
      if (file.path == "model.safetensors" && file.bytes_done > 0) {
        wanted = false;
      }
    }
  };
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(model::FindModelFolder("org/model"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_GT(fs::file_size(IncompleteWeights()), 0u);
  on_progress_ = nullptr;
  wanted = true;
  ASSERT_OK(PullModel());
  EXPECT_THAT(hub_.Seen("/get/").back().range, HasSubstr("bytes="));
}

TEST_F(PullTest, DownloadsNothingOffline) {
  environment_.offline = true;
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("HF_HUB_OFFLINE is set")));
  environment_.offline = false;
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullModel());
  environment_.offline = true;
  const size_t before = hub_.Seen().size();
  EXPECT_EQ(PullModel()->folder, pulled.folder);
  EXPECT_EQ(hub_.Seen().size(), before);
}

TEST_F(PullTest, SaysWhatIsNotThere) {
  EXPECT_THAT(PullModel("org/other"),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("no model 'org/other', or it is "
                                       "private and needs a token"),
                             HasSubstr("/settings/tokens, in HF_TOKEN"))));
  EXPECT_THAT(PullModel("org/model@v2"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("org/model has no revision 'v2'")));
  hub_.Fault({.path = "/config.json",
              .code = 404,
              .headers = {{"X-Error-Code", "EntryNotFound"}}});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kNotFound,
                                    HasSubstr("has no file config.json")));
}

TEST_F(PullTest, NamesThePageOfAGatedModel) {
  hub_.Fault({.path = "/config.json",
              .code = 401,
              .headers = {{"X-Error-Code", "GatedRepo"}}});
  EXPECT_THAT(PullModel(),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("org/model is gated: accept its "
                                       "conditions at " +
                                       hub_.endpoint() + "/org/model"),
                             HasSubstr("into HF_TOKEN"))));
}

TEST_F(PullTest, LeavesAnAnswerThatIsNoListAlone) {
  for (const char* body : {"", "[]", "{\"sha\":1}", "<html>",
                           "{\"sha\":\"../x\",\"siblings\":[]}"}) {
    hub_.Fault({.path = "/api/models", .code = 200, .body = body});
    EXPECT_THAT(PullModel(),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is no list")));
  }
}

class PullWithTokenTest : public PullTest {
 protected:
  PullWithTokenTest() : PullTest(kToken) {}
};

TEST_F(PullWithTokenTest, TellsTheTokenToTheHubAlone) {
  environment_.token = kToken;
  ASSERT_OK(PullModel());
  ASSERT_THAT(hub_.Seen("/get/"), SizeIs(1));
  for (const SeenRequest& request : hub_.Seen()) {
    EXPECT_EQ(request.authorization,
              request.storage ? "" : std::string("Bearer ") + kToken)
        << request.path;
  }
}

TEST_F(PullWithTokenTest, SaysWhatATokenLacks) {
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kNotFound,
                                    HasSubstr("needs a token")));
  environment_.token = "hf_other";
  EXPECT_THAT(PullModel(),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("the token in HF_TOKEN may see"),
                             Not(HasSubstr("hf_other")))));
  environment_.token = kToken;
  hub_.Fault({.path = "/api/models",
              .code = 401,
              .headers = {{"X-Error-Message",
                           "Invalid credentials in Authorization header"}}});
  EXPECT_THAT(PullModel(),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("the token in HF_TOKEN is not valid")));
  hub_.Fault({.path = "/config.json",
              .code = 403,
              .headers = {{"X-Error-Code", "GatedRepo"}}});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kPermissionDenied,
                                    HasSubstr("which has no access yet")));
  hub_.Fault({.path = "/config.json", .code = 403});
  EXPECT_THAT(PullModel(), StatusIs(absl::StatusCode::kPermissionDenied,
                                    HasSubstr("answered 403; see ")));
}

class PullIntoFolderTest : public PullTest {
 protected:
  absl::StatusOr<Pulled> PullInto(const std::string& name = "org/model") {
    return PullModel(name, {}, into_);
  }
  const std::string into_ = folder_.Path("models/one");
};

TEST_F(PullIntoFolderTest, WritesPlainFiles) {
  ASSERT_OK_AND_ASSIGN(const Pulled pulled, PullInto());
  EXPECT_EQ(pulled.folder, into_);
  EXPECT_EQ(ReadFile(into_ + "/model.safetensors").value(), Weights());
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(into_ + "/config.json")));
  EXPECT_FALSE(fs::exists(folder_.Path("cache")));
  EXPECT_FALSE(fs::exists(into_ + "/.ounce_pull/model.safetensors"));
}

TEST_F(PullIntoFolderTest, LeavesAFinishedFolderAlone) {
  ASSERT_OK(PullInto());
  const size_t before = hub_.Seen().size();
  environment_.offline = true;
  EXPECT_EQ(PullInto()->commit, HubServer::kCommit);
  environment_.offline = false;
  EXPECT_THAT(PullInto(), IsOk());
  EXPECT_EQ(hub_.Seen().size(), before);
  EXPECT_THAT(PullInto("org/model@refs/pr/1"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("holds org/model@main: name another")));
}

TEST_F(PullIntoFolderTest, MendsWhatIsMissingOrNotTheModels) {
  folder_.WriteFile("models/one/config.json", "[]");
  hub_.Fault({.path = "/get/", .break_after = 40'000});
  for (int i = 0; i < 6; ++i) hub_.Fault({.path = "/get/", .code = 500});
  EXPECT_THAT(PullInto(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(fs::exists(into_ + "/model.safetensors"));
  ASSERT_OK(PullInto());
  EXPECT_EQ(hub_.Seen("/get/").back().range, "bytes=40000-");
  EXPECT_EQ(ReadFile(into_ + "/config.json").value(), "{}");
  fs::remove(into_ + "/tokenizer.json");
  const size_t before = hub_.Seen("/get/").size();
  ASSERT_OK(PullInto());
  EXPECT_TRUE(fs::exists(into_ + "/tokenizer.json"));
  EXPECT_EQ(hub_.Seen("/get/").size(), before) << "the others are right";
}

}  // namespace
}  // namespace ounce::hub
