#include "client/endpoint.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "base/status_macros.h"
#include "client/address.h"
#include "client/tls_files.h"

namespace ounce::client {
namespace {

constexpr int kMaxReceiveBytes = 64 << 20;  // a report of very many tensors

// Where Debian and many others keep the certificates that they trust.
constexpr char kSystemCas[] = "/etc/ssl/certs/ca-certificates.crt";

// The header that carries the token to `host`.
absl::StatusOr<std::string> Authorization(const Client::Options& options,
                                          const std::string& host) {
  if (options.token.empty()) return "";
  if (!std::all_of(options.token.begin(), options.token.end(), [](char c) {
        return absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(
        "the token must be one word of visible ASCII characters, as 'ounce "
        "token new' prints it");
  }
  // A Unix socket has no host.
  if (!options.tls && !options.plaintext_token && !host.empty() &&
      !IsLoopback(host)) {
    return absl::InvalidArgumentError(
        absl::StrCat("without TLS the token would go to ", host,
                     " in plain text; connect with --tls, or allow it with "
                     "--plaintext_token"));
  }
  return absl::StrCat("Bearer ", options.token);
}

}  // namespace

Credentials MakeCredentials(const Client::Options& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  const auto read = [](const char* flag, const std::string& path,
                       std::string* to) -> absl::Status {
    if (path.empty()) return absl::OkStatus();
    absl::StatusOr<std::string> bytes = ReadFile(path);
    RETURN_IF_ERROR(WithContext(bytes.status(), flag));
    *to = *std::move(bytes);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read("--ca", options.ca_file, &ssl.pem_root_certs));
  RETURN_IF_ERROR(read("--cert", options.cert_file, &ssl.pem_cert_chain));
  RETURN_IF_ERROR(read("--key", options.key_file, &ssl.pem_private_key));
  if (options.cert_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError("--cert and --key go together");
  }
  // gRPC says of files that it can't use only that it found no address.
  if (!options.ca_file.empty()) {
    RETURN_IF_ERROR(CheckTrusted({options.ca_file, ssl.pem_root_certs}));
  }
  if (!options.cert_file.empty()) {
    RETURN_IF_ERROR(CheckShown({options.cert_file, ssl.pem_cert_chain},
                               {options.key_file, ssl.pem_private_key}));
  }
  if (options.ca_file.empty()) {
    // Without such a file gRPC has a list of its own.
    ssl.pem_root_certs = ReadFile(kSystemCas).value_or("");
  }
  return grpc::SslCredentials(ssl);
}

Endpoint Connect(const Client::Options& options, const Credentials& credentials,
                 const std::string& address, const char* setting) {
  Endpoint endpoint;
  endpoint.address = address;
  endpoint.setting = setting;
  const absl::StatusOr<Address> parsed = ParseAddress(address);
  if (!parsed.ok()) {
    endpoint.usable = WithContext(parsed.status(), setting);
    return endpoint;
  }
  endpoint.host = parsed->host;
  const absl::StatusOr<std::optional<Proxy>> proxy =
      ProxyFor(*parsed, EnvironmentVariable);
  if (!proxy.ok()) {
    endpoint.usable = proxy.status();
    return endpoint;
  }
  endpoint.proxy = *proxy;
  const auto authorization = Authorization(options, endpoint.host);
  endpoint.usable.Update(credentials.status());
  endpoint.usable.Update(authorization.status());
  if (!endpoint.usable.ok()) return endpoint;
  endpoint.tls = options.tls;
  endpoint.trusted =
      options.ca_file.empty() ? "the system's authorities" : options.ca_file;
  endpoint.authorization = *authorization;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, proxy->has_value());
  if (proxy->has_value()) {
    arguments.SetString(GRPC_ARG_HTTP_PROXY, (*proxy)->url);
  }
  endpoint.channel =
      grpc::CreateCustomChannel(parsed->target, *credentials, arguments);
  return endpoint;
}

}  // namespace ounce::client
