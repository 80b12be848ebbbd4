#include "hub/cache_layout.h"

#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/read_file.h"
#include "base/status_macros.h"

namespace ounce::hub {
namespace {

constexpr size_t kMaxRefBytes = 64;

}  // namespace

std::string RepositoryFolder(const ModelName& name) {
  return absl::StrCat("models--", absl::StrReplaceAll(name.id, {{"/", "--"}}));
}

std::string SnapshotFolder(const std::string& cache, const ModelName& name,
                           std::string_view commit) {
  return StrCat(cache, "/", RepositoryFolder(name), "/snapshots/", commit);
}

std::string RefFile(const std::string& cache, const ModelName& name) {
  return absl::StrCat(cache, "/", RepositoryFolder(name), "/refs/",
                      name.revision);
}

absl::StatusOr<std::string> FindSnapshot(const std::string& cache,
                                         const ModelName& name) {
  const absl::Status not_here = absl::NotFoundError(
      absl::StrCat("no model '", name.id, "' at revision '", name.revision,
                   "' in the Hugging Face cache ", cache));
  std::string commit = name.revision;
  std::error_code ignored;
  if (const std::string ref = RefFile(cache, name);
      std::filesystem::exists(ref, ignored)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(ref, kMaxRefBytes));
    // One that was being written when the power went may be empty.
    if (text.empty()) return not_here;
    commit = std::string(absl::StripAsciiWhitespace(text));
    if (!IsCommit(commit)) {
      return absl::InvalidArgumentError(
          absl::StrCat(ref, ": must be a commit of 40 digits, is '",
                       absl::CHexEscape(text), "'"));
    }
  } else if (!IsCommit(commit)) {
    return not_here;
  }
  const std::string folder = SnapshotFolder(cache, name, commit);
  if (!std::filesystem::is_directory(folder, ignored)) return not_here;
  return folder;
}

}  // namespace ounce::hub
