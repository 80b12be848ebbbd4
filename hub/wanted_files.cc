#include "hub/wanted_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <functional>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "hub/files.h"

namespace ounce::hub {
namespace {

constexpr const char* kSmallFiles[] = {
    "config.json", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.json", "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    // What quantizing tools leave beside the config.
    "quantize_config.json", "quant_config.json", "quantization_config.json"};

// Of these the first that a repository has any file of.
const std::vector<std::vector<const char*>>& FormsOfWeights() {
  static const auto* const kForms = new std::vector<std::vector<const char*>>{
      {"model.safetensors", "model-*-of-*.safetensors",
       "model.safetensors.index.json"},
      {"*.safetensors"},
      {"pytorch_model.bin", "pytorch_model-*-of-*.bin",
       "pytorch_model.bin.index.json"}};
  return *kForms;
}

bool Fits(const char* pattern, const std::string& path, int flags) {
  return fnmatch(pattern, path.c_str(), flags) == 0;
}

bool IsWeights(const std::string& path) {
  return path.ends_with(".safetensors") || path.ends_with(".bin") ||
         path.ends_with(".gguf");
}

absl::Status NoWeights(const std::vector<std::string>& paths) {
  constexpr size_t kMost = 8;
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (path.ends_with(".gguf") && IsSafePath(path)) files.push_back(path);
  }
  if (files.empty()) {
    return absl::FailedPreconditionError(
        "no weights that could be served: neither .safetensors files nor "
        "pytorch_model.bin nor .gguf");
  }
  const bool more = files.size() > kMost;
  if (more) files.resize(kMost);
  return absl::FailedPreconditionError(
      absl::StrCat("no weights but in GGUF files: choose one by --include: ",
                   absl::StrJoin(files, ", "), more ? ", ..." : ""));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> WantedFiles(
    const std::vector<std::string>& paths,
    const std::vector<std::string>& include) {
  std::set<std::string> wanted;
  const auto take = [&](const char* pattern, int flags) {
    bool any = false;
    for (const std::string& path : paths) {
      if (!IsSafePath(path) || !Fits(pattern, path, flags)) continue;
      wanted.insert(path);
      any = true;
    }
    return any;
  };
  for (const std::string& pattern : include) {
    if (!take(pattern.c_str(), 0)) {
      return absl::NotFoundError(absl::StrCat(
          "--include: no file that could be taken fits '", pattern, "'"));
    }
  }
  const bool chosen = std::any_of(wanted.begin(), wanted.end(), IsWeights);
  for (const char* pattern : kSmallFiles) take(pattern, FNM_PATHNAME);
  if (!chosen) {
    bool any = false;
    for (const auto& form : FormsOfWeights()) {
      for (const char* pattern : form) any |= take(pattern, FNM_PATHNAME);
      if (any) break;
    }
    if (!any) return NoWeights(paths);
  }
  return std::vector<std::string>(wanted.begin(), wanted.end());
}

}  // namespace ounce::hub
