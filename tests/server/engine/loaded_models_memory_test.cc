// Memory of a checkpoint that is large enough to be seen among everything else
// that a process holds.
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/mapped_memory.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/engine/loaded_models.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::IsOk;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::RecordingSink;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::IsEmpty;

using absl::StatusCode;

constexpr int64_t kWidth = 1024;
constexpr int64_t kLayers = 3;
constexpr int64_t kVocab = 304;
// 12 matrices of kWidth^2 per layer, in 16 bits.
constexpr int64_t kLinearBytes = kLayers * 12 * kWidth * kWidth * 2;
constexpr int64_t kMiB = int64_t{1} << 20;

// A CodeGen of 38 M parameters in float16, written without holding it in
// memory; the tokenizer is the tiny model's.
void WriteMediumCheckpoint(const TempFolder& folder) {
  folder.WriteFile(
      "config.json",
      absl::StrCat(R"({"model_type":"codegen","vocab_size":)", kVocab,
                   R"(,"n_positions":256,"n_ctx":256,"n_embd":)", kWidth,
                   R"(,"n_layer":)", kLayers,
                   R"(,"n_head":16,"rotary_dim":32,"n_inner":null,)"
                   R"("activation_function":"gelu_new",)"
                   R"("layer_norm_epsilon":1e-5,"tie_word_embeddings":false,)"
                   R"("bos_token_id":298,"eos_token_id":298})"));
  std::filesystem::copy(std::string(kTinyModelFolder) + "/tokenizer.json",
                        folder.path());
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors = {
      {"transformer.wte.weight", {kVocab, kWidth}},
      {"transformer.ln_f.weight", {kWidth}},
      {"transformer.ln_f.bias", {kWidth}},
      {"lm_head.weight", {kVocab, kWidth}},
      {"lm_head.bias", {kVocab}}};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string h = absl::StrCat("transformer.h.", layer, ".");
    tensors.push_back({h + "ln_1.weight", {kWidth}});
    tensors.push_back({h + "ln_1.bias", {kWidth}});
    tensors.push_back({h + "attn.qkv_proj.weight", {3 * kWidth, kWidth}});
    tensors.push_back({h + "attn.out_proj.weight", {kWidth, kWidth}});
    tensors.push_back({h + "mlp.fc_in.weight", {4 * kWidth, kWidth}});
    tensors.push_back({h + "mlp.fc_in.bias", {4 * kWidth}});
    tensors.push_back({h + "mlp.fc_out.weight", {kWidth, 4 * kWidth}});
    tensors.push_back({h + "mlp.fc_out.bias", {kWidth}});
  }
  std::string header = "{";
  int64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    int64_t bytes = 2;
    for (const int64_t extent : shape) bytes *= extent;
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", name,
                    R"(":{"dtype":"F16","shape":[)", absl::StrJoin(shape, ","),
                    R"(],"data_offsets":[)", offset, ",", offset + bytes, "]}");
    offset += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');

  std::ofstream file(folder.Path("model.safetensors"), std::ios::binary);
  uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << header;
  // Halves of 2^-6 to 2^-5 in size, either sign.
  std::vector<uint16_t> halves(1 << 16);
  std::mt19937 random(1);
  for (uint16_t& half : halves) {
    const uint32_t bits = random();
    half = static_cast<uint16_t>((bits & 0x83ff) | 0x2400);
  }
  for (int64_t left = offset; left > 0;) {
    const int64_t chunk =
        std::min<int64_t>(left, static_cast<int64_t>(halves.size() * 2));
    file.write(reinterpret_cast<const char*>(halves.data()), chunk);
    left -= chunk;
  }
  ASSERT_TRUE(file.good());
}

// Stands still for whoever asks while it is held: a load asks between taking
// the model's name and opening its checkpoint.
class HeldClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mu_);
    while (held_) released_.Wait(&mu_);
    return absl::Now();
  }
  void Release() {
    MutexLock lock(&mu_);
    held_ = false;
    released_.SignalAll();
  }

 private:
  mutable Mutex mu_;
  mutable CondVar released_;
  bool held_ ABSL_GUARDED_BY(mu_) = true;
};

class LoadedModelsMemoryTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    WriteMediumCheckpoint(*folder_);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  std::unique_ptr<ModelCatalog> MakeCatalog(
      const Clock& clock = Clock::Real()) {
    return CreateModelCatalog(CatalogOptions{}, pool_, clock, observer_);
  }
  static std::string folder() { return folder_->path().string(); }

  static void Generate(ModelCatalog& catalog) {
    RecordingSink sink;
    ASSERT_OK_AND_ASSIGN(const auto served, catalog.Find("m"));
    GenerateParams params;
    params.prompt = std::vector<int32_t>(100, 7);
    params.max_new_tokens = 20;
    params.arrival = absl::Now();
    ASSERT_OK(served->scheduler()->Submit(std::move(params), &sink));
    ASSERT_TRUE(sink.AwaitDone());
    ASSERT_OK(sink.status());
  }
  static absl::StatusOr<QuantizeReport> Quantize(ModelCatalog& catalog,
                                                 const std::string& method) {
    QuantizeParams params;
    params.model = "m";
    params.method = method;
    return catalog.Quantize(
        params, [](const QuantizeUpdate&) { return absl::OkStatus(); });
  }

  static TempFolder* folder_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
};

