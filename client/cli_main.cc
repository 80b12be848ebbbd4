// The command line: one command per RPC.
#include <google/protobuf/stubs/logging.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/command.h"

namespace ounce::client {
namespace {

constexpr char kFooter[] = R"(
Examples:
  ounce generate tiny "def fibonacci(n):" --max_new_tokens 64
  ounce detect detr cats.jpg --draw found.png
  ounce quantize tiny linear
  ounce models --json | python3 -m json.tool

Ends with 0 when all went well; 2 when the command line is wrong; 3 when it
was refused (wrong argument, no such model or file, queue full, ...); 4 when it
failed (no server, time over, cancelled, ...).)";

constexpr char kCommandFooter[] = R"(
--server, --admin, --deadline and --json are for all commands: ounce --help.)";

struct Options {
  Client::Options client;
  std::optional<double> deadline_seconds;
  bool json = false;
};

// CLI11's own check lets "nan" pass.
std::string CheckSeconds(const std::string& text) {
  double seconds = 0;
  return absl::SimpleAtod(text, &seconds) && seconds > 0 &&
                 std::isfinite(seconds)
             ? ""
             : absl::StrCat("a number of seconds above 0 wanted, ", text,
                            " found");
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Talks to an ounce-server.", "ounce");
  app.footer(kCommandFooter);  // which commands take over
  app.get_formatter()->column_width(30);
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", OUNCE_VERSION);
  app.add_option("--server", options.client.server,
                 "Inference [127.0.0.1:8500]")
      ->envname("OUNCE_SERVER")
      ->type_name("HOST:PORT");
  app.add_option("--admin", options.client.admin, "ModelAdmin [127.0.0.1:8501]")
      ->envname("OUNCE_ADMIN")
      ->type_name("HOST:PORT");
  app.add_option("--deadline", options.deadline_seconds,
                 "That the call may take [no limit]")
      ->type_name("SECONDS")
      ->check(CheckSeconds);
  app.add_flag("--json", options.json,
               "Print each message of the server as JSON, one a line");
  Command command;
  AddTextCommands(app, &command);
  AddDetectCommand(app, &command);
  AddModelCommands(app, &command);
  AddQuantizeCommand(app, &command);
  AddHealthCommand(app, &command);
  app.footer(kFooter);
  // CLI11 reports by exceptions, --help and --version too.
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool no_command =
        error.get_name() == "RequiredError" && app.get_subcommands().empty();
    if (no_command && app.remaining_size() > 0) {
      std::cerr << "no command '" << app.remaining().front() << "'\n"
                << "Run with --help for more information." << std::endl;
      return kWrongUsage;
    }
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (options.deadline_seconds.has_value()) {
    options.client.timeout = absl::Seconds(*options.deadline_seconds);
  }
  return command(*Client::Create(options.client), options.json);
}

}  // namespace
}  // namespace ounce::client

int main(int argc, char** argv) {
  // What is no UTF-8 the server names better than protobuf's own log.
  google::protobuf::SetLogHandler(nullptr);
  return ounce::client::Main(argc, argv);
}
