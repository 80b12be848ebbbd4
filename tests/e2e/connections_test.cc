// Attacks on the connections of a real server, beside a client that behaves.
#include <atomic>
#include <thread>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "tests/e2e/raw_connection.h"
#include "tests/e2e/serving.h"
#include "tests/server/net/http2_frames.h"

namespace ounce {
namespace {

using testing::Frame;
using ::testing::HasSubstr;
using testing::RawConnection;

constexpr char kAttacker[] = "127.0.0.3";
constexpr char kTokenize[] = "/ounce.v1.Inference/Tokenize";
// What is free for a flood: with the limits of docs/security.md it takes less.
constexpr double kFloodMiB = 96;
constexpr double kKeptMiB = 32;

class ConnectionsTest : public testing::ServingTest {
 protected:
  // Of the server, in MiB: "VmRSS" now, "VmHWM" at most so far.
  double Memory(const std::string& name) {
    std::ifstream in(absl::StrCat("/proc/", server_->pid(), "/status"));
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with(name + ":")) {
        return std::stod(line.substr(name.size() + 1)) / 1024;
      }
    }
    return -1;
  }

  // CPU seconds that the server has used.
  double Cpu() {
    const std::string stat =
        testing::ReadFile(absl::StrCat("/proc/", server_->pid(), "/stat"));
    const std::vector<std::string> fields =
        absl::StrSplit(stat.substr(stat.rfind(')') + 2), ' ');
    return (std::stod(fields[11]) + std::stod(fields[12])) /
           static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  // Runs `attack` while another peer asks again and again; all of that is
  // answered, and the memory comes back.
  void Attack(const std::function<void()>& attack) {
    ASSERT_TRUE(Generate(Request("def", 2)).ok());
    const double before = Memory("VmRSS");
    std::atomic<bool> over{false};
    int asked = 0;
    absl::Duration slowest;
    std::thread bystander([&] {
      do {
        const absl::Time start = absl::Now();
        const auto answer = Generate(Request("def", 2));
        EXPECT_TRUE(answer.ok()) << answer.status();
        slowest = std::max(slowest, absl::Now() - start);
        ++asked;
        absl::SleepFor(absl::Milliseconds(50));
      } while (!over);
    });
    attack();
    over = true;
    bystander.join();
    const double peak = Memory("VmHWM");
    EXPECT_TRUE(peak < before + kFloodMiB || !testing::kMemoryIsReal) << peak;
    EXPECT_TRUE(WaitUntil([&] {
      return Memory("VmRSS") < before + kKeptMiB || !testing::kMemoryIsReal;
    })) << before
        << " before, " << Memory("VmRSS") << " after";
    absl::PrintF(
        "RSS %.0f MiB, at most %.0f, then %.0f; %d calls beside it, the "
        "slowest took %s\n",
        before, peak, Memory("VmRSS"), asked, absl::FormatDuration(slowest));
  }

  RawConnection Open(const std::string& from = kAttacker) {
    RawConnection connection(inference_, from);
    EXPECT_TRUE(connection.Write(testing::Start()));
    return connection;
  }

  // They are counted when they have been closed.
  void ExpectCut(double count, const std::vector<std::string>& labels) {
    const auto cut = [&] {
      return Metric("ounce_connections_cut_total", labels);
    };
    EXPECT_TRUE(WaitUntil([&] { return cut() >= count; }));
    EXPECT_EQ(cut(), count);
  }
};

TEST_F(ConnectionsTest, AcceptsAgainAfterDescriptorsRanOut) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel)},
        {"sh", "-c", "ulimit -n 320; exec \"$0\" \"$@\""});
  Attack([&] {
    std::vector<RawConnection> held;
    for (int i = 0; i < 600; ++i) {
      held.emplace_back(i % 3 == 0 ? admin_ : inference_, kAttacker);
    }
    absl::SleepFor(absl::Seconds(2));
  });
  EXPECT_TRUE(Generate(Request("def", 2)).ok());
  EXPECT_TRUE(client_
                  ->GetModel([] {
                    v1::GetModelRequest request;
                    request.set_name("tiny");
                    return request;
                  }())
                  .ok());
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_connections", {"listener=\"listen\""}) <= 2;
  })) << "what was closed is counted out";
}

