#include "server/log.h"

#include <fcntl.h>
#include <spdlog/logger.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// A pipe with the log at one end and the test at the other.
class LogTest : public ::testing::Test {
 protected:
  LogTest() {
    EXPECT_EQ(pipe2(ends_, O_NONBLOCK), 0);
    // Blocking where the log writes, as a program's stderr is.
    fcntl(ends_[1], F_SETFL, 0);
    Use(LogFormat::kText);
  }
  ~LogTest() override {
    close(ends_[0]);
    close(ends_[1]);
  }

  void Use(LogFormat format) {
    logger_ = std::make_unique<spdlog::logger>("test", MakeSink(ends_[1]));
    logger_->set_formatter(MakeFormatter(format));
  }

  // All that can be read now.
  std::string Read() {
    std::string all;
    char some[4096];
    ssize_t count;
    while ((count = read(ends_[0], some, sizeof(some))) > 0) {
      all.append(some, static_cast<size_t>(count));
    }
    return all;
  }

  int ends_[2] = {-1, -1};
  std::unique_ptr<spdlog::logger> logger_;
};

TEST_F(LogTest, StampsALineWithTimeZoneAndLevel) {
  logger_->warn("model {}: {}", "a", 3);
  EXPECT_THAT(Read(),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}"
                           ":[0-9]{2}\\.[0-9]{3}[+-][0-9]{2}:[0-9]{2} "
                           "warning model a: 3\n"));
}

TEST_F(LogTest, WritesAnObjectALineAsJson) {
  Use(LogFormat::kJson);
  logger_->info("a \"b\"\nc \xff");
  const std::string line = Read();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["level"], "info");
  EXPECT_EQ(json["message"], "a \"b\"\nc \xef\xbf\xbd");
  EXPECT_THAT(json["time"].get<std::string>(), HasSubstr("T"));
}

TEST_F(LogTest, AMessageMakesNoLineOfItsOwn) {
  logger_->info("load of '/x\n2026-01-01T00:00:00.000+00:00 info all is well'");
  const std::string line = Read();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_THAT(line, HasSubstr("/x\\n2026"));
}

TEST_F(LogTest, EscapesWhatATerminalObeysAndWhatIsNoText) {
  EXPECT_EQ(Escaped("a\tb\r\n"), "a\\tb\\r\\n");
  EXPECT_EQ(Escaped("\x1b[2J\x7f"), "\\x1b[2J\\x7f");
  EXPECT_EQ(Escaped("\xc2\x9b"), "\\xc2\\x9b");
  EXPECT_EQ(Escaped("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Escaped("größe \xe2\x82\xac"), "größe \xe2\x82\xac");
}

TEST_F(LogTest, DoesNotWaitForWhoDoesNotRead) {
  const std::string text(1000, 'x');
  for (int i = 0; i < 200; ++i) logger_->info("{} {}", i, text);
  // A pipe holds 64 KiB: the rest is lost, and that is said.
  EXPECT_THAT(Read(), HasSubstr("info 0 x"));
  logger_->info("read again");
  const std::string later = Read();
  EXPECT_THAT(later, HasSubstr("lines of the log were lost"));
  EXPECT_THAT(later, EndsWith("info read again\n"));
  logger_->info("and again");
  EXPECT_THAT(Read(), ::testing::Not(HasSubstr("lost")));
}

TEST_F(LogTest, EveryLineThatArrivesIsWhole) {
  const std::string text(9000, 'x');
  for (int i = 0; i < 20; ++i) logger_->info("{} {}", i, text);
  std::string all = Read();
  logger_->info("end");
  all += Read();
  for (const auto line : absl::StrSplit(all, '\n', absl::SkipEmpty())) {
    EXPECT_EQ(line.substr(0, 2), "20") << line.substr(0, 80);
  }
}

TEST_F(LogTest, AReaderThatIsGoneEndsNothing) {
  signal(SIGPIPE, SIG_IGN);
  close(ends_[0]);
  ends_[0] = -1;
  for (int i = 0; i < 3; ++i) logger_->info("nobody");
}

TEST_F(LogTest, CutsAMessageOfManyBytes) {
  logger_->info(std::string(20'000, 'x'));
  const std::string line = Read();
  EXPECT_LT(line.size(), 17'000u);
  EXPECT_THAT(line, EndsWith("x ... (3616 more bytes)\n"));
}

}  // namespace
}  // namespace ounce::server
