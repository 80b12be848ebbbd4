// ounce pull and push, and the server's own downloads, with a hub on this
// machine; and that Hugging Face's own client agrees with both.
#include <filesystem>

#include "base/read_file.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/hub_server.h"

namespace ounce {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::EndsWith;
using testing::Finished;
using ::testing::HasSubstr;
using testing::HubServer;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kToken[] = "hf_secret";

// A hub with the embedded model as org/tiny, and a home of our own.
class HubTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    for (const auto& entry : fs::directory_iterator(testing::kTinyModel)) {
      if (!entry.is_regular_file()) continue;
      const std::string path = entry.path().string();
      hub_.Put("org/tiny", entry.path().filename().string(),
               testing::ReadFile(path), path.ends_with(".safetensors"));
    }
    hub_.Put("org/tiny", "README.md", "# Tiny");
    for (const char* name : {"HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH",
                             "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"}) {
      unsetenv(name);
    }
    setenv("HF_ENDPOINT", hub_.endpoint().c_str(), 1);
    setenv("HF_HOME", folder_.Path("hf").c_str(), 1);
    setenv("HF_TOKEN", kToken, 1);
    setenv("no_proxy", "127.0.0.1,localhost", 1);
  }

  static Finished Ounce(std::vector<std::string> args) {
    args.insert(args.begin(), OUNCE_CLI_BINARY);
    return testing::RunToEnd(args);
  }

  // What `code` prints, by the Python that has Hugging Face's client.
  static Finished Python(const std::string& code) {
    return testing::RunToEnd({OUNCE_TESTS_PYTHON, "-c", code});
  }
  static bool HasHubClient() {
    return fs::exists(OUNCE_TESTS_PYTHON) &&
           Python("import huggingface_hub").code == 0;
  }

  HubServer hub_{kToken};
};

TEST_F(HubTest, PullsWhatTheServerServes) {
  const Finished pull = Ounce({"pull", "org/tiny"});
  ASSERT_EQ(pull.code, 0) << pull.err;
  EXPECT_THAT(pull.out,
              EndsWith(std::string("/snapshots/") + HubServer::kCommit + "\n"));
  EXPECT_THAT(pull.err, AllOf(HasSubstr("org/tiny: "), HasSubstr(" files, "),
                              Not(HasSubstr(kToken))));
  Start({"--model", "tiny=org/tiny"});
  EXPECT_TRUE(Generate(Request("def f(", 4)).ok());
}

TEST_F(HubTest, TellsProgramsWhatItPulled) {
  const Finished pull = Ounce(
      {"pull", "org/tiny", "--into", folder_.Path("models/tiny"), "--json"});
  ASSERT_EQ(pull.code, 0) << pull.err;
  const auto json = nlohmann::json::parse(pull.out);
  EXPECT_EQ(json["folder"], folder_.Path("models/tiny"));
  EXPECT_EQ(json["commit"], HubServer::kCommit);
  bool has_weights = false;
  for (const auto& file : json["files"]) {
    EXPECT_TRUE(file["new"]);
    has_weights |= file["path"] == "model.safetensors" && file["bytes"] > 0;
  }
  EXPECT_TRUE(has_weights);
  Start({"--model", "tiny=" + folder_.Path("models/tiny")});
  EXPECT_TRUE(Generate(Request("def f(", 4)).ok());
}

TEST_F(HubTest, SaysWhatIsWrongWithoutTheToken) {
  const Finished none = Ounce({"pull", "org/none"});
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.err,
              AllOf(HasSubstr("ounce: NOT_FOUND: "), HasSubstr("org/none"),
                    HasSubstr("the token in HF_TOKEN may see"),
                    Not(HasSubstr(kToken))));
  const Finished wrong = Ounce({"pull", "a/b/c"});
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("no model's name of the form org/name"));
}

TEST_F(HubTest, ServesWhatItDownloadsItself) {
  Start({"--pull", "--model", "tiny=org/tiny"});
  EXPECT_TRUE(Generate(Request("def f(", 4)).ok());
  EXPECT_THAT(server_->err() + server_->out(),
              AllOf(HasSubstr("org/tiny: not in "), Not(HasSubstr(kToken))));
  const Finished loaded = Cli({"load", "other", "org/tiny@refs/pr/1"});
  EXPECT_EQ(loaded.code, 0) << loaded.err;
  const Finished none = Cli({"load", "none", "org/none"});
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.err, HasSubstr("no model 'org/none' that the token"));
}

