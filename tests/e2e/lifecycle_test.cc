// The real server from its start to its end, where something is wrong with the
// place that it runs in.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Process;
using testing::StatusIs;

const std::vector<std::string>& Anywhere() {
  static const auto* const kFlags = new std::vector<std::string>{
      "--listen",    "127.0.0.1:0",      "--admin_listen",
      "127.0.0.1:0", "--metrics_listen", "127.0.0.1:0"};
  return *kFlags;
}

std::string Tiny(const std::string& name) {
  return absl::StrCat(name, "=", testing::kTinyModel);
}

class LifecycleTest : public testing::ServingTest {
 protected:
  static std::vector<std::string> Command(
      std::vector<std::string> before, const std::vector<std::string>& flags) {
    before.push_back(OUNCE_SERVER_BINARY);
    before.insert(before.end(), Anywhere().begin(), Anywhere().end());
    before.insert(before.end(), flags.begin(), flags.end());
    return before;
  }
  static Finished RunServer(const std::vector<std::string>& flags) {
    return testing::RunToEnd(Command({}, flags));
  }

  // A server that need not become ready: waits until it listens.
  void StartListening(const std::vector<std::string>& command) {
    server_ = std::make_unique<Process>(command);
    ASSERT_TRUE(WaitUntil([&] {
      return absl::StrContains(server_->out(), "listening metrics") ||
             !server_->Running();
    }));
    const auto address = [&](const std::string& name) {
      const std::string out = server_->out();
      const std::string head = absl::StrCat("listening ", name, " ");
      const size_t at = out.find(head);
      if (at == std::string::npos) return std::string();
      const size_t begin = at + head.size();
      return out.substr(begin, out.find('\n', begin) - begin);
    };
    inference_ = address("inference");
    admin_ = address("admin");
    metrics_ = address("metrics");
    ASSERT_FALSE(admin_.empty()) << server_->err();
    client_ = client::Client::Create({.server = inference_, .admin = admin_});
  }

  // A copy of the model in a file system that hangs for servers which are
  // started until the end of the test.
  std::string HungModel() {
    PreloadForServers(OUNCE_HUNG_FILES_LIBRARY);
    std::filesystem::create_directory(folder_.Path("hung"));
    std::filesystem::copy(testing::kTinyModel, folder_.Path("hung/model"),
                          std::filesystem::copy_options::recursive);
    return folder_.Path("hung/model");
  }
  ~LifecycleTest() override { unsetenv("LD_PRELOAD"); }

  bool IsServing(const std::string& name) {
    const absl::StatusOr<bool> serving = client_->IsServing(name);
    EXPECT_TRUE(serving.ok()) << name << ": " << serving.status();
    return serving.value_or(false);
  }

  absl::Status Load(const std::string& name, const std::string& path) {
    v1::LoadModelRequest request;
    request.set_name(name);
    request.set_path(path);
    return client_->LoadModel(request).status();
  }
};

TEST_F(LifecycleTest, ALogThatNobodyReadsBlocksNothing) {
  // The test holds the other end, and does not read.
  const std::string fifo = folder_.Path("log");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  // Of one page, which is full, as poll has it, with the first line.
  ASSERT_EQ(fcntl(reader, F_SETPIPE_SZ, 4096), 4096);
  std::vector<std::string> command = {
      "/bin/sh", "-c", absl::StrCat("exec \"$@\" 2>", fifo), "sh"};
  StartListening(Command(command, {}));
  for (int i = 0; i < 60; ++i) {
    ASSERT_FALSE(Load("other", "/nowhere").ok());
  }
  int unread = 0;
  ASSERT_EQ(ioctl(reader, FIONREAD, &unread), 0);
  ASSERT_GT(unread, 0);
  EXPECT_TRUE(Load("tiny", testing::kTinyModel).ok());
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0);
  close(reader);
}

TEST_F(LifecycleTest, ANameWithANewlineForgesNoLineOfTheLog) {
  Start();
  EXPECT_FALSE(Load("x\n2026-01-01 info all is well", "/nowhere").ok());
  EXPECT_TRUE(WaitUntil([&] {
    return absl::StrContains(server_->err(), "x\\x0a2026-01-01 info");
  })) << server_->err();
  EXPECT_THAT(server_->err(), Not(HasSubstr("\n2026-01-01 info all")));
}

TEST_F(LifecycleTest, EveryLineIsAnObjectWhereTheLogIsJson) {
  Start({"--log_format", "json", "--model", Tiny("tiny")});
  EXPECT_FALSE(Load("other", "/nowhere").ok());
  Stop();
  int lines = 0;
  for (const std::string& text : {server_->out(), server_->err()}) {
    for (const absl::string_view line :
         absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      const auto json = nlohmann::json::parse(std::string(line));
      EXPECT_TRUE(json.contains("time") && json.contains("level") &&
                  json.contains("message"))
          << line;
      ++lines;
    }
  }
  EXPECT_GE(lines, 7);
}

