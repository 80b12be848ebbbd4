// token new.
#include <iostream>
#include <memory>
#include <string>

#include "client/command.h"
#include "client/new_token.h"

namespace ounce::client {
namespace {

int PrintToken(const std::string& name, const std::string& scopes, bool json) {
  const absl::StatusOr<NewToken> made = MakeToken(name, scopes);
  if (!made.ok()) return Report(made.status());
  if (json) {
    return Report(Print(JsonLine(
        nlohmann::ordered_json{{"token", made->token}, {"line", made->line}})));
  }
  return Report(
      Print("token, shown this once, for who calls (--token_file or "
            "OUNCE_TOKEN):\n" +
            made->token + "\n\nline for the server's --token_file:\n" +
            made->line + "\n"));
}

}  // namespace

void AddTokenCommand(CLI::App& app, Command* command) {
  auto* token = app.add_subcommand(
      "token", "Make a token for a server's --token_file: ounce token new");
  struct Flags {
    std::string what, name, scopes;
  };
  const auto flags = std::make_shared<Flags>();
  token->add_option("new", flags->what, "Makes one; asks no server")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"new"}));
  token->add_option("--name", flags->name, "Who will call with it")
      ->required()
      ->type_name("NAME");
  token
      ->add_option("--scope", flags->scopes,
                   "What it is for: infer, admin or infer,admin")
      ->required()
      ->type_name("SCOPES");
  token->callback([command, flags] {
    *command = [flags](Client&, bool json) {
      return PrintToken(flags->name, flags->scopes, json);
    };
  });
}

}  // namespace ounce::client
