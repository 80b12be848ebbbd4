#include "model/checkpoint/hub_cache.h"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "model/checkpoint/byte_source.h"

namespace ounce::model {
namespace {

constexpr size_t kMaxNameBytes = 96;  // the hub's own limit

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

// One part of a model's or revision's name: it can neither leave its folder nor
// be taken for an option of a command line.
bool IsPlainName(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  if (text.front() == '.' || text.front() == '-') return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '_' && c != '-') {
      return false;
    }
  }
  return true;
}

bool IsCommit(std::string_view text) {
  if (text.size() != 40) return false;
  for (const char c : text) {
    if (!absl::ascii_isxdigit(c)) return false;
  }
  return true;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string CacheFolder() {
  std::string folder = Variable("HF_HUB_CACHE");
  if (folder.empty()) {
    if (const std::string home = Variable("HF_HOME"); !home.empty()) {
      folder = home + "/hub";
    } else if (const std::string xdg = Variable("XDG_CACHE_HOME");
               !xdg.empty()) {
      folder = xdg + "/huggingface/hub";
    } else {
      folder = "~/.cache/huggingface/hub";
    }
  }
  if (folder.starts_with("~/")) {
    folder = Variable("HOME") + folder.substr(1);
  }
  return folder;
}

// The commit that refs/`revision` names.
absl::StatusOr<std::string> ReadRef(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> file, OpenFile(path));
  std::string text(std::min(file->size(), int64_t{64}), '\0');
  RETURN_IF_ERROR(file->Read(0, text.size(), text.data()));
  const std::string commit(absl::StripAsciiWhitespace(text));
  if (!IsCommit(commit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", Quoted(text), " found, a commit of 40 digits wanted"));
  }
  return std::string(commit);
}

}  // namespace

absl::StatusOr<std::string> FindModelFolder(std::string_view location) {
  if (IsFolder(std::string(location))) return std::string(location);

  const size_t at = location.find('@');
  const std::string model(location.substr(0, at));
  const std::string revision(
      at == std::string_view::npos ? "main" : location.substr(at + 1));
  const std::vector<std::string> parts = absl::StrSplit(model, '/');
  bool well_formed = parts.size() <= 2;
  for (const std::string& part : parts) {
    well_formed = well_formed && IsPlainName(part);
  }
  const std::vector<std::string> revision_parts = absl::StrSplit(revision, '/');
  for (const std::string& part : revision_parts) {
    well_formed = well_formed && IsPlainName(part);
  }
  if (!well_formed) {
    return absl::NotFoundError(
        absl::StrCat("no folder ", Quoted(location),
                     ", nor is that a model's name of the form org/name or "
                     "org/name@revision"));
  }

  const std::string cache = CacheFolder();
  const std::string repository =
      absl::StrCat(cache, "/models--", absl::StrJoin(parts, "--"));
  const absl::Status not_cached = absl::NotFoundError(absl::StrCat(
      "no folder ", Quoted(location), ", and no model '", model,
      "' at revision '", revision, "' in the Hugging Face cache ", cache,
      "; this server does not download: `hf download ", model,
      at == std::string_view::npos ? ""
                                   : absl::StrCat(" --revision ", revision),
      "` fills the cache"));
  absl::StatusOr<std::string> commit =
      ReadRef(absl::StrCat(repository, "/refs/", revision));
  if (absl::IsNotFound(commit.status())) {
    if (!IsCommit(revision)) return not_cached;
    commit = revision;
  }
  RETURN_IF_ERROR(commit.status());
  const std::string snapshot = absl::StrCat(repository, "/snapshots/", *commit);
  if (!IsFolder(snapshot)) return not_cached;
  return snapshot;
}

}  // namespace ounce::model
