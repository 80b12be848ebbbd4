// What one peer may cost: messages made to be dear, sent to a real server, and
// what becomes of its memory, its processor and the others meanwhile.
//
// Peers are told apart by what a trusted proxy says of them, because a client
// on this machine can't choose its address.
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/serving.h"

namespace ounce {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kMiB = int64_t{1} << 20;
// What the allocator, gRPC and threads need beside the bytes of messages.
constexpr int64_t kSlack = 64 * kMiB;
constexpr size_t kFloodBytes = size_t{30} << 20;
constexpr char kHog[] = "198.51.100.1";
constexpr char kVictim[] = "198.51.100.2";

// `head`, then `part` again and again up to `size` bytes.
std::string Flood(const std::string& head, std::string_view part, size_t size) {
  std::string bytes = head;
  bytes.reserve(size);
  while (bytes.size() + part.size() <= size) bytes += part;
  return bytes;
}

// A GenerateRequest with millions of empty stop strings: two bytes each.
std::string StopFlood(const std::string& prompt = "x") {
  v1::GenerateRequest request;
  request.set_model("tiny");
  request.set_prompt(prompt);
  return Flood(request.SerializeAsString(), std::string_view("\x32\0", 2),
               kFloodBytes);
}

class AbuseTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--threads",
           "2", "--trusted_proxies", "127.0.0.1"});
  }

  // A connection of its own.
  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments);
  }

  // A call with bytes of our own making; it may be a streaming one if it fails.
  static grpc::Status Send(const std::shared_ptr<grpc::Channel>& channel,
                           const std::string& method, const std::string& bytes,
                           const std::string& peer = kHog) {
    grpc::Slice slice(bytes.data(), bytes.size(), grpc::Slice::STATIC_SLICE);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    context.AddMetadata("x-forwarded-for", peer);
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
    const grpc::internal::RpcMethod rpc(method.c_str(),
                                        grpc::internal::RpcMethod::NORMAL_RPC);
    return grpc::internal::BlockingUnaryCall(channel.get(), rpc, &context,
                                             request, &response);
  }

  // `count` of the same call at once, each over a connection of its own.
  std::vector<grpc::Status> SendAtOnce(int count, const std::string& method,
                                       const std::string& bytes) {
    std::vector<grpc::Status> statuses(count);
    std::vector<std::thread> threads;
    for (grpc::Status& status : statuses) {
      threads.emplace_back(
          [&] { status = Send(Connect(inference_), method, bytes); });
    }
    for (std::thread& thread : threads) thread.join();
    return statuses;
  }

  int64_t Rss() const {
    std::ifstream in(absl::StrCat("/proc/", server_->pid(), "/statm"));
    int64_t total = 0, resident = 0;
    in >> total >> resident;
    return resident * sysconf(_SC_PAGESIZE);
  }
  double CpuSeconds() const {
    std::ifstream in(absl::StrCat("/proc/", server_->pid(), "/stat"));
    std::string word;
    std::getline(in, word, ')');
    double ticks = 0;
    for (int field = 3; field <= 15 && in >> word; ++field) {
      if (field >= 14) ticks += std::stod(word);
    }
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  // The most memory that the server has while `work` runs.
  template <class Work>
  int64_t PeakDuring(Work work) {
    std::atomic<bool> done = false;
    int64_t peak = 0;
    std::thread watcher([&] {
      while (!done) {
        peak = std::max(peak, Rss());
        absl::SleepFor(absl::Milliseconds(2));
      }
    });
    work();
    done = true;
    watcher.join();
    return peak;
  }
  // It comes back within a few seconds of idling.
  void ExpectMemoryComesBackTo(int64_t before) {
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_TRUE(WaitUntil([&] { return Rss() <= before + kSlack / 2; }))
        << Rss() / kMiB << " MiB, before " << before / kMiB;
#endif
  }
  void ExpectPeakAtMost(int64_t peak, int64_t most) {
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_LE(peak, most) << peak / kMiB << " MiB";
#endif
    RecordProperty("peak_mib", static_cast<int>(peak / kMiB));
  }

  grpc::Status GenerateAs(const std::shared_ptr<grpc::Channel>& channel,
                          const std::string& peer, const std::string& prompt) {
    v1::GenerateRequest request = Request(prompt, 3);
    grpc::ClientContext context;
    context.AddMetadata("x-forwarded-for", peer);
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
    const auto stub = v1::Inference::NewStub(channel);
    const auto reader = stub->Generate(&context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  }
};

TEST_F(AbuseTest, MillionsOfStopStringsCostNoMoreThanTheirBytes) {
  const std::string flood = StopFlood();
  const int64_t before = Rss();
  std::vector<grpc::Status> statuses;
  const int64_t peak = PeakDuring(
      [&] { statuses = SendAtOnce(4, "/ounce.v1.Inference/Generate", flood); });
  for (const grpc::Status& status : statuses) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    EXPECT_EQ(status.error_message(),
              "stop: must have at most 16 elements, has more");
  }
  ExpectPeakAtMost(peak, before + 4 * int64_t{kFloodBytes} + kSlack);
  ExpectMemoryComesBackTo(before);
}

