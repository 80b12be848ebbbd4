// The real server: start, stop, and what it refuses.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "tests/e2e/serving.h"
#include "tests/testing/hung_file.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using testing::StatusIs;

class ServerTest : public testing::ServingTest {
 protected:
  // Flags that make it end by itself.
  Finished RunServer(std::vector<std::string> flags) {
    flags.insert(flags.begin(), OUNCE_SERVER_BINARY);
    return testing::RunToEnd(flags);
  }
};

TEST_F(ServerTest, PrintsWhatItServesWhereAndHowBig) {
  Start();
  EXPECT_TRUE(WaitUntil(
      [&] { return server_->out().find(" ready\n") != std::string::npos; }));
  EXPECT_THAT(server_->out(),
              AllOf(HasSubstr(" listening inference " + inference_ + "\n"),
                    HasSubstr(" listening admin " + admin_ + "\n"),
                    HasSubstr(" listening metrics " + metrics_ + "\n"),
                    HasSubstr("serving tiny: codegen"), HasSubstr("4.24 M"),
                    HasSubstr("MiB")));
}

TEST_F(ServerTest, ServesWhatItsConfigFileSays) {
  const std::string file = folder_.WriteFile(
      "server.textproto",
      absl::StrCat("models { name: 'tiny' path: '", testing::kTinyModel,
                   "' method: 'linear:bits=8,mode=symmetric' }\n"
                   "limits { max_new_tokens: 5 }\n"));
  Start({"--config", file});
  EXPECT_THAT(Model("tiny").method(), HasSubstr("linear"));
  EXPECT_THAT(Generate(Request("a", 6)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must be at most 5, is 6")));
  EXPECT_EQ(Generate(Request("a", 5))->second.usage().new_tokens(), 5);
}

TEST_F(ServerTest, WritesAsTheModelsAuthorsRecommend) {
  Start();
  const v1::GenerateRequest zeros = [] {
    v1::GenerateRequest request = Request("def add(a, b):\n", 12);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_repetition_penalty(0);
    return request;
  }();
  const auto plain = Generate(zeros);
  ASSERT_TRUE(plain.ok()) << plain.status();
  Stop();

  const std::string copy = folder_.Path("model");
  std::filesystem::copy(testing::kTinyModel, copy,
                        std::filesystem::copy_options::recursive);
  folder_.WriteFile("model/generation_config.json",
                    R"({"eos_token_id": 4057, "do_sample": true, "top_k": 5,
                        "temperature": 0.75, "repetition_penalty": 1.25,
                        "max_new_tokens": 9, "no_repeat_ngram_size": 2})");
  Start({"--model", "tiny=" + copy});
  EXPECT_THAT(server_->out() + server_->err(),
              HasSubstr("transformers': no_repeat_ngram_size = 2"));
  v1::GenerateRequest request = Request("def add(a, b):\n", 1);
  request.clear_max_new_tokens();
  const auto silent = Generate(request);
  ASSERT_TRUE(silent.ok()) << silent.status();
  const v1::GenerateResponse& last = silent->second;
  EXPECT_EQ(last.max_new_tokens(), 9u);
  EXPECT_LE(last.usage().new_tokens(), 9);
  EXPECT_EQ(last.sampling().temperature(), 0.75f);
  EXPECT_EQ(last.sampling().top_k(), 5u);
  EXPECT_EQ(last.sampling().top_p(), 1);
  EXPECT_EQ(last.sampling().repetition_penalty(), 1.25f);
  EXPECT_TRUE(last.sampling().has_seed());
  // What the reply says counted gives the same once more.
  *request.mutable_sampling() = last.sampling();
  request.set_max_new_tokens(last.max_new_tokens());
  EXPECT_EQ(Generate(request)->first, silent->first);
  // A zero is no silence.
  EXPECT_EQ(Generate(zeros)->first, plain->first);

  EXPECT_THAT(Cli({"generate", "tiny", "def "}).err,
              HasSubstr("temperature 0.75; seed "));
  EXPECT_THAT(Cli({"generate", "tiny", "def ", "-t", "0"}).err,
              HasSubstr("; greedy; "));
}

TEST_F(ServerTest, ServesNoModelAtFirst) {
  Start({});
  EXPECT_THAT(Generate(Request("a", 1)), StatusIs(absl::StatusCode::kNotFound));
  v1::LoadModelRequest load;
  load.set_name("tiny");
  load.set_path(testing::kTinyModel);
  ASSERT_TRUE(client_->LoadModel(load).ok());
  EXPECT_TRUE(Generate(Request("a", 1)).ok());
}

TEST_F(ServerTest, EndsWithAReasonWhenItCannotServe) {
  const Finished usage = RunServer({"--threads", "none"});
  EXPECT_EQ(usage.code, 2);
  EXPECT_THAT(usage.err, HasSubstr("--threads"));
  const Finished help = RunServer({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--kv_cache_bytes"));

  const std::vector<std::string> anywhere = {"--listen",         "127.0.0.1:0",
                                             "--admin_listen",   "127.0.0.1:0",
                                             "--metrics_listen", "127.0.0.1:0"};
  std::vector<std::string> flags = anywhere;
  flags.insert(flags.end(), {"--model", "a=/nowhere/at/all"});
  const Finished missing = RunServer(flags);
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err,
              AllOf(HasSubstr("model 'a'"), HasSubstr("/nowhere/at/all")));
  flags = anywhere;
  flags.insert(flags.end(), {"--model", absl::StrCat("a=", testing::kTinyModel,
                                                     ",method=octonions")});
  const Finished method = RunServer(flags);
  EXPECT_EQ(method.code, 2);
  EXPECT_THAT(method.err, AllOf(HasSubstr("octonions"), HasSubstr("linear")));

  Start();
  for (const auto& [flag, address] :
       {std::pair("--listen", inference_), std::pair("--admin_listen", admin_),
        std::pair("--metrics_listen", metrics_)}) {
    flags = anywhere;
    for (size_t i = 0; i + 1 < flags.size(); ++i) {
      if (flags[i] == flag) flags[i + 1] = address;
    }
    const Finished taken = RunServer(flags);
    EXPECT_EQ(taken.code, 1) << flag;
    EXPECT_THAT(taken.err, HasSubstr(address));
  }
}

TEST_F(ServerTest, FinishesWhatRunsWhenToldToStop) {
  Start();
  int64_t tokens = 0;
  bool told = false;
  bool refused = false;
  const auto other = client::Client::Create({.server = inference_});
  v1::GenerateResponse last;
  const absl::Status status = client_->Generate(
      Request("def f():\n", 480), [&](const v1::GenerateResponse& message) {
        last = message;
        tokens += message.token_ids_size();
        if (!told) {
          told = true;
          server_->Signal(SIGTERM);
          // Until it has noticed, a new request is served as ever.
          refused = WaitUntil([&] {
            return absl::IsUnavailable(other->Generate(
                Request("a", 1), [](const auto&) { return true; }));
          });
        }
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(refused);
  EXPECT_EQ(tokens, last.usage().new_tokens());
  EXPECT_NE(last.finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
}

TEST_F(ServerTest, EndsWhatRunsTooLongAfterBeingTold) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel),
         "--drain_seconds", "0"});
  bool told = false;
  absl::Status status;
  // Again and again, until one is cut off.
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    status = client_->Generate(Request("def f():\n", 480),
                               [&](const v1::GenerateResponse&) {
                                 if (!std::exchange(told, true)) {
                                   server_->Signal(SIGTERM);
                                 }
                                 return true;
                               });
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
}

TEST_F(ServerTest, ASecondSignalEndsItAtOnce) {
  Start();
  // Work for seconds.
  std::vector<std::thread> threads;
  for (int i = 0; i < 64; ++i) {
    threads.emplace_back([&] {
      client_
          ->Generate(Request("def f():\n", 480),
                     [&](const v1::GenerateResponse&) { return true; })
          .IgnoreError();
    });
  }
  EXPECT_TRUE(WaitUntil([&] { return Metric("ounce_requests_running") > 16; }));
  server_->Signal(SIGINT);
  EXPECT_TRUE(WaitUntil([&] {
    return server_->err().find("shutting down") != std::string::npos;
  }));
  EXPECT_TRUE(server_->Running());
  absl::SleepFor(absl::Milliseconds(150));  // sooner it would be the same one
  server_->Signal(SIGINT);
  EXPECT_EQ(server_->Wait(absl::Seconds(10)), 130);
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ServerTest, EndsInItsTimeWhileLoadsHangInAFileSystem) {
  const std::string copy = folder_.Path("hangs");
  std::filesystem::copy(testing::kTinyModel, copy);
  const auto hung = testing::HungFile::Create(copy + "/model.safetensors");
  if (hung == nullptr) GTEST_SKIP() << "no file can be made to hang here";
  Start();
  std::vector<std::thread> loads;
  for (int i = 0; i < 4; ++i) {
    loads.emplace_back([&, i] {
      v1::LoadModelRequest load;
      load.set_name(absl::StrCat("hangs", i));
      load.set_path(copy);
      EXPECT_FALSE(
          client::Client::Create({.server = inference_, .admin = admin_})
              ->LoadModel(load)
              .ok());
    });
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(WaitUntil([&] {
      v1::GetModelRequest request;
      request.set_name(absl::StrCat("hangs", i));
      return client_->GetModel(request).ok();
    }));
  }
  EXPECT_TRUE(Generate(Request("a", 1)).ok());
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Seconds(25)), 0) << server_->err();
  for (std::thread& load : loads) load.join();
}

