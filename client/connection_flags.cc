#include "client/connection_flags.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "base/status_macros.h"
#include "client/command_line.h"
#include "client/proxy.h"

namespace ounce::client {

ConnectionFlags::ConnectionFlags(CLI::App& app) {
  app.add_flag("--tls", given_.tls, "Connect with TLS");
  app.add_option("--ca", given_.ca_file,
                 "TLS: who is trusted to sign the server's certificate [whom "
                 "the system trusts]")
      ->type_name("FILE");
  app.add_option("--cert", given_.cert_file,
                 "TLS: the certificate to show to the server")
      ->type_name("FILE");
  app.add_option("--key", given_.key_file, "TLS: the certificate's key")
      ->type_name("FILE");
  app.add_option(Names("--token_file"), token_file_,
                 "File with the token to send [that in OUNCE_TOKEN, if any]")
      ->type_name("FILE");
  app.add_flag(Names("--plaintext_token"), given_.plaintext_token,
               "Send the token without TLS to other machines too");
}

absl::Status ConnectionFlags::Fill(Client::Options* options) const {
  options->ca_file = given_.ca_file;
  options->cert_file = given_.cert_file;
  options->key_file = given_.key_file;
  options->tls = given_.tls || !given_.ca_file.empty() ||
                 !given_.cert_file.empty() || !given_.key_file.empty();
  options->plaintext_token = given_.plaintext_token;
  options->token = EnvironmentVariable("OUNCE_TOKEN");
  if (token_file_.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> text = ReadFile(token_file_);
  RETURN_IF_ERROR(WithContext(text.status(), "--token_file"));
  options->token = std::string(absl::StripAsciiWhitespace(*text));
  if (!options->token.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--token_file: '", token_file_, "' is empty"));
}

}  // namespace ounce::client
