// What the command line's commands share.
#ifndef OUNCE_CLIENT_COMMAND_H_
#define OUNCE_CLIENT_COMMAND_H_

#include <CLI/CLI.hpp>
#include <cerrno>
#include <functional>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/json.h"
#include "client/output.h"

namespace ounce::client {

// How the program ends, 0 apart.
inline constexpr int kWrongUsage = 2;
inline constexpr int kRefused = 3;
inline constexpr int kFailed = 4;

int ExitCode(const absl::Status& status);

// A message, which may quote what a checkpoint or a file name holds, as text
// that nobody vouches for (report.h); its lines stay lines.
std::string PrintableLines(absl::string_view text);

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
void AddSaveCommand(CLI::App& app, Command* command);
void AddEvaluateCommand(CLI::App& app, Command* command);
void AddCompareCommand(CLI::App& app, Command* command);
void AddInspectCommand(CLI::App& app, Command* command);
void AddHealthCommand(CLI::App& app, Command* command);
void AddServerCommands(CLI::App& app, Command* command);
void AddTokenCommand(CLI::App& app, Command* command);
void AddHubCommands(CLI::App& app, Command* command);
void AddTopCommand(CLI::App& app, Command* command);
void AddCompletionCommand(CLI::App& app, Command* command);

// The text that an argument stands for: itself, or all of stdin for "-". On a
// terminal, says that it waits for `what`.
// Errors: what read(2) says; kResourceExhausted above 64 MiB.
absl::StatusOr<std::string> TextOrStdin(const std::string& argument,
                                        const std::string& what);

// "; code still serves version 1 (float16)": what the server says about a model
// after a change to it that did not come to its end; empty when it can't tell.
std::string StillServes(const Client& client, const std::string& model);

// By the monotonic clock.
void Wait(absl::Duration duration);

// For 20 ms, before the server is asked again: it needs a moment to notice that
// a call is cancelled.
void WaitAMoment();

// Prints the response as JSON or by `print`, to std::cout.
template <class Response, class Printer>
int Show(const absl::StatusOr<Response>& response, bool json, Printer print) {
  if (!response.ok()) return Report(response.status());
  if (json) return Report(Print(JsonLine(ToJson(*response))));
  errno = 0;
  print(*response);
  return Report(FlushOutput());
}

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COMMAND_H_
