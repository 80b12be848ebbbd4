// pull.
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/transfer_lines.h"
#include "hub/environment.h"
#include "hub/hooks.h"
#include "hub/model_name.h"
#include "hub/pull.h"

namespace ounce::client {
namespace {

constexpr char kEnvironment[] =
    "Environment, as for Hugging Face's own tools: HF_ENDPOINT, HF_TOKEN (or "
    "the file\n"
    "HF_TOKEN_PATH, else HF_HOME/token), HF_HOME, HF_HUB_CACHE, "
    "HF_HUB_OFFLINE, and the\n"
    "proxies http_proxy, https_proxy and no_proxy.\n";

struct PullFlags {
  std::string model;
  std::vector<std::string> include;
  std::string into;
  int connections = 4;
};

nlohmann::ordered_json AsJson(const std::string& model,
                              const hub::Pulled& pulled) {
  nlohmann::ordered_json json = {{"model", model},
                                 {"commit", pulled.commit},
                                 {"folder", pulled.folder},
                                 {"files", nlohmann::ordered_json::array()}};
  for (const hub::FileProgress& file : pulled.files) {
    json["files"].push_back(nlohmann::ordered_json{
        {"path", file.path}, {"bytes", file.bytes}, {"new", !file.was_there}});
  }
  return json;
}

// "3 files, 257 MiB (1 was there)".
std::string Summary(const std::vector<hub::FileProgress>& files) {
  int64_t bytes = 0;
  int there = 0;
  for (const hub::FileProgress& file : files) {
    bytes += file.bytes;
    if (file.was_there) ++there;
  }
  return absl::StrCat(
      files.size(), files.size() == 1 ? " file, " : " files, ",
      FormatByteSize(bytes),
      there == 0 ? ""
                 : absl::StrCat(" (", there, there == 1 ? " was" : " were",
                                " there)"));
}

int PullModel(const PullFlags& flags, bool json) {
  const std::optional<hub::ModelName> name = hub::ParseModelName(flags.model);
  if (!name.has_value()) {
    return Report(absl::InvalidArgumentError(
        absl::StrCat("'", flags.model,
                     "' is no model's name of the form org/name or "
                     "org/name@revision")));
  }
  const absl::StatusOr<hub::Environment> environment = hub::ReadEnvironment();
  if (!environment.ok()) return Report(environment.status());
  TransferLines lines;
  const absl::StatusOr<hub::Pulled> pulled = hub::Pull(
      *environment, {*name, flags.include, flags.into, flags.connections},
      hub::Hooks(),
      [&](const hub::Progress& progress) { lines.Show(progress); });
  lines.End();
  if (!pulled.ok()) return Report(pulled.status());
  if (json) return Report(Print(JsonLine(AsJson(flags.model, *pulled))));
  if (!pulled->files.empty()) {
    std::cerr << flags.model << ": " << Summary(pulled->files) << std::endl;
  }
  return Report(Print(pulled->folder + "\n"));
}

}  // namespace

void AddHubCommands(CLI::App& app, Command* command) {
  const auto flags = std::make_shared<PullFlags>();
  auto* pull = app.add_subcommand(
      "pull", "Download a model from the Hugging Face hub; asks no server");
  pull->add_option("MODEL", flags->model, "ORG/NAME or ORG/NAME@REVISION")
      ->required()
      ->type_name("");
  pull->add_option("--include", flags->include,
                   "Files to take besides what serves the model; if these\n"
                   "are weights, in place of the others: '*Q4_K_M.gguf'")
      ->type_name("GLOB")
      ->allow_extra_args(false)
      ->check(NotEmpty("a pattern"));
  pull->add_option("--into", flags->into,
                   "A folder for plain files [the Hugging Face cache]; once\n"
                   "it is finished, it is left alone")
      ->type_name("DIR")
      ->check(NotEmpty("a folder"));
  pull->add_option("--connections", flags->connections,
                   "How many files come at once [4]")
      ->type_name("N")
      ->transform(WholeNumber(16));
  PutAboveFooter(
      pull,
      absl::StrCat("Prints the folder. What is there already is not fetched "
                   "again, what broke off\n"
                   "goes on where it ended, and every file is held against "
                   "its hash.\n\n",
                   kEnvironment));
  pull->callback([flags, command] {
    *command = [flags](Client&, bool json) { return PullModel(*flags, json); };
  });
}

}  // namespace ounce::client