TEST_F(LifecycleTest, AHangUpDrainsLikeTermination) {
  Start();
  server_->Signal(SIGHUP);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
  EXPECT_THAT(server_->err(),
              AllOf(HasSubstr("shutting down"), HasSubstr("stopped")));
}

TEST_F(LifecycleTest, ItsNamesAreTakenAndItIsAliveWhileItLoads) {
  StartListening(Command({}, {"--model", Tiny("first"), "--model",
                              absl::StrCat("hung=", HungModel())}));
  EXPECT_TRUE(IsServing("liveness"));
  EXPECT_FALSE(IsServing(""));
  // What the start will load, what it loads, and what it does not know.
  EXPECT_THAT(Load("hung", testing::kTinyModel),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Load("first", testing::kTinyModel),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(Load("other", testing::kTinyModel).ok());
  EXPECT_TRUE(server_->Running());
  // Before it is ready there is nothing to finish.
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 128 + SIGTERM) << server_->err();
}

TEST_F(LifecycleTest, EndsInTimeWhileALoadHangsInAFileSystem) {
  const std::string hung = HungModel();
  Start({"--model", Tiny("tiny"), "--drain_seconds", "3600"});
  std::thread load([&] { EXPECT_FALSE(Load("hung", hung).ok()); });
  EXPECT_TRUE(WaitUntil([&] {
    v1::GetModelRequest request;
    request.set_name("hung");
    return client_->GetModel(request).ok();
  }));
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
  load.join();
}

TEST_F(LifecycleTest, KeepsGoingWithoutABrokenModelWhereAsked) {
  Start({"--keep-going", "--model", Tiny("tiny"), "--model",
         "broken=/nowhere/at/all"});
  EXPECT_TRUE(Generate(Request("a", 1)).ok());
  EXPECT_TRUE(IsServing(""));
  EXPECT_TRUE(IsServing("models/tiny"));
  EXPECT_FALSE(IsServing("models/broken"));
  EXPECT_THAT(server_->err(), HasSubstr("going on without model 'broken'"));
  EXPECT_TRUE(Load("broken", testing::kTinyModel).ok());
  EXPECT_TRUE(IsServing("models/broken"));
}

TEST_F(LifecycleTest, DoesNotKeepGoingWithNothing) {
  const Finished all =
      RunServer({"--keep_going", "--model", "a=/nowhere", "--model", "b=/no"});
  EXPECT_EQ(all.code, 1);
  EXPECT_THAT(all.err, AllOf(HasSubstr("model 'a'"), HasSubstr("model 'b'")));
  const Finished not_asked =
      RunServer({"--model", Tiny("a"), "--model", "b=/nowhere"});
  EXPECT_EQ(not_asked.code, 1);
  EXPECT_THAT(not_asked.err, HasSubstr("model 'b'"));
}

TEST_F(LifecycleTest, WarnsWhenThereIsNoModel) {
  Start({});
  EXPECT_THAT(server_->err(), HasSubstr("no model is served"));
  EXPECT_TRUE(IsServing(""));
}

TEST_F(LifecycleTest, ItsPortsAreInTheFileOnlyWhileItIsReady) {
  const std::string ports = folder_.WriteFile("ports", "of a killed server");
  const std::vector<std::string> flags = {"--ports_file", ports, "--model",
                                          absl::StrCat("hung=", HungModel())};
  StartListening(Command({}, flags));
  EXPECT_TRUE(WaitUntil([&] { return !std::filesystem::exists(ports); }));
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 128 + SIGTERM);
  EXPECT_FALSE(std::filesystem::exists(absl::StrCat(ports, ".part")));
  unsetenv("LD_PRELOAD");
  Start();
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0);
  EXPECT_FALSE(std::filesystem::exists(ports));
}