TEST_F(AbuseTest, SoDoUnknownGroupsInEveryMethod) {
  const std::string flood = Flood("", "\x7b\x7c", kFloodBytes);
  const int64_t before = Rss();
  const auto inference = Connect(inference_), admin = Connect(admin_);
  const int64_t peak = PeakDuring([&] {
    for (const char* method :
         {"Inference/Generate", "Inference/Tokenize", "Inference/Detokenize",
          "Inference/DetectObjects", "Inference/ListModels",
          "ModelAdmin/GetServer", "ModelAdmin/ListModels",
          "ModelAdmin/GetModel", "ModelAdmin/LoadModel",
          "ModelAdmin/UnloadModel", "ModelAdmin/Quantize",
          "ModelAdmin/ListMethods"}) {
      const grpc::Status status =
          Send(std::string(method).starts_with("I") ? inference : admin,
               absl::StrCat("/ounce.v1.", method), flood);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
          << method;
      EXPECT_THAT(status.error_message(), HasSubstr("protobuf group"))
          << method;
    }
  });
  // One at a time; the one before may not have gone yet.
  ExpectPeakAtMost(peak, before + 2 * int64_t{kFloodBytes} + kSlack);
  ExpectMemoryComesBackTo(before);
}

TEST_F(AbuseTest, GroupsAroundAPictureCostNoMoreThanTheirBytes) {
  Stop();
  Start({"--model",
         absl::StrCat("detr=", OUNCE_SOURCE_ROOT, "/embedded/detr-tiny"),
         "--threads", "2", "--trusted_proxies", "127.0.0.1"});
  v1::DetectObjectsRequest request;
  request.set_model("detr");
  request.set_image(testing::ReadFile(
      OUNCE_SOURCE_ROOT "/embedded/detr-tiny/examples/shapes-400x300.png"));
  const std::string picture = request.SerializeAsString();
  const char method[] = "/ounce.v1.Inference/DetectObjects";
  ASSERT_TRUE(Send(Connect(inference_), method, picture).ok());
  const int64_t before = Rss();
  for (const std::string& flood :
       {Flood(picture, "\x7b\x7c", kFloodBytes),
        Flood("", "\x7b\x7c", kFloodBytes - picture.size()) + picture}) {
    std::vector<grpc::Status> statuses;
    const int64_t peak =
        PeakDuring([&] { statuses = SendAtOnce(4, method, flood); });
    for (const grpc::Status& status : statuses) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(status.error_message(), HasSubstr("protobuf group"));
    }
    ExpectPeakAtMost(peak, before + 4 * int64_t{kFloodBytes} + kSlack);
  }
  EXPECT_EQ(Metric("ounce_picture_memory_used_bytes"), 0);
  ExpectMemoryComesBackTo(before);
  EXPECT_TRUE(Send(Connect(inference_), method, picture).ok());
}

