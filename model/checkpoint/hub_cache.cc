#include "model/checkpoint/hub_cache.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/str_cat.h"
#include "hub/cache_layout.h"
#include "hub/environment.h"
#include "hub/model_name.h"
#include "model/files/byte_source.h"
#include "model/files/gguf_file.h"

namespace ounce::model {
namespace {

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
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

  const std::optional<hub::ModelName> name = hub::ParseModelName(location);
  if (!name.has_value()) {
    return absl::NotFoundError(
        absl::StrCat("no folder ", Quoted(location),
                     ", nor is that a model's name of the form org/name or "
                     "org/name@revision; a folder is named by its whole path "
                     "on the server's machine"));
  }
  absl::StatusOr<std::string> snapshot =
      hub::FindSnapshot(hub::CacheFolder(), *name);
  if (!absl::IsNotFound(snapshot.status())) return snapshot;
  return absl::NotFoundError(absl::StrCat(
      "no folder ", Quoted(location), ", and ", snapshot.status().message(),
      "; a folder is named by its whole path on the server's machine, and "
      "`ounce pull ",
      ToAbsl(location), "` or `hf download ", name->id,
      name->revision_given ? absl::StrCat(" --revision ", name->revision) : "",
      "` there puts a model into the cache, and a server with --pull what it "
      "loads"));
}

}  // namespace ounce::model
