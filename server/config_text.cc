#include "server/config_text.h"

#include <google/protobuf/text_format.h>

#include "absl/strings/str_cat.h"
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

}  // namespace

std::string ConfigText(const Config& config,
                       const std::vector<ModelInfo>& models) {
  std::string text =
      "# proto-file: proto/ounce/v1/server_config.proto\n"
      "# proto-message: ounce.v1.ServerConfig\n";
  for (const ModelInfo& info : models) {
    if (info.state == ModelState::kUnloading) continue;
    const Config::Model* told = Told(config, info);
    v1::ModelConfig model;
    model.set_name(info.name);
    model.set_path(info.path);
    model.set_method(told != nullptr ? told->method : info.method);
    model.set_convolutions(told != nullptr && told->convolutions);
    google::protobuf::TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    std::string line;
    printer.PrintToString(model, &line);
    if (told == nullptr) {
      absl::StrAppend(&text,
                      "# By a call: without its include, exclude and "
                      "convolutions.\n");
    }
    absl::StrAppend(&text, "models { ", line, "}\n");
  }
  return absl::StrCat(text, config.settings);
}

}  // namespace ounce::server
