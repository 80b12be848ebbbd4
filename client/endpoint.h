// A listener of a server, and the way there: proxy, TLS and token.
#ifndef OUNCE_CLIENT_ENDPOINT_H_
#define OUNCE_CLIENT_ENDPOINT_H_

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/proxy.h"

namespace ounce::client {

struct Endpoint {
  std::string address;  // for messages
  std::string setting;  // what sets it, for messages
  std::string host;     // without the port
  std::optional<Proxy> proxy;
  bool tls = false;
  std::string trusted;        // who is, for messages
  std::string authorization;  // the header; empty: none
  absl::Status usable;        // why `channel` is none
  std::shared_ptr<grpc::Channel> channel;
};

using Credentials = absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>;

// Of the TLS that `options` want, if any.
// Errors: kInvalidArgument for a file that can't be read or lacks what it is
//   for, and for a certificate without its key.
Credentials MakeCredentials(const Client::Options& options);

// To `address`, which `setting` sets. Nothing is sent yet; what is wrong, with
// the credentials too, is in `usable`.
Endpoint Connect(const Client::Options& options, const Credentials& credentials,
                 const std::string& address, const char* setting);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_ENDPOINT_H_