TEST_F(AbuseTest, SoDoThoseInReflection) {
  // Asks for the services, and has groups besides.
  const std::string flood = Flood("\x3a\x01*", "\x7b\x7c", kFloodBytes);
  const int64_t before = Rss();
  const int64_t peak = PeakDuring([&] {
    for (const char* version : {"v1", "v1alpha"}) {
      SendAtOnce(2,
                 absl::StrCat("/grpc.reflection.", version,
                              ".ServerReflection/ServerReflectionInfo"),
                 flood);
    }
  });
  ExpectPeakAtMost(peak, before + 4 * int64_t{kFloodBytes} + kSlack);
  ExpectMemoryComesBackTo(before);
}

TEST_F(AbuseTest, SoDoThoseInHealth) {
  const std::string flood = Flood("", "\x7b\x7c", kFloodBytes);
  for (const char* method : {"Check", "Watch"}) {
    const int64_t before = Rss();
    std::vector<grpc::Status> statuses;
    const int64_t peak = PeakDuring([&] {
      statuses =
          SendAtOnce(2, absl::StrCat("/grpc.health.v1.Health/", method), flood);
    });
    for (const grpc::Status& status : statuses) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(status.error_message(), HasSubstr("protobuf group"));
    }
    ExpectPeakAtMost(peak, before + 2 * int64_t{kFloodBytes} + kSlack);
    ExpectMemoryComesBackTo(before);
  }
}

TEST_F(AbuseTest, ManyLongPromptsWithFloodsAreNotCopied) {
  const std::string flood = StopFlood(std::string(5000, 'x'));
  const int64_t before = Rss();
  const int64_t peak = PeakDuring(
      [&] { SendAtOnce(16, "/ounce.v1.Inference/Generate", flood); });
  ExpectPeakAtMost(peak, before + 16 * int64_t{kFloodBytes} + kSlack);
  ExpectMemoryComesBackTo(before);
}

TEST_F(AbuseTest, ABadStringAfterMillionsOfOthersCostsLittleTime) {
  std::string flood = StopFlood();
  flood += "\x12\x02\xff\xff";
  const double before = CpuSeconds();
  for (const grpc::Status& status :
       SendAtOnce(6, "/ounce.v1.Inference/Generate", flood)) {
    EXPECT_NE(status.error_code(), grpc::StatusCode::OK);
  }
  // Most of it is gRPC's, for receiving 180 MiB.
  EXPECT_LE(CpuSeconds() - before, 6);
}

TEST_F(AbuseTest, AHogsLongTextsDelayNobodyElse) {
  std::string text;
  for (int i = 0; text.size() < (1 << 20) - 20; ++i) {
    absl::StrAppend(&text, "word", i, " ");
  }
  v1::TokenizeRequest request;
  request.set_model("tiny");
  request.set_text(text);
  const std::string bytes = request.SerializeAsString();
  std::atomic<bool> over = false;
  std::vector<std::thread> hogs;
  for (int i = 0; i < 70; ++i) {
    hogs.emplace_back([&] {
      const auto channel = Connect(inference_);
      while (!over) {
        const grpc::Status status =
            Send(channel, "/ounce.v1.Inference/Tokenize", bytes);
        if (!status.ok()) absl::SleepFor(absl::Milliseconds(50));
      }
    });
  }
  absl::SleepFor(absl::Seconds(1));  // for the queue to fill
  // Prompts that a worker has to tokenize, short enough for the model.
  std::string prompt;
  while (prompt.size() < 5000) prompt += "                    ";
  // Of many peers at once.
  constexpr int kPeers = 31, kCalls = 2;
  std::atomic<int> answered = 0;
  std::vector<std::thread> victims;
  for (int i = 0; i < kPeers; ++i) {
    victims.emplace_back([&, i] {
      const auto channel = Connect(inference_);
      for (int call = 0; call < kCalls; ++call) {
        const grpc::Status status =
            GenerateAs(channel, absl::StrCat("203.0.113.", i), prompt);
        EXPECT_TRUE(status.ok()) << status.error_message();
        answered += status.ok();
      }
    });
  }
  for (std::thread& victim : victims) victim.join();
  over = true;
  for (std::thread& hog : hogs) hog.join();
  EXPECT_EQ(answered, kPeers * kCalls);
}

