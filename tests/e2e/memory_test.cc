// A server with little memory: in a container of 260 MiB (a control group of
// the test's own, where one may be made) and under --memory_bytes, with a model
// of 120 MiB. What does not fit is refused before the work, and all else goes
// on.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/serving.h"
#include "tests/testing/memory_cgroup.h"
#include "tests/testing/random_codegen.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MemoryCgroup;
using testing::StatusIs;

constexpr char kTokenizer[] =
    OUNCE_SOURCE_ROOT "/tests/golden/codegen/bfloat16";
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kContainer = 260 * kMiB;

enum class Limit { kContainer, kSetting };

class MemoryTest : public testing::ServingTest,
                   public ::testing::WithParamInterface<Limit> {
 protected:
  static void SetUpTestSuite() {
    folders_ = new testing::TempFolder;
    // 62.9 M parameters.
    large_ = testing::WriteRandomCodeGen(
        folders_->Path("large"), kTokenizer,
        {.width = 1024, .layers = 5, .positions = 128});
    // Its weights alone are 312 MiB.
    too_large_ = testing::WriteRandomCodeGen(
        folders_->Path("too_large"), kTokenizer,
        {.width = 1024, .layers = 13, .positions = 128});
  }
  static void TearDownTestSuite() {
    delete folders_;
    folders_ = nullptr;
  }

  void SetUp() override {
    if (!testing::kMemoryIsReal) {
      GTEST_SKIP() << "AddressSanitizer's own memory counts, and leaves the "
                      "server less than its model needs";
    }
    if (GetParam() == Limit::kSetting) return;
    group_ = MemoryCgroup::Create(kContainer);
    if (group_ == nullptr) {
      GTEST_SKIP()
          << "no control group with a limit of memory may be made here";
    }
    runner_ = group_->Runner();
  }
  void TearDown() override {
    testing::ServingTest::TearDown();
    server_ = nullptr;  // before its group
  }

  // Flags of a server with that limit and this model.
  static std::vector<std::string> Flags(const std::string& model) {
    std::vector<std::string> flags = {"--model", absl::StrCat("tiny=", model),
                                      "--threads", "2"};
    if (GetParam() == Limit::kSetting) {
      flags.insert(flags.end(), {"--memory_bytes", "260MiB"});
    }
    return flags;
  }
  void ExpectItServes() {
    ASSERT_TRUE(server_->Running()) << server_->err();
    EXPECT_OK(Generate(Request("def f(x):", 8)));
    EXPECT_EQ(Model("tiny").version(), 1);
  }

  static testing::TempFolder* folders_;
  static std::string large_, too_large_;
  std::unique_ptr<MemoryCgroup> group_;
  std::vector<std::string> runner_;  // starts the server in it
};

testing::TempFolder* MemoryTest::folders_ = nullptr;
std::string MemoryTest::large_, MemoryTest::too_large_;

TEST_P(MemoryTest, AQuantizationThatDoesNotFitIsRefusedAndAllElseGoesOn) {
  Start(Flags(large_), runner_);
  v1::QuantizeRequest request = ToInt8();
  request.set_method("float32");
  for (const bool dry_run : {false, true}) {
    request.set_dry_run(dry_run);
    int64_t most_tensors = 0;
    EXPECT_THAT(Quantize(request,
                         [&](const v1::QuantizeProgress& progress) {
                           most_tensors =
                               std::max(most_tensors, progress.tensors_done());
                           return true;
                         }),
                StatusIs(absl::StatusCode::kResourceExhausted,
                         AllOf(HasSubstr("quantizing 'tiny' needs"),
                               HasSubstr("weights 24"),  // 241 MiB
                               HasSubstr("of the limit of 260 MiB are free"))));
    EXPECT_EQ(most_tensors, 0) << "it was refused before the work";
  }
  ExpectItServes();
  EXPECT_EQ(Metric("ounce_memory_limit_bytes"), kContainer);
  EXPECT_EQ(Metric("ounce_model_versions_alive", {"model=\"tiny\""}), 1);
  EXPECT_EQ(Metric("ounce_memory_bytes", {"share=\"weights\""}),
            Model("tiny").resident_bytes());
  EXPECT_GT(Metric("ounce_memory_bytes", {"share=\"tokenizers\""}), 0);
}

TEST_P(MemoryTest, ASecondLoadThatDoesNotFitIsRefusedAndAllElseGoesOn) {
  Start(Flags(large_), runner_);
  v1::LoadModelRequest request;
  request.set_name("second");
  request.set_path(large_);
  EXPECT_THAT(client_->LoadModel(request),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("loading 'second' needs"),
                             HasSubstr("weights 12"), HasSubstr("are free"))));
  ExpectItServes();
  // It isn't that nothing fits any more.
  const std::string small = testing::WriteRandomCodeGen(
      folders_->Path(absl::StrCat("small", static_cast<int>(GetParam()))),
      kTokenizer, {.width = 64, .layers = 2, .positions = 128});
  request.set_path(small);
  EXPECT_OK(client_->LoadModel(request));
  v1::GenerateRequest generate = Request("a", 4);
  generate.set_model("second");
  EXPECT_OK(Generate(generate));
  ExpectItServes();
}