TEST_F(ServerTest, StopsTheWorkOfAClientThatIsGone) {
  Start();
  const absl::Status status =
      client_->Generate(Request("def f():\n", 480),
                        [](const v1::GenerateResponse&) { return false; });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_requests_total", {"outcome=\"cancelled\""}) == 1;
  }));
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_kv_cache_used_bytes") == 0 &&
           Metric("ounce_requests_running") == 0;
  }));
}

TEST_F(ServerTest, StopsTheWorkWhenADeadlinePasses) {
  Start();
  const auto hasty = client::Client::Create(
      {.server = inference_, .timeout = absl::Milliseconds(200)});
  const auto ignore = [](const v1::GenerateResponse&) { return true; };
  // Connected, so that what follows does reach the server in time.
  ASSERT_TRUE(
      WaitUntil([&] { return hasty->Generate(Request("a", 1), ignore).ok(); }));
  // Work for seconds: some run, some are queued.
  constexpr int kRequests = 64;
  std::vector<std::thread> threads;
  std::atomic<int> late = 0;
  for (int i = 0; i < kRequests; ++i) {
    threads.emplace_back([&] {
      late += absl::IsDeadlineExceeded(
          hasty->Generate(Request("def f():\n", 480), ignore));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(late, kRequests);
  const auto ended = [&](const std::string& outcome) {
    return Metric("ounce_requests_total",
                  {absl::StrCat("outcome=\"", outcome, "\"")});
  };
  // Where a client's own clock was first, its word came as a cancellation, or
  // the call came to the server without its message, or not at all.
  EXPECT_TRUE(WaitUntil([&] {
    return ended("deadline_exceeded") >= 1 &&
           Metric("ounce_requests_queued") == 0 &&
           Metric("ounce_requests_running") == 0;
  }));
  EXPECT_EQ(Metric("ounce_kv_cache_used_bytes"), 0);
  EXPECT_EQ(Metric("ounce_requests_queued"), 0);
  EXPECT_EQ(Metric("ounce_kv_cache_used_bytes"), 0);
}

TEST_F(ServerTest, CountsWhatItsClientsGaveUpAsThat) {
  Start({"--model", absl::StrCat("tiny=", LongModel())});
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(inference_, grpc::InsecureChannelCredentials()));
  const auto counted = [&](const std::string& outcome) {
    return Metric("ounce_requests_total",
                  {absl::StrCat("outcome=\"", outcome, "\"")});
  };
  // Their texts wait for a thread, and their tokens take longer than that.
  std::string prompt;
  while (prompt.size() < 5000) prompt += "                    ";
  {
    grpc::ClientContext context;  // connects
    const auto reader = stub->Generate(&context, Request(prompt, 1));
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
    }
    ASSERT_TRUE(reader->Finish().ok());
  }
  constexpr int kAtOnce = 20, kRounds = 3;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::thread> clients;
    for (int i = 0; i < kAtOnce; ++i) {
      clients.emplace_back([&] {
        grpc::ClientContext context;
        context.set_deadline(
            absl::ToChronoTime(absl::Now() + absl::Milliseconds(50)));
        const auto reader = stub->Generate(&context, Request(prompt, 4000));
        v1::GenerateResponse message;
        while (reader->Read(&message)) {
        }
        EXPECT_EQ(reader->Finish().error_code(),
                  grpc::StatusCode::DEADLINE_EXCEEDED);
      });
    }
    for (std::thread& client : clients) client.join();
  }
  // A busy machine may bring the client's word before the server's own clock
  // says so: then it is a cancellation.
  EXPECT_TRUE(WaitUntil([&] {
    return counted("deadline_exceeded") + counted("cancelled") ==
           kAtOnce * kRounds;
  })) << counted("deadline_exceeded")
      << " " << counted("cancelled");
  EXPECT_GT(counted("deadline_exceeded"), 0);
  EXPECT_EQ(counted("rejected"), 0);

  // All that the server has heard of is counted under its model.
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> calls;
  for (int i = 0; i < kAtOnce; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    calls.push_back(
        stub->Generate(contexts.back().get(), Request("def f(x):", 4000)));
  }
  ASSERT_TRUE(WaitUntil([&] {
    return Metric("ounce_requests_running") + Metric("ounce_requests_queued") ==
           kAtOnce;
  }));
  const auto cancelled = [&] {
    return Metric("ounce_requests_total",
                  {"outcome=\"cancelled\"", "model=\"tiny\""});
  };
  const double before = cancelled();
  for (const auto& context : contexts) context->TryCancel();
  for (const auto& call : calls) {
    v1::GenerateResponse message;
    while (call->Read(&message)) {
    }
    EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(WaitUntil([&] { return cancelled() == before + kAtOnce; }))
      << cancelled();
  // Those that are given up before the server hears of them are not refusals.
  for (int i = 0; i < kAtOnce; ++i) {
    grpc::ClientContext context;
    const auto call = stub->Generate(&context, Request(prompt, 4000));
    context.TryCancel();
    EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Generate(Request("def f(x):", 1)).ok());
  EXPECT_EQ(counted("rejected"), 0);
}

TEST_F(ServerTest, AFailedCallLeavesOneLine) {
  Start();
  v1::GenerateRequest request = Request("a", 1);
  request.set_model("no\nbody");
  EXPECT_FALSE(Generate(request).ok());
  v1::TokenizeRequest tokenize;
  tokenize.set_model("nobody");
  EXPECT_FALSE(client_->Tokenize(tokenize).ok());
  v1::LoadModelRequest load;
  load.set_name("new");
  load.set_path("/no/such/folder");
  EXPECT_FALSE(client_->LoadModel(load).ok());
  for (const char* line :
       {"Generate from 127.0.0.1, model no\\x0abody: NOT_FOUND: no model",
        "Tokenize from 127.0.0.1, model nobody: NOT_FOUND: no model",
        "LoadModel from 127.0.0.1, model new: NOT_FOUND: "}) {
    EXPECT_TRUE(WaitUntil([&] {
      return absl::StrContains(server_->err(), line);
    })) << line
        << "\n"
        << server_->err();
  }
  // Those that end well leave none.
  EXPECT_TRUE(Generate(Request("a", 1)).ok());
  Stop();
  const std::vector<std::string> parts =
      absl::StrSplit(server_->err(), "Generate from");
  EXPECT_EQ(parts.size(), 2u) << server_->err();
}

TEST_F(ServerTest, RefusesBadInputAndGoesOn) {
  Start();
  v1::GenerateRequest ids = Request("", 1);
  ids.mutable_prompt_token_ids()->add_ids(1'000'000);
  EXPECT_THAT(Generate(ids), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("is 1000000")));
  std::string words;
  for (int i = 0; i < 2000; ++i) words += "word ";
  EXPECT_THAT(Generate(Request(words, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must be at most 511 tokens")));
  EXPECT_THAT(Generate(Request(std::string(40'000'000, 'x'), 1)),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Generate(Request(std::string(1'000'000, ' '), 1)),
              StatusIs(absl::StatusCode::kInvalidArgument));

  v1::LoadModelRequest load;
  load.set_name("other");
  load.set_path("/nowhere");
  EXPECT_THAT(client_->LoadModel(load).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere")));
  load.set_path("no-such-org/no-such-model");
  EXPECT_THAT(client_->LoadModel(load).status(),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no-such-org/no-such-model")));
  // A checkpoint of another architecture, and one that is cut short.
  std::filesystem::copy(testing::kTinyModel, folder_.path() / "model",
                        std::filesystem::copy_options::recursive);
  load.set_path(folder_.Path("model"));
  const std::string config =
      testing::ReadFile(folder_.Path("model/config.json"));
  auto other = nlohmann::json::parse(config);
  other["model_type"] = "perceptron";
  folder_.WriteFile("model/config.json", other.dump());
  EXPECT_THAT(client_->LoadModel(load).status(),
              StatusIs(absl::StatusCode::kUnimplemented,
                       AllOf(HasSubstr("perceptron"), HasSubstr("codegen"))));
  folder_.WriteFile("model/config.json", config);
  const std::string weights =
      testing::ReadFile(folder_.Path("model/model.safetensors"));
  folder_.WriteFile("model/model.safetensors",
                    weights.substr(0, weights.size() / 2));
  EXPECT_THAT(client_->LoadModel(load).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.safetensors")));
  EXPECT_TRUE(Generate(Request("def ", 4)).ok()) << "the server goes on";
}

}  // namespace
}  // namespace ounce
