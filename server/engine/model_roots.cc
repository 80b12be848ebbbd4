#include "server/engine/model_roots.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "model/checkpoint/hub_cache.h"
#include "model/files/byte_source.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

namespace fs = std::filesystem;

// Whether `path`, without links, is `root` or lies under it; a root that is not
// there has nothing under it.
bool IsUnder(const fs::path& path, const std::string& root) {
  std::error_code error;
  const fs::path folder = fs::canonical(root, error);
  if (error) return false;
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end())
             .first == folder.end();
}

// "org/name[@revision]" and the like, for all that may be said without looking.
bool MayBeInCache(const std::string& location) {
  const fs::path path = location;
  return path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) {
           return part == ".." || part == ".";
         });
}

}  // namespace

absl::Status ModelRoots::Denied(const std::string& location) const {
  return AboutField(
      Refusal(Reason::kPathNotAllowed,
              absl::StrCat("path: ", model::Quoted(location),
                           " is not, or not with all its files, under "
                           "--model_roots ",
                           absl::StrJoin(folders_, ","),
                           "; load from there, or add its folder")),
      "path");
}

bool ModelRoots::Holds(const std::string& folder) const {
  std::error_code error;
  const fs::path path = fs::weakly_canonical(fs::absolute(folder), error);
  return folders_.empty() ||
         (!error && std::any_of(folders_.begin(), folders_.end(),
                                [&](const std::string& root) {
                                  return IsUnder(path, root);
                                }));
}

absl::StatusOr<std::string> ModelRoots::Resolve(
    const std::string& location) const {
  if (folders_.empty()) return location;
  const auto allowed = [&](const fs::path& path) {
    return std::any_of(
        folders_.begin(), folders_.end(),
        [&](const std::string& root) { return IsUnder(path, root); });
  };
  std::error_code error;
  const bool is_here = fs::exists(location, error);
  if (is_here || error || !MayBeInCache(location)) {
    // Before anything is said of what is there.
    const fs::path path = fs::weakly_canonical(fs::absolute(location), error);
    if (error || !allowed(path)) return Denied(location);
  }
  const absl::StatusOr<std::string> found = model::FindModelFolder(location);
  if (absl::IsNotFound(found.status())) {
    return absl::NotFoundError(absl::StrCat(
        found.status().message(), "; calls load from under --model_roots ",
        absl::StrJoin(folders_, ",")));
  }
  RETURN_IF_ERROR(found.status());
  const fs::path folder = fs::canonical(*found, error);
  if (error || !allowed(folder)) return Denied(location);
  // A GGUF file is a model by itself, under its own name (in the hub's cache it
  // is a link to a blob without its end); parts of one lie beside it.
  const bool is_file = fs::is_regular_file(folder, error);
  const fs::path named = fs::absolute(*found).lexically_normal();
  // Files of the hub's cache are links to its blobs.
  for (fs::directory_iterator it(is_file ? named.parent_path() : folder, error),
       end;
       !error && it != end; it.increment(error)) {
    std::error_code lost;  // a link to nowhere
    if (is_file && it->path().extension() != ".gguf") continue;
    const fs::path file = fs::weakly_canonical(it->path(), lost);
    if (lost || !allowed(file)) return Denied(location);
  }
  if (error) return Denied(location);
  return is_file ? named.string() : folder.string();
}

}  // namespace ounce::server
