// What the command line's commands share.
#ifndef OUNCE_CLIENT_COMMAND_H_
#define OUNCE_CLIENT_COMMAND_H_

#include <google/protobuf/message.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"

namespace ounce::client {

// How the program ends, 0 apart.
inline constexpr int kWrongUsage = 2;
inline constexpr int kRefused = 3;
inline constexpr int kFailed = 4;

int ExitCode(const absl::Status& status);

// One line on stderr, in red on a terminal, unless all is well. Returns the
// exit code.
int Report(const absl::Status& status);

// A command with its flags, run after parsing; returns the exit code, and has
// told of errors by then.
using Command = std::function<int(Client&, bool json)>;

// Each adds the subcommands of its file, which set `command` when they are
// parsed.
void AddTextCommands(CLI::App& app, Command* command);
void AddDetectCommand(CLI::App& app, Command* command);
void AddModelCommands(CLI::App& app, Command* command);
void AddQuantizeCommand(CLI::App& app, Command* command);
void AddHealthCommand(CLI::App& app, Command* command);

// On one line. Fields with their defaults are left out unless `whole`.
std::string ToJson(const google::protobuf::Message& message,
                   bool whole = false);

// Prints the response as JSON or by `print`.
template <class Response, class Print>
int Show(const absl::StatusOr<Response>& response, bool json, Print print) {
  if (!response.ok()) return Report(response.status());
  if (json) {
    std::cout << ToJson(*response) << std::endl;
  } else {
    print(*response);
  }
  return 0;
}

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COMMAND_H_
