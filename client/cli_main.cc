// The command line: one command per RPC.
#include <google/protobuf/stubs/logging.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/standard_files.h"
#include "client/address.h"
#include "client/client.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/completion.h"
#include "client/connection_flags.h"
#include "client/interrupt.h"
#include "client/output.h"
#include "client/proxy.h"

namespace ounce::client {
namespace {

constexpr char kFooter[] = R"(Examples:
  ounce generate tiny "def fibonacci(n):" --max_new_tokens 64
  ounce detect detr cats.jpg --draw found.png
  ounce quantize tiny linear
  ounce models --json | python3 -m json.tool

Flags take underscores or dashes: --max_new_tokens, --max-new-tokens. What
begins with a dash but is no flag goes last, after --.

--json: whole numbers are JSON numbers (above 2^53: strings), and fields that
are zero are printed. Errors still go to stderr as text.

HTTP proxies: http_proxy, https_proxy and grpc_proxy, but for this machine and
for what no_proxy names.

Exit codes: 0 success, 2 wrong usage, 3 refused (wrong argument, no such model
or file, queue full, ...), 4 failed (no server, deadline, output not written,
...); after Ctrl-C the program ends by that signal.)";

constexpr char kCommandFooter[] =
    R"(--server, --admin, --deadline, --json, and flags of TLS and tokens are for all
commands: ounce help.)";

struct Options {
  Client::Options client;
  std::optional<double> deadline_seconds;
  bool json = false;
};

// The address that a flag, or else the environment, gives; what is wrong with
// it is told.
bool TakeAddress(const CLI::App& app, const std::string& flag,
                 const char* variable, std::string* address) {
  const bool flag_given = app.get_option(flag)->count() > 0;
  const std::string from_environment = EnvironmentVariable(variable);
  if (!flag_given && !from_environment.empty()) *address = from_environment;
  const absl::StatusOr<Address> parsed = ParseAddress(*address);
  if (parsed.ok()) return true;
  std::cerr << "ounce: " << (flag_given ? flag : variable) << ": "
            << std::string(parsed.status().message()) << std::endl;
  return false;
}

int Main(int argc, char** argv) {
  Interrupt interrupt;  // before gRPC's threads
  Options options;
  CLI::App app("Talks to an ounce-server.", "ounce");
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kCommandFooter);  // which commands take over
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", OUNCE_VERSION);
  app.add_option("--server", options.client.server,
                 "Inference [OUNCE_SERVER, or 127.0.0.1:8500]")
      ->type_name("HOST:PORT");
  app.add_option("--admin", options.client.admin,
                 "ModelAdmin [OUNCE_ADMIN, or 127.0.0.1:8501]")
      ->type_name("HOST:PORT");
  app.add_option("--deadline", options.deadline_seconds,
                 "How long the call may take [no limit]")
      ->type_name("SECONDS")
      ->check(Seconds());
  app.add_flag("--json", options.json,
               "Print each message of the server as JSON, one a line");
  ConnectionFlags connection(app);
  Command command;
  AddTextCommands(app, &command);
  AddDetectCommand(app, &command);
  AddModelCommands(app, &command);
  AddQuantizeCommand(app, &command);
  AddSaveCommand(app, &command);
  AddEvaluateCommand(app, &command);
  AddCompareCommand(app, &command);
  AddInspectCommand(app, &command);
  AddHealthCommand(app, &command);
  AddServerCommands(app, &command);
  AddTokenCommand(app, &command);
  AddHubCommands(app, &command);
  AddTopCommand(app, &command);
  AddCompletionCommand(app, &command);
  app.footer(kFooter);
  if (!WantsCompletion(app, argc, argv, &command)) {
    const std::optional<int> code = Parse(app, argc, argv);
    if (code.has_value()) return *code;
  }
  if (!TakeAddress(app, "--server", "OUNCE_SERVER", &options.client.server) ||
      !TakeAddress(app, "--admin", "OUNCE_ADMIN", &options.client.admin)) {
    return kWrongUsage;
  }
  if (const absl::Status status = connection.Fill(&options.client);
      !status.ok()) {
    return Report(status);
  }
  if (options.deadline_seconds.has_value()) {
    options.client.timeout = absl::Seconds(*options.deadline_seconds);
  }
  const std::shared_ptr<Client> client = Client::Create(options.client);
  interrupt.Watch(client);
  const int code = command(*client, options.json);
  interrupt.Watch(nullptr);
  interrupt.EndIfCaught();
  return code;
}

}  // namespace
}  // namespace ounce::client

int main(int argc, char** argv) {
  ounce::TakeStandardFiles();  // before gRPC opens anything
  // What is no UTF-8 the server names better than protobuf's own log.
  google::protobuf::SetLogHandler(nullptr);
  // gRPC's log too, unless it is asked for.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const int code = ounce::client::Main(argc, argv);
  if (code != 0) return code;
  return ounce::client::Report(ounce::client::CloseOutput());
}
