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
#include "model/files/byte_source.h"
#include "model/files/gguf_file.h"

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

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// As Python's expanduser and expandvars: a variable that is not set stays as it
// is written.
std::string Expanded(std::string_view path) {
  std::string result;
  if (path.starts_with("~/")) {
    result = Variable("HOME");
    path.remove_prefix(1);
  }
  while (!path.empty()) {
    const bool in_braces = path.starts_with("${");
    const size_t begin = in_braces ? 2 : 1;
    size_t end = begin;
    while (end < path.size() && IsNameCharacter(path[end])) ++end;
    if (path.front() == '$' && end > begin &&
        (!in_braces || (end < path.size() && path[end] == '}'))) {
      const std::string name(path.substr(begin, end - begin));
      if (in_braces) ++end;
      const char* value = std::getenv(name.c_str());
      result += value == nullptr ? path.substr(0, end) : value;
      path.remove_prefix(end);
    } else {
      result += path.front();
      path.remove_prefix(1);
    }
  }
  return result;
}

std::string CacheFolder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string cache = Variable(name); !cache.empty()) {
      return Expanded(cache);
    }
  }
  if (const std::string home = Variable("HF_HOME"); !home.empty()) {
    return Expanded(home) + "/hub";
  }
  const std::string xdg = Variable("XDG_CACHE_HOME");
  return Expanded(xdg.empty() ? "~/.cache" : xdg) + "/huggingface/hub";
}

// Says what `location`, a file, is.
absl::Status FileInsteadOfFolder(const std::string& location) {
  if (const auto file = OpenFile(location); file.ok()) {
    std::string head(std::min<int64_t>((*file)->size(), 4), '\0');
    if ((*file)->Read(0, static_cast<int64_t>(head.size()), head.data()).ok() &&
        head == "GGUF") {
      return absl::InvalidArgumentError(absl::StrCat(
          Quoted(location),
          " is a GGUF file, whose name must end with .gguf: rename it"));
    }
  } else if (!absl::IsNotFound(file.status())) {
    return file.status();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(location),
                   " is a file; name a GGUF file, or a folder in Hugging Face "
                   "layout, with config.json, model.safetensors and the "
                   "tokenizer's files"));
}

// The commit that refs/`revision` names.
absl::StatusOr<std::string> ReadRef(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> file, OpenFile(path));
  std::string text(std::min(file->size(), int64_t{64}), '\0');
  RETURN_IF_ERROR(file->Read(0, text.size(), text.data()));
  const std::string commit(absl::StripAsciiWhitespace(text));
  if (!IsCommit(commit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": must be a commit of 40 digits, is ", Quoted(text)));
  }
  return std::string(commit);
}

}  // namespace

absl::StatusOr<std::string> FindModelFolder(std::string_view location) {
  if (IsFolder(std::string(location)) || IsGgufFile(std::string(location))) {
    return std::string(location);
  }
  if (std::error_code ignored;
      std::filesystem::exists(std::string(location), ignored)) {
    return FileInsteadOfFolder(std::string(location));
  }
  if (location.starts_with("~")) {
    return absl::NotFoundError(absl::StrCat(
        "no folder ", Quoted(location),
        "; ~ is the shell's: write the whole path, or $HOME in its place"));
  }

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
                     "org/name@revision; a folder is named by its whole path "
                     "on the server's machine"));
  }

  const std::string cache = CacheFolder();
  const std::string repository =
      absl::StrCat(cache, "/models--", absl::StrJoin(parts, "--"));
  const absl::Status not_cached = absl::NotFoundError(absl::StrCat(
      "no folder ", Quoted(location), ", and no model '", model,
      "' at revision '", revision, "' in the Hugging Face cache ", cache,
      "; a folder is named by its whole path on the server's machine, and "
      "`hf download ",
      model,
      at == std::string_view::npos ? ""
                                   : absl::StrCat(" --revision ", revision),
      "` puts a model into the cache: this server does not download"));
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
