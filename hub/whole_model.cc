#include "hub/whole_model.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "hub/files.h"
#include "hub/json_fields.h"

namespace ounce::hub {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIndexBytes = 64 << 20;

bool IsThere(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool HasFileEndingIn(const std::string& folder, const char* ending) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string path = it->path().string();
    if (path.ends_with(ending) && IsThere(path)) return true;
  }
  return false;
}

bool HasShards(const std::string& folder, const std::string& index) {
  const absl::StatusOr<std::string> text = ReadFile(index, kMaxIndexBytes);
  if (!text.ok()) return false;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  const auto* const file_of = ObjectIn(json, "weight_map");
  if (file_of == nullptr) return false;
  std::set<std::string> names;
  for (const auto& file : *file_of) {
    if (!file.is_string()) return false;
    names.insert(file.get<std::string>());
  }
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return IsSafePath(name) && IsThere(absl::StrCat(folder, "/", name));
  });
}

}  // namespace

bool HoldsWholeModel(const std::string& folder) {
  if (!IsThere(folder + "/config.json")) {
    return HasFileEndingIn(folder, ".gguf");
  }
  // In the order in which they are looked for when the model is opened.
  for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
    const std::string path = absl::StrCat(folder, "/", name);
    if (IsThere(path)) return true;
    const std::string index = path + ".index.json";
    if (IsThere(index)) return HasShards(folder, index);
  }
  return HasFileEndingIn(folder, ".safetensors");
}

}  // namespace ounce::hub
