// top.
#include <sys/ioctl.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/top.h"

namespace ounce::client {
namespace {

struct TopFlags {
  double interval = 1;  // seconds
  bool once = false;
};

absl::StatusOr<Look> LookAt(Client& client) {
  Look look;
  ASSIGN_OR_RETURN(look.server, client.GetServer());
  ASSIGN_OR_RETURN(look.models, client.ListModels());
  look.time = Clock::Real().Now();
  return look;
}

absl::Status Fill(const std::string& text) {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) {
    size.ws_row = 24;
  }
  return Print(Screen(text, TerminalWidth(STDOUT_FILENO), size.ws_row));
}

// Speeds need two looks; a terminal has the first one at once, without them.
int Top(Client& client, const TopFlags& flags, bool json) {
  const bool stays = !flags.once && IsTerminal(STDOUT_FILENO);
  std::optional<Look> before;
  for (bool first = true;; first = false) {
    const absl::StatusOr<Look> look = LookAt(client);
    absl::Status written;
    if (look.status() == absl::CancelledError("cancelled")) {
      return kFailed;  // by Ctrl-C: there is no more to say
    }
    if (!look.ok()) {
      // A server that ends cancels what it has not answered; it may come back.
      const bool gone = absl::IsUnavailable(look.status()) ||
                        absl::IsCancelled(look.status());
      if (first || !stays || !gone) return Report(look.status());
      if (!json) {
        written = Fill(PrintableLines(look.status().message()));
      }
    } else if (json && (stays || before.has_value())) {
      written = Print(JsonLine(TopJson(*look, before)));
    } else if (stays) {
      written = Fill(TopText(*look, before));
    } else if (before.has_value()) {
      written = Print(TopText(*look, before));
    }
    if (!written.ok() || (!stays && before.has_value())) return Report(written);
    before = look.ok() ? std::optional<Look>(*look) : std::nullopt;
    Wait(absl::Seconds(flags.interval));
  }
}

}  // namespace

void AddTopCommand(CLI::App& app, Command* command) {
  auto flags = std::make_shared<TopFlags>();
  auto* sub = app.add_subcommand(
      "top", "Watch what the models do: tokens, pictures, memory, requests");
  sub->add_option("--interval", flags->interval,
                  "From one look at the server to the next [1]")
      ->type_name("SECONDS")
      ->check(Seconds());
  sub->add_flag("--once", flags->once,
                "Look for one interval, print, and end; so it does where the\n"
                "output is no terminal");
  PutAboveFooter(sub,
                 "Asks the admin port. PER SECOND are new tokens, or "
                 "pictures, of all requests in\n"
                 "the last interval. Ctrl-C ends it.\n");
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Top(client, *flags, json);
    };
  });
}

}  // namespace ounce::client