TEST_F(LifecycleTest, RefusesAPortsFileBeforeItLoads) {
  for (const std::string path : {"/dev/null", "/tmp", "/nowhere/ports"}) {
    const Finished server =
        RunServer({"--ports_file", path, "--model", "a=/nowhere"});
    EXPECT_EQ(server.code, 1);
    EXPECT_THAT(server.err, AllOf(HasSubstr("--ports_file"), HasSubstr(path),
                                  Not(HasSubstr("model 'a'"))));
  }
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST_F(LifecycleTest, ABusyPortIsOneSentenceBeforeItLoads) {
  Start();
  for (const auto& [flag, address] :
       {std::pair("--listen", inference_), std::pair("--admin_listen", admin_),
        std::pair("--metrics_listen", metrics_)}) {
    std::vector<std::string> command =
        Command({}, {"--model", "a=/nowhere/at/all"});
    *(std::find(command.begin(), command.end(), flag) + 1) = address;
    const Finished server = testing::RunToEnd(command);
    EXPECT_EQ(server.code, 1);
    EXPECT_THAT(server.err,
                AllOf(HasSubstr(address), HasSubstr("address already in use")));
    EXPECT_EQ(std::count(server.err.begin(), server.err.end(), '\n'), 1)
        << server.err;
  }
}

TEST_F(LifecycleTest, SaysWhichLimitOfThreadsItMet) {
  // No limit holds root.
  std::vector<std::string> nobody;
  if (geteuid() == 0) {
    nobody = {"setpriv", "--reuid", "65534", "--clear-groups"};
  }
  for (const std::string limit : {"6", "20"}) {
    std::vector<std::string> command = nobody;
    command.insert(command.end(), {"prlimit", absl::StrCat("--nproc=", limit)});
    std::vector<std::string> check = command;
    check.insert(check.end(), {OUNCE_SERVER_BINARY, "--version"});
    if (testing::RunToEnd(check).code != 0) {
      GTEST_SKIP() << "no program can be run as nobody here";
    }
    const Finished server = testing::RunToEnd(
        Command(command, {"--threads", "12", "--model", Tiny("a")}));
    EXPECT_EQ(server.code, 1) << server.err;
    EXPECT_THAT(server.err,
                AllOf(HasSubstr("threads are needed"),
                      HasSubstr(absl::StrCat(limit, " (ulimit -u)")),
                      Not(HasSubstr("metrics"))));
  }
}

TEST_F(LifecycleTest, WritesItsConfigurationDownForTheNextStart) {
  const std::string file = folder_.WriteFile(
      "first.textproto",
      absl::StrCat("models { name: 'told' path: '", testing::kTinyModel,
                   "' method: 'linear' }\n"
                   "limits { max_new_tokens: 5 }\n"));
  Start({"--config", file, "--threads", "1"});
  EXPECT_TRUE(Load("called", testing::kTinyModel).ok());
  const Finished status = Cli({"status"});
  EXPECT_EQ(status.code, 0) << status.err;
  EXPECT_THAT(status.out,
              AllOf(HasSubstr("version"), HasSubstr("compute threads  1\n")));
  const Finished config = Cli({"config"});
  EXPECT_EQ(config.code, 0) << config.err;
  Stop();
  Start({"--config", folder_.WriteFile("next.textproto", config.out)});
  EXPECT_THAT(Model("told").method(), HasSubstr("linear"));
  EXPECT_EQ(Model("called").state(), v1::MODEL_STATE_READY);
  v1::GenerateRequest request = Request("a", 6);
  request.set_model("told");
  EXPECT_THAT(Generate(request), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Cli({"config"}).out.find("threads: 1") != std::string::npos, true);
}

TEST_F(LifecycleTest, RaisesItsLimitOfOpenFiles) {
  StartListening(Command({"prlimit", "--nofile=256:5000"}, {}));
  rlimit files = {};
  ASSERT_EQ(prlimit(server_->pid(), RLIMIT_NOFILE, nullptr, &files), 0);
  EXPECT_EQ(files.rlim_cur, 5000u);
  EXPECT_THAT(server_->err(), Not(HasSubstr("hard limit")));
  server_->Signal(SIGTERM);
  EXPECT_TRUE(server_->Wait(absl::Minutes(1)).has_value());
  StartListening(Command({"prlimit", "--nofile=256:256"}, {}));
  EXPECT_THAT(server_->err(), HasSubstr("only 256 files may be open"));
}

TEST_F(LifecycleTest, RefusesToStartWithTooFewOpenFiles) {
  const Finished server =
      testing::RunToEnd(Command({"prlimit", "--nofile=10:10"}, {}));
  EXPECT_EQ(server.code, 1) << server.err;
  EXPECT_THAT(server.err, HasSubstr("cannot serve: only 10 files may be open"));
}

TEST_F(LifecycleTest, NoConnectionTakesTheNumberOfAnOutputThatIsClosed) {
  const std::string ports = folder_.Path("ports");
  Process server(Command({"sh", "-c", "exec \"$0\" \"$@\" >&- 2>&-"},
                         {"--model", Tiny("tiny"), "--ports_file", ports}));
  ASSERT_TRUE(WaitUntil([&] { return std::filesystem::exists(ports); }));
  for (const char* number : {"1", "2"}) {
    EXPECT_EQ(std::filesystem::read_symlink(
                  absl::StrCat("/proc/", server.pid(), "/fd/", number)),
              "/dev/null");
  }
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(absl::Minutes(1)), 0);
}

TEST_F(LifecycleTest, SaysWhenItsHelpIsNotWritten) {
  for (const char* flag : {"--help", "--version"}) {
    const Finished full = testing::RunToEnd(
        {"sh", "-c", "exec $0 $1 > /dev/full", OUNCE_SERVER_BINARY, flag});
    EXPECT_EQ(full.code, 1);
    EXPECT_THAT(full.err, HasSubstr("cannot write to stdout: No space left"));
  }
}

}  // namespace
}  // namespace ounce