TEST_F(HubTest, DownloadsNothingUnlessItIsToldTo) {
  Start();
  const Finished load = Cli({"load", "other", "org/tiny"});
  EXPECT_EQ(load.code, 3);
  EXPECT_THAT(load.err, HasSubstr("`ounce pull org/tiny`"));
  Stop();
  Start({"--pull", "--model_roots", testing::kTinyModel});
  EXPECT_EQ(Cli({"load", "other", "org/tiny"}).code, 3);
  EXPECT_THAT(hub_.Seen(), IsEmpty());
}

TEST_F(HubTest, EndsADownloadWithItsCallAndWithTheServer) {
  for (int i = 0; i < 2; ++i) {
    hub_.Fault({.path = "/api/models",
                .code = 429,
                .headers = {{"Retry-After", "200"}}});
  }
  Start({"--pull"});
  const Finished late = Cli({"load", "tiny", "org/tiny", "--deadline", "1"});
  EXPECT_EQ(late.code, 4);
  EXPECT_THAT(late.err, HasSubstr("DEADLINE_EXCEEDED"));
  const testing::Process load(
      {OUNCE_CLI_BINARY, "--admin", admin_, "load", "other", "org/tiny"});
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (hub_.Seen("/api/models").size() < 2 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Seconds(30)), 0) << server_->err();
}

TEST_F(HubTest, PushesAFolderThatCanBePulledAgain) {
  const std::vector<std::string> push = {"push", testing::kTinyModel,
                                         "org/copy", "--private"};
  const Finished first = Ounce(push);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.out, hub_.endpoint() + "/org/copy\n");
  EXPECT_EQ(hub_.Committed("org/copy")["config.json"],
            hub_.Committed("org/tiny")["config.json"]);
  const Finished second = Ounce(push);
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err,
              AllOf(HasSubstr("nothing had changed"), Not(HasSubstr(kToken))));
  EXPECT_EQ(Ounce({"pull", "org/copy"}).code, 0);
  unsetenv("HF_TOKEN");
  const Finished none = Ounce(push);
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.err, HasSubstr("ounce: UNAUTHENTICATED: uploading needs"));
}

TEST_F(HubTest, FillsACacheThatHuggingFacesClientReads) {
  if (!HasHubClient()) GTEST_SKIP() << "no huggingface_hub: ./run setup";
  const Finished pull = Ounce({"pull", "org/tiny"});
  ASSERT_EQ(pull.code, 0) << pull.err;
  const Finished read = Python(
      "import huggingface_hub as h\n"
      "print(h.snapshot_download('org/tiny', local_files_only=True))");
  EXPECT_EQ(read.out, pull.out) << read.err;
  // It takes the files for its own, and fetches those alone that are lacking.
  const size_t before = hub_.Seen("/get/").size();
  const Finished rest = Python(
      "import huggingface_hub as h\n"
      "print(h.snapshot_download('org/tiny'))\n"
      "print(h.scan_cache_dir().warnings)");
  EXPECT_EQ(rest.out, pull.out + "[]\n") << rest.err;
  EXPECT_EQ(hub_.Seen("/get/").size(), before);
}

TEST_F(HubTest, TakesWhatHuggingFacesClientHasDownloaded) {
  if (!HasHubClient()) GTEST_SKIP() << "no huggingface_hub: ./run setup";
  const Finished theirs = Python(
      "import huggingface_hub as h\n"
      "print(h.snapshot_download('org/tiny'))");
  ASSERT_EQ(theirs.code, 0) << theirs.err;
  const size_t before = hub_.Seen("/get/").size();
  const Finished pull = Ounce({"pull", "org/tiny", "--json"});
  ASSERT_EQ(pull.code, 0) << pull.err;
  const auto json = nlohmann::json::parse(pull.out);
  EXPECT_EQ(json["folder"].get<std::string>() + "\n", theirs.out);
  for (const auto& file : json["files"]) EXPECT_FALSE(file["new"]) << file;
  EXPECT_EQ(hub_.Seen("/get/").size(), before);
}

}  // namespace
}  // namespace ounce
