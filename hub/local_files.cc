#include "hub/local_files.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "base/status_macros.h"
#include "hub/digest.h"
#include "hub/files.h"

namespace ounce::hub {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFiles = 10'000;

}  // namespace

absl::StatusOr<std::vector<LocalFile>> FilesToPush(const std::string& folder) {
  std::vector<LocalFile> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.')) {
      it.disable_recursion_pending();
      continue;
    }
    std::error_code ignored;
    if (!it->is_regular_file(ignored)) continue;
    const std::string path = it->path().lexically_relative(folder).string();
    if (!IsSafePath(path)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", absl::CHexEscape(path),
                       "': the hub takes names of letters, "
                       "digits and few marks; rename it"));
    }
    const auto size = it->file_size(error);
    if (error) break;
    files.push_back({path, it->path().string(), static_cast<int64_t>(size)});
    if (files.size() > kMaxFiles) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", folder, "' has more than ", kMaxFiles, " files"));
    }
  }
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read '", folder, "': ", error.message()));
  }
  if (files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", folder, "' has no files"));
  }
  std::sort(
      files.begin(), files.end(),
      [](const LocalFile& a, const LocalFile& b) { return a.path < b.path; });
  return files;
}

absl::StatusOr<std::string> ReadUnchanged(const LocalFile& file,
                                          const std::string& git_hash) {
  const auto size = static_cast<size_t>(file.size);
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(file.full, size + 1));
  Digest digest(git_hash, file.size);
  digest.Add(bytes);
  if (bytes.size() != size || digest.Finish() != git_hash) {
    return absl::AbortedError(
        absl::StrCat("'", file.full, "' has changed meanwhile: push again"));
  }
  return bytes;
}

}  // namespace ounce::hub
