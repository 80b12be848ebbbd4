// Clients that ask for much and read nothing, beside one that does.

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce::testing {
namespace {

class SlowReaderTest : public ServingTest {
 protected:
  // The embedded model as if it had been trained on longer texts; it writes
  // without end then, though not well.
  std::string LongModel() {
    const std::string folder = folder_.Path("long");
    std::filesystem::copy(kTinyModel, folder);
    nlohmann::json config =
        nlohmann::json::parse(ReadFile(folder + "/config.json"));
    config["n_positions"] = 8192;
    config["n_ctx"] = 8192;
    std::filesystem::remove(folder + "/config.json");
    std::ofstream(folder + "/config.json") << config;
    return folder;
  }

  // A stream of a client that takes 64 KiB unread, and no more.
  struct Stream {
    std::unique_ptr<v1::Inference::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  };
  std::unique_ptr<Stream> Begin(uint64_t seed, uint32_t max_new_tokens) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    v1::GenerateRequest request = Request("def f(x):\n", max_new_tokens);
    request.set_logprobs(10);  // to fill what is taken unread
    request.mutable_sampling()->set_temperature(1);
    request.mutable_sampling()->set_seed(seed);
    auto stream = std::make_unique<Stream>();
    stream->stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
        inference_, grpc::InsecureChannelCredentials(), arguments));
    stream->reader = stream->stub->Generate(&stream->context, request);
    return stream;
  }

  // Of those that nobody reads: they have begun, and do not get on.
  void AwaitStandstill() {
    double tokens = -1;
    ASSERT_TRUE(WaitUntil([&] {
      const double before =
          std::exchange(tokens, Metric("ounce_generated_tokens_total"));
      absl::SleepFor(absl::Milliseconds(500));
      return tokens > 100 && tokens == before;
    }));
  }

  static std::vector<int32_t> ReadAll(Stream& stream) {
    std::vector<int32_t> ids;
    v1::GenerateResponse message;
    while (stream.reader->Read(&message)) {
      ids.insert(ids.end(), message.token_ids().begin(),
                 message.token_ids().end());
    }
    const grpc::Status status = stream.reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return ids;
  }

  // Somebody who reads.
  absl::Status Ask(const v1::GenerateRequest& request, absl::Duration timeout) {
    return client::Client::Create(
               {.server = inference_, .admin = admin_, .timeout = timeout})
        ->Generate(request, [](const v1::GenerateResponse&) { return true; });
  }
};

TEST_F(SlowReaderTest, ThreeThatReadNothingKeepNobodyWaiting) {
  // All that the three ask for would take 110 MB.
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--kv_cache_bytes",
         absl::StrCat(64 << 20)});
  std::vector<std::unique_ptr<Stream>> stalled;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    stalled.push_back(Begin(seed, 4000));
  }
  AwaitStandstill();
  // Far less than the minute after which they end.
  EXPECT_OK(Ask(Request("import os", 5), absl::Seconds(20)));
  EXPECT_EQ(Metric("ounce_requests_running"), 3);
  for (const auto& stream : stalled) stream->context.TryCancel();
}

TEST_F(SlowReaderTest, ThoseWhoLostTheirBlocksReadTheSameLater) {
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--kv_cache_bytes",
         absl::StrCat(24 << 20)});
  std::vector<std::vector<int32_t>> alone;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    alone.push_back(ReadAll(*Begin(seed, 1200)));
  }
  ASSERT_EQ(Metric("ounce_preemptions_total"), 0);
  std::vector<std::unique_ptr<Stream>> stalled;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    stalled.push_back(Begin(seed, 1200));
  }
  AwaitStandstill();
  std::string prompt;
  for (int i = 0; i < 250; ++i) prompt += "import os\n";
  EXPECT_OK(Ask(Request(prompt, 900), absl::Minutes(2)));
  EXPECT_GE(Metric("ounce_preemptions_total"), 1);
  for (size_t i = 0; i < stalled.size(); ++i) {
    EXPECT_EQ(ReadAll(*stalled[i]), alone[i]) << i;
  }
}

}  // namespace
}  // namespace ounce::testing