TEST_F(ConnectionsTest, EndsAHeaderThatNeverEnds) {
  Start();
  const double cpu = Cpu();
  Attack([&] {
    for (int i = 0; i < 4; ++i) {
      RawConnection connection = Open();
      connection.Write(Frame(
          testing::kHeaders, 0, 1,
          testing::CallFields(kTokenize) + std::string("\0\x7f\x80\x80", 4)));
      const std::string frame =
          Frame(testing::kContinuation, 0, 1, std::string(1, '\x80'));
      for (int j = 0; j < 20'000 && connection.Write(frame); ++j) {
      }
      EXPECT_TRUE(connection.WaitClosed(absl::Seconds(20)));
    }
  });
  EXPECT_LT(Cpu() - cpu, 5);
  ExpectCut(4, {"listener=\"listen\"", "reason=\"header_block\""});
}

TEST_F(ConnectionsTest, EndsAFloodOfContinuations) {
  Start();
  Attack([&] {
    std::string many =
        Frame(testing::kHeaders, 0, 1, testing::CallFields(kTokenize));
    for (int i = 0; i < 1000; ++i) {
      std::string fields;
      for (int j = 0; j < 100; ++j) fields += testing::Field("k", "");
      many += Frame(testing::kContinuation, 0, 1, fields);
    }
    RawConnection connection = Open();
    for (int i = 0; i < 20 && connection.Write(many); ++i) {
    }
    EXPECT_TRUE(connection.WaitClosed(absl::Seconds(20)));
  });
  ExpectCut(1, {"listener=\"listen\"", "reason=\"header_block\""});
}

TEST_F(ConnectionsTest, SlowsDownRapidResets) {
  Start();
  Attack([&] {
    v1::GenerateRequest request = Request("def", 100);
    const std::string call =
        testing::CallFields("/ounce.v1.Inference/Generate");
    std::vector<RawConnection> connections;
    for (int i = 0; i < 4; ++i) connections.push_back(Open());
    const absl::Time deadline = absl::Now() + absl::Seconds(4);
    for (uint32_t id = 1; absl::Now() < deadline;) {
      std::string calls;
      for (int i = 0; i < 200; ++i, id += 2) {
        calls += Frame(testing::kHeaders, testing::kEndHeaders, id, call) +
                 Frame(testing::kData, testing::kEndStream, id,
                       testing::Message(request.SerializeAsString())) +
                 Frame(testing::kReset, 0, id, testing::Number(8, 4));
      }
      bool any = false;
      for (RawConnection& connection : connections) {
        any = connection.Write(calls) || any;
        connection.Read();
      }
      if (!any) break;  // nobody reads any more
    }
  });
}

TEST_F(ConnectionsTest, ClosesConnectionsThatDoNotStart) {
  Start();
  RawConnection silent(inference_, kAttacker);
  RawConnection half(admin_, kAttacker);
  half.Write(testing::kPreface);
  RawConnection started = Open();
  EXPECT_TRUE(silent.WaitClosed(absl::Seconds(30)));
  EXPECT_TRUE(half.WaitClosed(absl::Seconds(30)));
  EXPECT_THAT(half.last_words(), HasSubstr("did not start in time"));
  ExpectCut(2, {"reason=\"slow_start\""});
  EXPECT_FALSE(started.WaitClosed(absl::ZeroDuration()));
}

TEST_F(ConnectionsTest, ClosesConnectionsWithoutACall) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel),
         "--idle_connection_seconds", "2"});
  RawConnection idle = Open();
  EXPECT_TRUE(idle.WaitClosed(absl::Seconds(30)));
  EXPECT_TRUE(Generate(Request("def", 2)).ok());
}

