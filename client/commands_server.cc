// status, config.
#include <iostream>

#include "absl/time/time.h"
#include "base/byte_size.h"
#include "client/command.h"

namespace ounce::client {
namespace {

void PrintStatus(const v1::Server& server) {
  const absl::Time start =
      absl::UnixEpoch() + absl::Seconds(server.start_unix_seconds());
  std::cout << "version          " << server.version() << "\n"
            << "instruction set  " << server.instruction_set() << "\n"
            << "compute threads  " << server.threads() << "\n"
            << "detectors in     " << server.compute() << "\n"
            << "running since    "
            << absl::FormatTime("%Y-%m-%d %H:%M:%S %Ez", start,
                                absl::LocalTimeZone())
            << " ("
            << absl::FormatDuration(
                   absl::Seconds(static_cast<int64_t>(server.uptime_seconds())))
            << ")\n"
            << "memory           " << FormatByteSize(server.memory_used_bytes())
            << " of " << FormatByteSize(server.memory_limit_bytes()) << "\n";
}

}  // namespace

void AddServerCommands(CLI::App& app, Command* command) {
  auto* status = app.add_subcommand(
      "status", "Show the server's version, threads, memory and uptime");
  status->callback([command] {
    *command = [](Client& client, bool json) {
      return Show(client.GetServer(), json, PrintStatus);
    };
  });
  auto* config = app.add_subcommand(
      "config", "Write the running configuration, for ounce-server --config");
  config->callback([command] {
    *command = [](Client& client, bool json) {
      return Show(client.GetServer(), json, [](const v1::Server& server) {
        std::cout << server.config();
      });
    };
  });
}

}  // namespace ounce::client
