#include "server/config_text.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ounce/v1/server_config.pb.h"

namespace ounce::server {
namespace {

const Config::Model* Told(const Config& config, const ModelInfo& model) {
  for (const Config::Model& told : config.models) {
    if (told.name == model.name && told.path == model.path &&
        model.version <= 1) {
      return &told;
    }
  }
  return nullptr;
}

// " with include 'a', 'b'", on the line of a comment.
std::string Globs(const char* name, const std::vector<std::string>& globs) {
  if (globs.empty()) return "";
  std::vector<std::string> quoted;
  quoted.reserve(globs.size());
  for (const std::string& glob : globs) {
    quoted.push_back(absl::StrCat("'", absl::CHexEscape(glob), "'"));
  }
  return absl::StrCat(", ", name, " ", absl::StrJoin(quoted, ", "));
}

}  // namespace

std::string ConfigText(const Config& config,
                       const std::vector<ModelInfo>& models) {
  std::string text =
      "# proto-file: proto/ounce/v1/server_config.proto\n"
      "# proto-message: ounce.v1.ServerConfig\n";
  if (std::any_of(models.begin(), models.end(), [](const ModelInfo& model) {
        return !absl::StartsWith(model.path, "/");
      })) {
    std::error_code error;
    const std::string folder = std::filesystem::current_path(error).string();
    absl::StrAppend(&text, "# Paths of folders are relative to '",
                    absl::CHexEscape(folder), "'.\n");
  }
  for (const ModelInfo& info : models) {
    if (info.state == ModelState::kUnloading) continue;
    const Config::Model* told = Told(config, info);
    v1::ModelConfig model;
    model.set_name(info.name);
    model.set_path(info.path);
    model.set_method(told != nullptr ? told->method : info.method);
    model.set_convolutions(told != nullptr ? told->convolutions
                                           : info.convolutions);
    google::protobuf::TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    std::string line;
    printer.PrintToString(model, &line);
    if (!info.include.empty() || !info.exclude.empty()) {
      absl::StrAppend(
          &text, "# Quantized by a call", Globs("include", info.include),
          Globs("exclude", info.exclude), ": repeat the call after a start.\n");
    }
    absl::StrAppend(&text, "models { ", line, "}\n");
  }
  return absl::StrCat(text, config.settings);
}

}  // namespace ounce::server
