// The program: flags, a server, signals, exit codes.
#include <cstdio>
#include <string>

#include "base/status_macros.h"
#include "server/announce.h"
#include "server/config.h"
#include "server/process.h"
#include "server/server.h"
#include "server/stop_signal.h"

namespace ounce::server {
namespace {

// Returns when a signal has stopped the server.
absl::Status Serve(const Config& config) {
  StopSignal stop;  // before any other thread
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Start(config));
  RETURN_IF_ERROR(server->LoadModels());
  stop.Ready();
  RETURN_IF_ERROR(WritePorts(config.ports_file, server->addresses()));
  stop.Wait();
  server->Drain();
  return absl::OkStatus();
}

}  // namespace
}  // namespace ounce::server

int main(int argc, char** argv) {
  ounce::server::SetUpProcess();
  const auto config = ounce::server::ReadConfig(argc, argv);
  if (!config.ok()) {
    std::fprintf(stderr, "ounce-server: %s\n",
                 std::string(config.status().message()).c_str());
    return 2;
  }
  if (!config->print.empty()) {
    std::fputs(config->print.c_str(), stdout);
    return 0;
  }
  const absl::Status status = ounce::server::Serve(*config);
  if (status.ok()) return 0;
  std::fprintf(stderr, "ounce-server: %s\n",
               std::string(status.message()).c_str());
  return 1;
}