TEST_F(ConnectionsTest, AsksAnOldConnectionToComeAgainWhereTold) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel),
         "--max_connection_age_seconds", "0.3"});
  RawConnection old = Open();
  const std::string goaway =
      Frame(testing::kGoAway, 0, 0,
            testing::Number(0x7fffffff, 4) + testing::Number(0, 4));
  std::string words;
  EXPECT_TRUE(WaitUntil([&] {
    words += old.Read(absl::Milliseconds(20));
    return words.find(goaway) != std::string::npos;
  }));
  // Calls that are under way, and those on new connections, go on.
  for (int i = 0; i < 3; ++i) {
    const auto answer = Generate(Request("def f():\n", 200));
    EXPECT_TRUE(answer.ok()) << answer.status();
  }
}

TEST_F(ConnectionsTest, CountsAndTellsOfWhoPingsTooOften) {
  Start();
  RawConnection often = Open();
  for (int i = 0; i < 5; ++i) {
    often.Write(Frame(testing::kPing, 0, 0, "12345678"));
  }
  std::string words;
  EXPECT_TRUE(WaitUntil([&] {
    words += often.Read(absl::Milliseconds(20));
    return words.find("too_many_pings") != std::string::npos;
  }));
  ExpectCut(1, {"\"listen\"", "\"too_many_pings\""});
  EXPECT_THAT(server_->err(), HasSubstr("listen: closed a connection of "
                                        "127.0.0.3: the client pings too "
                                        "often"));
}

TEST_F(ConnectionsTest, AResetAtACallsDeadlineIsALateCallInAllMetrics) {
  Start();
  const std::string generate = "ounce.v1.Inference/Generate";
  RawConnection caller = Open();
  // On a slow machine the server's clock ends it first.
  caller.Write(
      Frame(testing::kHeaders, testing::kEndHeaders, 1,
            testing::CallFields("/" + generate) +
                testing::Field("grpc-timeout", "45m")) +
      Frame(testing::kData, testing::kEndStream, 1,
            testing::Message(Request("def", 480).SerializeAsString())));
  // Its answer's first headers, or its last.
  std::string words;
  EXPECT_TRUE(WaitUntil([&] {
    words += caller.Read(absl::Milliseconds(1));
    return words.find(std::string("\1\4\0\0\0\1", 6)) != std::string::npos ||
           words.find(std::string("\1\5\0\0\0\1", 6)) != std::string::npos;
  }));
  caller.Write(Frame(testing::kReset, 0, 1, testing::Number(8, 4)));
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_rpc_requests_total",
                  {generate, "\"DEADLINE_EXCEEDED\""}) == 1;
  }));
  EXPECT_EQ(Metric("ounce_requests_total", {"\"deadline_exceeded\""}), 1);
  EXPECT_EQ(Metric("ounce_requests_total", {"\"cancelled\""}), 0);
  EXPECT_EQ(Metric("ounce_rpc_requests_total", {generate, "\"CANCELLED\""}), 0);
}

TEST_F(ConnectionsTest, LetsNobodySufferFromAnothersLargeMessages) {
  Start();
  ASSERT_TRUE(Generate(Request("def", 2)).ok());
  std::atomic<int> large_answered{0};
  std::vector<std::thread> large;
  for (int i = 0; i < 16; ++i) {
    large.emplace_back([&] {
      const auto client = client::Client::Create({.server = inference_});
      v1::TokenizeRequest request;
      request.set_model("tiny");
      request.set_text(std::string(30 << 20, 'a'));
      const absl::Status status = client->Tokenize(request).status();
      // Too long a text, and nothing else.
      large_answered += status.code() == absl::StatusCode::kInvalidArgument;
    });
  }
  for (int i = 0; i < 50; ++i) {
    const auto answer = Generate(Request("def", 2));
    EXPECT_TRUE(answer.ok()) << answer.status();
  }
  for (std::thread& thread : large) thread.join();
  EXPECT_EQ(large_answered, 16) << "its own calls come one after the other";
  EXPECT_TRUE(WaitUntil([&] {
    return Memory("VmRSS") < 150 || !testing::kMemoryIsReal;
  })) << Memory("VmRSS");
}

}  // namespace
}  // namespace ounce
