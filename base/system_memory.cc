#include "base/system_memory.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ounce {
namespace {

// What version 1 says where there is no limit is some multiple of a page near
// 2^63; nobody has as much.
constexpr int64_t kNoLimit = int64_t{1} << 62;

// The names of one version's files.
struct Version {
  const char* limit;
  const char* soft_limit;  // reclaims hard above it; null: none
  const char* usage;
  const char* active_file;  // keys of memory.stat
  const char* inactive_file;
};
constexpr Version kVersion1 = {"memory.limit_in_bytes", nullptr,
                               "memory.usage_in_bytes", "total_active_file",
                               "total_inactive_file"};
constexpr Version kVersion2 = {"memory.max", "memory.high", "memory.current",
                               "active_file", "inactive_file"};

// Nothing for a file that isn't there or begins with no number ("max").
std::optional<int64_t> NumberIn(const std::string& path) {
  std::ifstream in(path);
  std::string word;
  int64_t number = 0;
  if (!(in >> word) || !absl::SimpleAtoi(word, &number) || number < 0) {
    return std::nullopt;
  }
  return number;
}

// Lines of "key number ...", with or without a colon.
std::map<std::string, int64_t> NumbersIn(const std::string& path) {
  std::map<std::string, int64_t> numbers;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t number = 0;
    if (!(words >> key >> number)) continue;
    if (key.back() == ':') key.pop_back();
    numbers[key] = number;
  }
  return numbers;
}

int64_t Get(const std::map<std::string, int64_t>& numbers, const char* key) {
  const auto found = numbers.find(key);
  return found == numbers.end() ? 0 : found->second;
}

// A mounted hierarchy that counts memory.
struct Hierarchy {
  const Version* version;
  std::string mount_point;
  std::string mount_root;  // the group that the mount point shows
};

std::vector<Hierarchy> MemoryHierarchies(const std::string& root) {
  std::vector<Hierarchy> found;
  std::ifstream in(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 5 || words.end() - dash < 4) continue;
    const std::string& type = dash[1];
    const std::vector<std::string> options = absl::StrSplit(dash[3], ',');
    const bool counts_memory =
        std::find(options.begin(), options.end(), "memory") != options.end();
    if (type != "cgroup2" && !(type == "cgroup" && counts_memory)) continue;
    found.push_back({type == "cgroup2" ? &kVersion2 : &kVersion1, words[4],
                     words[3] == "/" ? "" : words[3]});
  }
  return found;
}

// The group of this process in such a hierarchy: "/a/b", "" for its root.
std::optional<std::string> OwnGroup(const std::string& root,
                                    const Version& version) {
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    const bool is_it = &version == &kVersion2
                           ? parts[0] == "0"
                           : std::find(controllers.begin(), controllers.end(),
                                       "memory") != controllers.end();
    if (is_it) return parts[2] == "/" ? "" : parts[2];
  }
  return std::nullopt;
}

void Narrow(const std::string& folder, const Version& version,
            SystemMemory* memory) {
  const std::map<std::string, int64_t> stat =
      NumbersIn(folder + "/memory.stat");
  int64_t limit =
      NumberIn(absl::StrCat(folder, "/", version.limit)).value_or(kNoLimit);
  if (version.soft_limit != nullptr) {
    limit =
        std::min(limit, NumberIn(absl::StrCat(folder, "/", version.soft_limit))
                            .value_or(kNoLimit));
  }
  if (const int64_t above = Get(stat, "hierarchical_memory_limit"); above > 0) {
    limit = std::min(limit, above);
  }
  if (limit >= kNoLimit) return;
  if (limit < memory->limit_bytes) {
    memory->limit_bytes = limit;
    memory->limit_is_cgroup = true;
  }
  const std::optional<int64_t> usage =
      NumberIn(absl::StrCat(folder, "/", version.usage));
  if (!usage.has_value()) return;
  const int64_t cache =
      Get(stat, version.active_file) + Get(stat, version.inactive_file);
  const int64_t used = std::max<int64_t>(0, *usage - cache);
  memory->available_bytes =
      std::min(memory->available_bytes, std::max<int64_t>(0, limit - used));
}

}  // namespace

SystemMemory ReadSystemMemory(const std::string& root) {
  SystemMemory memory;
  const std::map<std::string, int64_t> machine =
      NumbersIn(root + "/proc/meminfo");
  if (const int64_t total = Get(machine, "MemTotal"); total > 0) {
    memory.limit_bytes = total * 1024;
  }
  if (machine.contains("MemAvailable")) {
    memory.available_bytes = Get(machine, "MemAvailable") * 1024;
  }
  for (const Hierarchy& hierarchy : MemoryHierarchies(root)) {
    const std::optional<std::string> group = OwnGroup(root, *hierarchy.version);
    if (!group.has_value()) continue;
    // Below the mounted group, if it is; in a container that sees only its own
    // groups, the mount point is what it is in.
    std::string path;
    if (group->starts_with(hierarchy.mount_root + "/")) {
      path = group->substr(hierarchy.mount_root.size());
    }
    while (true) {
      Narrow(absl::StrCat(root, hierarchy.mount_point, path),
             *hierarchy.version, &memory);
      if (path.empty()) break;
      path.resize(path.rfind('/'));
    }
  }
  return memory;
}

}  // namespace ounce
