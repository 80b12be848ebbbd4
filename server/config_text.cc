#include "server/config_text.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ounce/v1/server_config.pb.h"

namespace ounce::server {
namespace {

// Of a model that loads nothing is known but what the start said of it.
std::string PlanOf(const ModelInfo& info, const Config& config) {
  if (!info.plan.empty()) return info.plan;
  for (const Config::Model& told : config.models) {
    if (told.name == info.name && told.path == info.path) {
      return told.plan.ToString();
    }
  }
  return model::MethodPlan().ToString();
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
    v1::ModelConfig model;
    model.set_name(info.name);
    model.set_path(info.path);
    const std::string plan = PlanOf(info, config);
    if (plan != model::MethodPlan().ToString()) model.set_plan(plan);
    google::protobuf::TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    std::string line;
    printer.PrintToString(model, &line);
    absl::StrAppend(&text, "models { ", line, "}\n");
  }
  return absl::StrCat(text, config.settings);
}

}  // namespace ounce::server