TEST_P(MemoryTest, AFirstLoadThatDoesNotFitEndsTheStartWithASentence) {
  std::vector<std::string> args = runner_;
  args.insert(args.end(),
              {OUNCE_SERVER_BINARY, "--listen", "127.0.0.1:0", "--admin_listen",
               "127.0.0.1:0", "--metrics_listen", "127.0.0.1:0"});
  const std::vector<std::string> flags = Flags(too_large_);
  args.insert(args.end(), flags.begin(), flags.end());
  testing::Process server(args);
  EXPECT_EQ(server.Wait(absl::Minutes(1)), 1);
  EXPECT_THAT(server.err(), AllOf(HasSubstr("'tiny'"), HasSubstr("needs"),
                                  HasSubstr("weights 31"),  // 313 MiB
                                  HasSubstr("of the limit of 260 MiB"),
                                  HasSubstr("raise --memory_bytes")));
}

TEST_P(MemoryTest, AQuantizationThatFitsIsMade) {
  Start(Flags(large_ + ",method=linear"), runner_);
  v1::QuantizeRequest request = ToInt8();
  const auto report = Quantize(request);
  ASSERT_OK(report);
  EXPECT_EQ(report->version(), 2);
  EXPECT_OK(Generate(Request("def f(x):", 8)));
}

INSTANTIATE_TEST_SUITE_P(Limits, MemoryTest,
                         ::testing::Values(Limit::kContainer, Limit::kSetting),
                         [](const ::testing::TestParamInfo<Limit>& info) {
                           return info.param == Limit::kContainer ? "Container"
                                                                  : "Setting";
                         });

// Takes the first message of a stream and then nothing until it ends; its
// request stays on the version it began on.
class StalledReader {
 public:
  explicit StalledReader(const std::string& server) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // So that no more than this is on its way, however fast that is.
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::Inference::NewStub(grpc::CreateCustomChannel(
        server, grpc::InsecureChannelCredentials(), arguments));
    v1::GenerateRequest request;
    request.set_model("tiny");
    request.set_prompt("def f(x):");
    request.set_max_new_tokens(16000);
    request.set_logprobs(20);  // large messages fill what gRPC buffers
    reader_ = stub_->Generate(&context_, request);
    v1::GenerateResponse first;
    reader_->Read(&first);
  }
  ~StalledReader() { End(); }
  void End() {
    if (reader_ == nullptr) return;
    context_.TryCancel();
    reader_->Finish();
    reader_ = nullptr;
  }

 private:
  std::unique_ptr<v1::Inference::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
};

class OldVersionsTest : public testing::ServingTest {};

// Each quantization makes a version, and each reader keeps one from ending.
TEST_F(OldVersionsTest, VersionsOnWhichReadersStallAreBounded) {
  const testing::TempFolder folder;
  const std::string model = testing::WriteRandomCodeGen(
      folder.Path("model"), kTokenizer,
      {.width = 64, .layers = 2, .positions = 16384});
  Start({"--model", "tiny=" + model, "--threads", "2", "--max_new_tokens",
         "16000"});
  std::vector<std::unique_ptr<StalledReader>> readers;
  const auto stall = [&] {
    readers.push_back(std::make_unique<StalledReader>(inference_));
  };
  stall();
  ASSERT_OK(Quantize(ToInt8()));
  stall();
  ASSERT_OK(Quantize(ToInt8()));
  stall();
  EXPECT_EQ(Metric("ounce_model_versions_alive", {"model=\"tiny\""}), 3);
  EXPECT_GT(Metric("ounce_memory_ending_bytes"), 0);
  // The next one waits for one of them, and says so.
  bool waited = false;
  const auto report =
      Quantize(ToInt8(), [&](const v1::QuantizeProgress& progress) {
        if (progress.stage() == v1::QUANTIZE_STAGE_WAITING && !waited) {
          waited = true;
          EXPECT_EQ(Metric("ounce_quantization_stage", {"stage=\"waiting\""}),
                    1);
          readers[0]->End();
        }
        return true;
      });
  ASSERT_OK(report);
  EXPECT_TRUE(waited);
  EXPECT_EQ(report->version(), 4);
  // And is refused when none ends.
  EXPECT_THAT(Quantize(ToInt8()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("at most 3 versions of 'tiny'"),
                             HasSubstr("for 2 requests"))));
  EXPECT_EQ(Metric("ounce_model_versions_alive", {"model=\"tiny\""}), 3);
  EXPECT_OK(Generate(Request("def f(x):", 8)));
  readers.clear();
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_model_versions_alive", {"model=\"tiny\""}) == 1;
  }));
}

}  // namespace
}  // namespace ounce
