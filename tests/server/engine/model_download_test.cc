#include "server/engine/model_download.h"

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/testing/hub_server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

namespace fs = std::filesystem;

using ::ounce::testing::HubServer;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kIndex[] =
    R"({"weight_map": {"a": "model-1-of-2.safetensors",
                       "b": "model-2-of-2.safetensors"}})";

// A hub with org/model in two shards, and a cache that has its ref.
class ModelDownloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH",
                             "TRANSFORMERS_OFFLINE"}) {
      unsetenv(name);
    }
    setenv("HF_ENDPOINT", hub_.endpoint().c_str(), 1);
    setenv("HF_HOME", folder_.path().c_str(), 1);
    setenv("HF_HUB_CACHE", folder_.Path("cache").c_str(), 1);
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    hub_.Put("org/model", "config.json", "{}");
    hub_.Put("org/model", "model.safetensors.index.json", kIndex);
    hub_.Put("org/model", "model-1-of-2.safetensors", "a", /*large=*/true);
    hub_.Put("org/model", "model-2-of-2.safetensors", "b", /*large=*/true);
    folder_.WriteFile("cache/models--org--model/refs/main", HubServer::kCommit);
  }

  static std::string InSnapshot(const std::string& file) {
    return absl::StrCat("cache/models--org--model/snapshots/",
                        HubServer::kCommit, "/", file);
  }
  void Cache(const std::string& file, const std::string& bytes = "") const {
    folder_.WriteFile(InSnapshot(file), bytes);
  }
  void ExpectPulled() const {
    EXPECT_OK(DownloadIfAbsent("org/model", nullptr));
    EXPECT_THAT(hub_.Seen(), Not(IsEmpty()));
    for (const char* file :
         {"config.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors",
          "model.safetensors.index.json"}) {
      EXPECT_TRUE(fs::exists(folder_.Path(InSnapshot(file)))) << file;
    }
  }
  void ExpectLeftAlone() const {
    EXPECT_OK(DownloadIfAbsent("org/model", nullptr));
    EXPECT_THAT(hub_.Seen(), IsEmpty());
  }

  const testing::TempFolder folder_;
  HubServer hub_;
};

TEST_F(ModelDownloadTest, FetchesWhatIsNotThere) { ExpectPulled(); }

TEST_F(ModelDownloadTest, FetchesTheWeightsOfAConfigAlone) {
  Cache("config.json", "{}");
  ExpectPulled();
}

TEST_F(ModelDownloadTest, FetchesTheConfigOfWeightsAlone) {
  Cache("model.safetensors");
  ExpectPulled();
}

TEST_F(ModelDownloadTest, FetchesWhatIsServedWhereThereIsAGgufBesideAConfig) {
  Cache("config.json", "{}");
  Cache("m.Q4_K_M.gguf", "GGUF");
  ExpectPulled();
}

TEST_F(ModelDownloadTest, FetchesTheShardsThatAnIndexNames) {
  Cache("config.json", "{}");
  Cache("model.safetensors.index.json", kIndex);
  Cache("model-1-of-2.safetensors", "a");
  ExpectPulled();
}

TEST_F(ModelDownloadTest, CountsALinkToNothingAsNoFile) {
  Cache("config.json", "{}");
  fs::create_symlink("../../blobs/gone",
                     folder_.Path(InSnapshot("model.safetensors")));
  ExpectPulled();
}

TEST_F(ModelDownloadTest, AsksNobodyForAModelThatIsWhole) {
  Cache("config.json", "{}");
  Cache("gptq_model.safetensors");
  ExpectLeftAlone();
  Cache("model.safetensors.index.json", kIndex);
  Cache("model-1-of-2.safetensors", "a");
  Cache("model-2-of-2.safetensors", "b");
  ExpectLeftAlone();
  Cache("model.safetensors");
  // What `hf download` of all small files leaves beside it.
  Cache("pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"x.bin\"}}");
  ExpectLeftAlone();
}

TEST_F(ModelDownloadTest, AsksNobodyForAGgufFileAlone) {
  Cache("m.Q4_K_M.gguf", "GGUF");
  ExpectLeftAlone();
}

}  // namespace
}  // namespace ounce::server