TempFolder* LoadedModelsMemoryTest::folder_ = nullptr;

class LoadedModelsResidentBytesTest : public LoadedModelsMemoryTest {
 protected:
#ifdef __SANITIZE_ADDRESS__
  void SetUp() override {
    GTEST_SKIP() << "AddressSanitizer holds back freed memory and adds its own,"
                    " so resident bytes are not the server's";
  }
#endif
};

TEST_F(LoadedModelsResidentBytesTest, AfterASwapMemoryIsThatOfAFreshLoad) {
  const int64_t empty = ResidentBytes();
  int64_t fresh = 0;
  {
    const auto catalog = MakeCatalog();
    ASSERT_OK(catalog->Load({"m", folder(), "linear"}));
    Generate(*catalog);
    fresh = ResidentBytes();
    ASSERT_GT(fresh - empty, kLinearBytes / 2);
    ASSERT_OK(catalog->Unload("m"));
    // Unloading gives it all back.
    EXPECT_LT(ResidentBytes() - empty, 20 * kMiB);
  }
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder(), ""}));
  Generate(*catalog);
  EXPECT_GT(ResidentBytes(), fresh + kLinearBytes / 3);
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       Quantize(*catalog, "linear"));
  Generate(*catalog);
  const int64_t swapped = ResidentBytes();
  EXPECT_LE(swapped, fresh * 105 / 100 + 30 * kMiB)
      << "fresh load: " << fresh << ", report: " << report.resident_bytes_before
      << " -> " << report.resident_bytes_after;
  // Quantizing again and again leaves nothing behind either.
  for (const char* method : {"bfloat16", "linear"}) {
    ASSERT_OK(Quantize(*catalog, method));
  }
  Generate(*catalog);
  EXPECT_LE(ResidentBytes(), swapped + 10 * kMiB);
  ASSERT_OK(catalog->Unload("m"));
}

TEST_F(LoadedModelsResidentBytesTest,
       FreesTheOldVersionWhenItsLastSequenceLeaves) {
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder(), ""}));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog->Find("m"));
  RecordingSink sink;
  sink.set_room(1);
  GenerateParams params;
  params.prompt = {1, 2, 3};
  params.max_new_tokens = 30;
  params.arrival = absl::Now();
  ASSERT_OK(served->scheduler()->Submit(std::move(params), &sink));
  ASSERT_TRUE(sink.AwaitTokens(1));
  ASSERT_OK(Quantize(*catalog, "linear"));
  const int64_t both = ResidentBytes();
  sink.set_has_room(true);
  served->scheduler()->Wake();
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_OK(sink.status());
  EXPECT_EQ(sink.result().model_version, 1);
  Generate(*catalog);  // the loop has gone round since
  EXPECT_LT(ResidentBytes(), both - kLinearBytes * 9 / 10);
}

TEST_F(LoadedModelsResidentBytesTest, LoadingNeedsLittleMoreThanItKeeps) {
  const auto catalog = MakeCatalog();
  // The highest number starts again from what is resident now.
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;
  if (!reset) GTEST_SKIP() << "/proc/self/clear_refs takes no 5 here";
  const int64_t before = ResidentBytes();
  ASSERT_OK_AND_ASSIGN(const ModelInfo info,
                       catalog->Load({"m", folder(), "linear"}));
  const int64_t peak = PeakResidentBytes() - before;
  ASSERT_GT(info.resident_bytes, kLinearBytes / 2);
  EXPECT_GE(peak, info.resident_bytes * 9 / 10);
  EXPECT_LE(peak, info.resident_bytes * 5 / 4 + 30 * kMiB)
      << "resident: " << info.resident_bytes;
}

TEST_F(LoadedModelsMemoryTest, RefusesAllElseWhileAModelLoads) {
  HeldClock clock;
  const auto catalog = MakeCatalog(clock);
  std::thread load([&] {
    EXPECT_OK(catalog->Load({"m", folder(), "linear"}));
  });
  while (catalog->List().empty()) std::this_thread::yield();
  const ModelInfo info = catalog->List().front();
  EXPECT_EQ(info.name, "m");
  EXPECT_EQ(info.state, ModelState::kLoading);
  EXPECT_EQ(info.version, 0);
  EXPECT_THAT(catalog->Find("m"), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(catalog->Load({"m", folder(), ""}),
              StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(catalog->Unload("m"), StatusIs(StatusCode::kAborted));
  EXPECT_THAT(Quantize(*catalog, "linear"), StatusIs(StatusCode::kAborted));
  clock.Release();
  load.join();
  EXPECT_OK(catalog->Find("m"));
}

TEST_F(LoadedModelsMemoryTest, DrainEndsALoad) {
  HeldClock clock;
  const auto catalog = MakeCatalog(clock);
  std::thread load([&] {
    EXPECT_THAT(catalog->Load({"m", folder(), ""}),
                StatusIs(StatusCode::kUnavailable));
  });
  while (catalog->List().empty()) std::this_thread::yield();
  catalog->Drain(absl::Now());
  clock.Release();
  load.join();
  EXPECT_THAT(catalog->List(), IsEmpty());
}

}  // namespace
}  // namespace ounce::server
