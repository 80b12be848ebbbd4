// Clients that ask for much and read nothing, beside one that does.

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce::testing {
namespace {

class SlowReaderTest : public ServingTest {
 protected:
  // A stream of a client that takes 64 KiB unread, and no more.
  struct Stream {
    std::unique_ptr<v1::Inference::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  };
  std::unique_ptr<Stream> Begin(uint64_t seed, uint32_t max_new_tokens,
                                const std::string& model = "tiny") {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    v1::GenerateRequest request = Request("def f(x):\n", max_new_tokens);
    request.set_model(model);
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
  // The answer ends before its work is counted as done.
  EXPECT_TRUE(WaitUntil([&] { return Metric("ounce_requests_running") == 3; }));
  for (const auto& stream : stalled) stream->context.TryCancel();
}

TEST_F(SlowReaderTest, UnloadsThatWaitHoldUpNobodyAndForceEndsThem) {
  const std::string model = LongModel();
  std::vector<std::string> names, flags;
  for (int i = 0; i < 4; ++i) {
    names.push_back(absl::StrCat("m", i));
    flags.insert(flags.end(), {"--model", absl::StrCat("m", i, "=", model)});
  }
  Start(flags);
  std::vector<std::unique_ptr<Stream>> stalled;
  for (const std::string& name : names) {
    stalled.push_back(Begin(1, 4000, name));
  }
  AwaitStandstill();
  std::vector<std::future<absl::Status>> unloads;
  for (const std::string& name : names) {
    unloads.push_back(std::async(std::launch::async, [this, name] {
      v1::UnloadModelRequest request;
      request.set_name(name);
      return client_->UnloadModel(request).status();
    }));
  }
  ASSERT_TRUE(WaitUntil([&] {
    return std::all_of(names.begin(), names.end(), [&](const auto& name) {
      return Model(name).state() == v1::MODEL_STATE_UNLOADING;
    });
  }));
  // All other admin calls go on, far sooner than those readers end.
  v1::LoadModelRequest load;
  load.set_name("tiny");
  load.set_path(kTinyModel);
  const auto hasty = client_->WithTimeout(absl::Seconds(20));
  EXPECT_OK(hasty->LoadModel(load));
  EXPECT_OK(hasty->Quantize(ToInt8(), [](const auto&) { return true; }));
  EXPECT_OK(Ask(Request("import os", 5), absl::Seconds(20)));
  EXPECT_EQ(hasty->ListModels()->models_size(), 5);
  v1::UnloadModelRequest last;
  last.set_name("tiny");
  EXPECT_OK(hasty->UnloadModel(last));
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(unloads[i].wait_for(std::chrono::seconds(0)),
              std::future_status::timeout)
        << "its reader has not ended";
    const Finished forced =
        Cli({"--deadline", "20", "unload", names[i], "--force"});
    EXPECT_EQ(forced.code, 0) << forced.err;
    EXPECT_OK(unloads[i].get());
    v1::GenerateResponse message;
    while (stalled[i]->reader->Read(&message)) {
    }
    EXPECT_EQ(stalled[i]->reader->Finish().error_code(),
              grpc::StatusCode::UNAVAILABLE);
  }
  EXPECT_EQ(client_->ListModels()->models_size(), 0);
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