TEST_F(AbuseTest, AHogsLargeTextsHarmNobodyElse) {
  v1::TokenizeRequest request;
  request.set_model("tiny");
  request.set_text(std::string(kFloodBytes, 'a'));
  const std::string bytes = request.SerializeAsString();
  std::vector<grpc::Status> large;
  std::atomic<bool> over = false;
  std::thread hog([&] {
    large = SendAtOnce(16, "/ounce.v1.Inference/Tokenize", bytes);
    over = true;
  });
  std::atomic<int> answered = 0;
  std::vector<std::thread> innocents;
  for (int i = 0; i < 4; ++i) {
    innocents.emplace_back([&, i] {
      const auto channel = Connect(inference_);
      do {
        const grpc::Status status =
            GenerateAs(channel, absl::StrCat("203.0.113.", i), "def f(x):");
        EXPECT_TRUE(status.ok()) << status.error_message();
        ++answered;
      } while (!over);
    });
  }
  hog.join();
  for (std::thread& innocent : innocents) innocent.join();
  for (const grpc::Status& status : large) {
    // Too long a text, and nothing else.
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
  }
  RecordProperty("answered", answered);
}

TEST_F(AbuseTest, AWellBehavedClientIsServedAsBefore) {
  const auto channel = Connect(inference_);
  const auto median = [&] {
    std::vector<absl::Duration> times;
    for (int i = 0; i < 41; ++i) {
      const absl::Time start = absl::Now();
      EXPECT_TRUE(GenerateAs(channel, kVictim, "def f(x):").ok());
      times.push_back(absl::Now() - start);
    }
    std::nth_element(times.begin(), times.begin() + 20, times.end());
    return times[20];
  };
  (void)median();  // warms up
  const absl::Duration alone = median();
  const std::string flood = StopFlood();
  std::atomic<bool> over = false;
  std::thread hog([&] {
    const auto connection = Connect(inference_);
    while (!over) Send(connection, "/ounce.v1.Inference/Generate", flood);
  });
  const absl::Duration beside = median();
  over = true;
  hog.join();
  // The hog's own work, of sending, shares the processors with the server: a
  // time slice or two of it.
  EXPECT_LE(beside, 2 * alone + absl::Milliseconds(10))
      << "alone " << alone << ", beside " << beside;
}

TEST_F(AbuseTest, WithLittleAddressSpaceFloodsAreRefusedCountedAndOver) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more of it";
#endif
  Stop();
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--threads",
         "2", "--trusted_proxies", "127.0.0.1"},
        {"prlimit", absl::StrCat("--as=", 2048 * kMiB)});
  const std::string flood = StopFlood(std::string(5000, 'x'));
  constexpr int kCalls = 16;
  for (const grpc::Status& status :
       SendAtOnce(kCalls, "/ounce.v1.Inference/Generate", flood)) {
    EXPECT_TRUE(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT ||
                status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED)
        << status.error_code() << " " << status.error_message();
  }
  ASSERT_TRUE(server_->Running()) << server_->err();
  EXPECT_TRUE(GenerateAs(Connect(inference_), kVictim, "def f(x):").ok());
  const auto rejected = [&] {
    return Metric("ounce_requests_total", {"outcome=\"rejected\""});
  };
  EXPECT_TRUE(WaitUntil([&] { return rejected() == kCalls; })) << rejected();
  const absl::Time start = absl::Now();
  Stop();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10)) << "no call is left over";
}

TEST_F(AbuseTest, AfterAllThatItStopsAtOnce) {
  SendAtOnce(4, "/ounce.v1.Inference/Generate", StopFlood());
  const absl::Time start = absl::Now();
  Stop();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10)) << "no call is left over";
}

}  // namespace
}  // namespace ounce
