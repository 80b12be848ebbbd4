// Programs that a test starts: with posix_spawn, because gRPC does not survive
// a fork.
#ifndef OUNCE_TESTS_E2E_PROCESS_H_
#define OUNCE_TESTS_E2E_PROCESS_H_

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "tests/testing/temp_folder.h"

namespace ounce::testing {

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// Ownership: the destructor kills it if it still runs.
class Process {
 public:
  // args[0] is the program, found by PATH; its stdin is `input`.
  Process(const std::vector<std::string>& args, const std::string& input = "") {
    std::vector<char*> argv;
    for (const std::string& arg : args) {
      argv.push_back(const_cast<char*>(arg.c_str()));
    }
    argv.push_back(nullptr);
    const std::string in = folder_.WriteFile("in", input);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
    const std::string out = folder_.Path("out"), err = folder_.Path("err");
    constexpr int kNew = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&files, 1, out.c_str(), kNew, 0600);
    posix_spawn_file_actions_addopen(&files, 2, err.c_str(), kNew, 0600);
    const int error = posix_spawnp(&pid_, args[0].c_str(), &files, nullptr,
                                   argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    OUNCE_CHECK(error == 0, "the program could not be started");
  }

  ~Process() {
    if (code_.has_value()) return;
    kill(pid_, SIGKILL);
    Wait(absl::Seconds(10));
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal) { kill(pid_, signal); }
  bool Running() { return !Wait(absl::ZeroDuration()).has_value(); }

  // The exit status, or 128 + signal; nothing when it runs longer.
  std::optional<int> Wait(absl::Duration timeout) {
    const absl::Time deadline = absl::Now() + timeout;
    while (!code_.has_value()) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        code_ =
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      } else if (absl::Now() >= deadline) {
        return std::nullopt;
      } else {
        absl::SleepFor(absl::Milliseconds(2));
      }
    }
    return code_;
  }

  // What it has written so far.
  std::string out() const { return ReadFile(folder_.Path("out")); }
  std::string err() const { return ReadFile(folder_.Path("err")); }

 private:
  const TempFolder folder_;
  pid_t pid_ = -1;
  std::optional<int> code_;
};

struct Finished {
  int code = -1;  // -1: it took more than a minute
  std::string out;
  std::string err;
};

inline Finished RunToEnd(const std::vector<std::string>& args,
                         const std::string& input = "") {
  Process process(args, input);
  const int code = process.Wait(absl::Minutes(1)).value_or(-1);
  return {code, process.out(), process.err()};
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_E2E_PROCESS_H_
