// The flags of the command line that say how to connect: TLS, and the token.
#ifndef OUNCE_CLIENT_CONNECTION_FLAGS_H_
#define OUNCE_CLIENT_CONNECTION_FLAGS_H_

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"
#include "client/client.h"

namespace ounce::client {

class ConnectionFlags {
 public:
  // `app` sets this when it is parsed; this must outlive it.
  explicit ConnectionFlags(CLI::App& app);

  // Into `options`: what the flags say, and the token of --token_file, else of
  // OUNCE_TOKEN.
  // Errors: kInvalidArgument, beginning with the flag.
  absl::Status Fill(Client::Options* options) const;

 private:
  Client::Options given_;
  std::string token_file_;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_CONNECTION_FLAGS_H_
