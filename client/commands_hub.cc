// pull, push.
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/transfer_lines.h"
#include "hub/environment.h"
#include "hub/hooks.h"
#include "hub/model_name.h"
#include "hub/pull.h"
#include "hub/push.h"

namespace ounce::client {
namespace {

constexpr char kEnvironment[] =
    "Environment, as for Hugging Face's own tools: HF_ENDPOINT, HF_TOKEN (or "
    "the file\n"
    "HF_TOKEN_PATH, else HF_HOME/token), HF_HOME, HF_HUB_CACHE, "
    "HF_HUB_OFFLINE, and the\n"
    "proxies http_proxy, https_proxy and no_proxy.\n";

constexpr uint64_t kMaxConnections = 16;

struct PullFlags {
  std::string model;
  std::vector<std::string> include;
  std::string into;
  int connections = 4;
};

struct PushFlags {
  std::string folder;
  std::string model;
  std::string message = "Upload by Ounce";
  bool is_private = false;
  int connections = 4;
};

nlohmann::ordered_json AsJson(const std::vector<hub::FileProgress>& files) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const hub::FileProgress& file : files) {
    json.push_back(nlohmann::ordered_json{
        {"path", file.path}, {"bytes", file.bytes}, {"new", !file.was_there}});
  }
  return json;
}

// Errors: kInvalidArgument for what is no name.
absl::StatusOr<hub::ModelName> ReadName(const std::string& text) {
  std::optional<hub::ModelName> name = hub::ParseModelName(text);
  if (name.has_value()) return *std::move(name);
  return absl::InvalidArgumentError(
      absl::StrCat("'", text,
                   "' is no model's name of the form org/name or "
                   "org/name@revision"));
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

absl::StatusOr<hub::Pulled> PullModel(const PullFlags& flags) {
  ASSIGN_OR_RETURN(const hub::ModelName name, ReadName(flags.model));
  ASSIGN_OR_RETURN(const hub::Environment environment, hub::ReadEnvironment());
  TransferLines lines;
  absl::StatusOr<hub::Pulled> pulled = hub::Pull(
      environment, {name, flags.include, flags.into, flags.connections},
      hub::Hooks(),
      [&](const hub::Progress& progress) { lines.Show(progress); });
  lines.End();
  return pulled;
}

int RunPull(const PullFlags& flags, bool json) {
  const absl::StatusOr<hub::Pulled> pulled = PullModel(flags);
  if (!pulled.ok()) return Report(pulled.status());
  if (json) {
    return Report(Print(
        JsonLine(nlohmann::ordered_json{{"model", flags.model},
                                        {"commit", pulled->commit},
                                        {"folder", pulled->folder},
                                        {"files", AsJson(pulled->files)}})));
  }
  if (!pulled->files.empty()) {
    std::cerr << flags.model << ": " << Summary(pulled->files) << std::endl;
  }
  return Report(Print(pulled->folder + "\n"));
}

absl::StatusOr<hub::Pushed> PushModel(const PushFlags& flags) {
  ASSIGN_OR_RETURN(const hub::ModelName name, ReadName(flags.model));
  ASSIGN_OR_RETURN(const hub::Environment environment, hub::ReadEnvironment());
  TransferLines lines;
  absl::StatusOr<hub::Pushed> pushed = hub::Push(
      environment,
      {flags.folder, name, flags.is_private, flags.message, flags.connections},
      hub::Hooks(),
      [&](const hub::Progress& progress) { lines.Show(progress); });
  lines.End();
  return pushed;
}

int RunPush(const PushFlags& flags, bool json) {
  const absl::StatusOr<hub::Pushed> pushed = PushModel(flags);
  if (!pushed.ok()) return Report(pushed.status());
  if (json) {
    return Report(Print(
        JsonLine(nlohmann::ordered_json{{"model", flags.model},
                                        {"commit", pushed->commit},
                                        {"page", pushed->page},
                                        {"files", AsJson(pushed->files)}})));
  }
  std::cerr << flags.model << ": " << Summary(pushed->files)
            << (pushed->commit.empty() ? "; nothing had changed" : "")
            << std::endl;
  return Report(Print(pushed->page + "\n"));
}

void AddPull(CLI::App& app, Command* command) {
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
      ->transform(WholeNumber(kMaxConnections));
  PutAboveFooter(
      pull,
      absl::StrCat("Prints the folder. What is there already is not fetched "
                   "again, what broke off\n"
                   "goes on where it ended, and every file is held against "
                   "its hash.\n\n",
                   kEnvironment));
  pull->callback([flags, command] {
    *command = [flags](Client&, bool json) { return RunPull(*flags, json); };
  });
}

void AddPush(CLI::App& app, Command* command) {
  const auto flags = std::make_shared<PushFlags>();
  auto* push = app.add_subcommand(
      "push", "Upload a folder to the Hugging Face hub; asks no server");
  push->add_option("DIR", flags->folder, "Whose files, but hidden ones")
      ->required()
      ->type_name("")
      ->check(NotEmpty("a folder"));
  push->add_option("MODEL", flags->model, "ORG/NAME or ORG/NAME@BRANCH")
      ->required()
      ->type_name("");
  push->add_flag("--private", flags->is_private,
                 "Make it private; refused where it is there and public");
  push->add_option("--message", flags->message,
                   "What the commit is about [Upload by Ounce]")
      ->type_name("TEXT")
      ->check(NotEmpty("a message"));
  push->add_option("--connections", flags->connections,
                   "How many large files go at once [4]")
      ->type_name("N")
      ->transform(WholeNumber(kMaxConnections));
  PutAboveFooter(
      push,
      absl::StrCat("Prints the model's page. Files are sent in one commit; "
                   "those that the hub has\n"
                   "are not sent again, so what broke off is begun again by "
                   "the same command.\n\n",
                   kEnvironment));
  push->callback([flags, command] {
    *command = [flags](Client&, bool json) { return RunPush(*flags, json); };
  });
}

}  // namespace

void AddHubCommands(CLI::App& app, Command* command) {
  AddPull(app, command);
  AddPush(app, command);
}

}  // namespace ounce::client
