// A control group of a test's own, in which a program has so much memory and no
// more, as in a container.
#ifndef OUNCE_TESTS_TESTING_MEMORY_CGROUP_H_
#define OUNCE_TESTS_TESTING_MEMORY_CGROUP_H_

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace ounce::testing {

// Ownership: the destructor removes it; what runs in it must have ended.
class MemoryCgroup {
 public:
  // Inside the group of this process, version 1 or 2. Null where none may be
  // made: no privilege, or a machine without them.
  static std::unique_ptr<MemoryCgroup> Create(int64_t bytes) {
    struct Place {
      std::string parent;
      const char* limit;
      const char* swap;
    };
    std::vector<Place> places;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
      const std::vector<std::string> parts =
          absl::StrSplit(line, absl::MaxSplits(':', 2));
      if (parts.size() != 3) continue;
      if (parts[0] == "0") {
        places.push_back(
            {"/sys/fs/cgroup" + parts[2], "memory.max", "memory.swap.max"});
      } else if (parts[1] == "memory") {
        places.push_back({"/sys/fs/cgroup/memory" + parts[2],
                          "memory.limit_in_bytes",
                          "memory.memsw.limit_in_bytes"});
      }
    }
    for (const Place& place : places) {
      const std::string folder =
          absl::StrCat(place.parent, "/ounce_test_", getpid());
      std::error_code error;
      if (!std::filesystem::create_directory(folder, error) || error) continue;
      std::unique_ptr<MemoryCgroup> group(new MemoryCgroup(folder));
      if (!std::filesystem::exists(folder + "/" + place.limit)) continue;
      Write(folder + "/" + place.limit, absl::StrCat(bytes));
      // Without swap it is as small as it says.
      Write(folder + "/" + place.swap,
            absl::string_view(place.swap) == "memory.swap.max"
                ? "0"
                : absl::StrCat(bytes));
      if (Read(folder + "/" + place.limit) == absl::StrCat(bytes)) return group;
    }
    return nullptr;
  }

  ~MemoryCgroup() {
    // The kernel takes a moment after the last process has gone.
    for (int i = 0; i < 1000 && rmdir(folder_.c_str()) != 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  MemoryCgroup(const MemoryCgroup&) = delete;
  MemoryCgroup& operator=(const MemoryCgroup&) = delete;

  // What comes before a command line that is to run inside.
  std::vector<std::string> Runner() const {
    return {"/bin/sh", "-c", "echo $$ > \"$0\" && exec \"$@\"",
            folder_ + "/cgroup.procs"};
  }

 private:
  explicit MemoryCgroup(std::string folder) : folder_(std::move(folder)) {}

  static void Write(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  static std::string Read(const std::string& path) {
    std::string word;
    std::ifstream(path) >> word;
    return word;
  }

  const std::string folder_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_MEMORY_CGROUP_H_
