#include "client/command_line.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/command.h"

namespace ounce::client {
namespace {

std::string WithDashes(absl::string_view name) {
  return absl::StrReplaceAll(name, {{"_", "-"}});
}

// The distance of Damerau and Levenshtein, in the form without moves across
// what was changed before ("optimal string alignment").
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1,
                                        std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  return names;
}

// The words that no command and no flag took, in their order.
std::vector<std::string> Unexpected(const CLI::App& app) {
  std::vector<std::string> words = app.remaining(/*recurse=*/true);
  words.erase(std::remove(words.begin(), words.end(), "--"), words.end());
  return words;
}

bool LooksLikeFlag(const std::string& word) {
  return absl::StartsWith(word, "-");
}

int WrongUsage(const std::string& what, const std::string& hint) {
  std::cerr << what << "\n" << hint << std::endl;
  return kWrongUsage;
}

int UnknownCommand(const CLI::App& app, const std::string& word) {
  const std::string meant = DidYouMean(word, CommandNames(app));
  return WrongUsage(
      absl::StrCat(
          app.get_name(), ": no command '", word, "'",
          meant.empty() ? "" : absl::StrCat("; did you mean '", meant, "'?")),
      absl::StrCat("'", app.get_name(), " help' lists the commands."));
}

// A word that stands where a command should.
std::optional<std::string> NotACommand(const CLI::App& app, int argc,
                                       const char* const* argv) {
  const std::vector<std::string> words = Unexpected(app);
  if (words.empty() || LooksLikeFlag(words[0])) return std::nullopt;
  const auto parsed = app.get_subcommands();
  if (parsed.empty()) return words[0];
  // "ounce genrate models": models was taken for the command.
  const char* const* const end = argv + argc;
  const bool before = std::find(argv, end, words[0]) <
                      std::find(argv, end, parsed[0]->get_name());
  return before ? std::optional(words[0]) : std::nullopt;
}

std::string UnknownFlag(const CLI::App& app, const CLI::App* command,
                        const std::string& word) {
  std::vector<std::string> known;
  for (const CLI::App* level : {&app, command}) {
    if (level == nullptr) continue;
    for (const CLI::Option* option : level->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        known.push_back(absl::StrCat("--", name));
      }
    }
  }
  const std::string meant = DidYouMean(word.substr(0, word.find('=')), known);
  return absl::StrCat(
      "no flag '", word, "'",
      meant.empty() ? "" : absl::StrCat("; did you mean ", meant, "?"));
}

// What is wrong, where the words of a command were read.
std::string Fault(const CLI::App& app, const CLI::App* command,
                  const CLI::ParseError& error) {
  const std::string& name = error.get_name();
  std::string what = error.what();
  const std::vector<std::string> unexpected = Unexpected(app);
  if (name == "RequiredError" && command != nullptr) {
    const std::string missing = what.substr(0, what.find(' '));
    if (unexpected.empty() || !LooksLikeFlag(unexpected[0])) {
      return absl::StrCat(missing, " is missing");
    }
    return absl::StrCat(
        missing, " is missing, and there is ",
        UnknownFlag(app, command, unexpected[0]), "\n",
        "What begins with a dash but is no flag goes last, after --: ",
        app.get_name(), " ", command->get_name(), " ... -- '", unexpected[0],
        "'");
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr &&
      !unexpected.empty()) {
    return LooksLikeFlag(unexpected[0])
               ? UnknownFlag(app, command, unexpected[0])
               : absl::StrCat("unexpected '", unexpected[0],
                              "'; quote text that has spaces");
  }
  if (name == "ArgumentMismatch") {
    const std::string flag = what.substr(0, what.find(':'));
    return absl::StrContains(what, "received")
               ? absl::StrCat(flag, ": may be given once")
               : absl::StrCat(flag, ": needs a value");
  }
  if (name == "ConversionError") {  // "Could not convert: --json = maybe"
    const size_t colon = what.find(": "), equals = what.find(" = ");
    if (colon < equals && equals != std::string::npos) {
      return absl::StrCat(what.substr(colon + 2, equals - colon - 2),
                          ": must be true or false, is '",
                          what.substr(equals + 3), "'");
    }
  }
  return what;  // that of a validator: "--top_k: must be ..."
}

int Explain(const CLI::App& app, const CLI::ParseError& error) {
  const auto parsed = app.get_subcommands();
  const CLI::App* command = parsed.empty() ? nullptr : parsed[0];
  if (error.get_name() == "RequiredError" && command == nullptr) {
    return WrongUsage(
        absl::StrCat(app.get_name(), ": a command is missing"),
        absl::StrCat("'", app.get_name(), " help' lists the commands."));
  }
  const std::string where =
      command == nullptr
          ? app.get_name()
          : absl::StrCat(app.get_name(), " ", command->get_name());
  return WrongUsage(
      absl::StrCat(where, ": ", Fault(app, command, error)),
      absl::StrCat(
          "'", app.get_name(), " help",
          command == nullptr ? "" : absl::StrCat(" ", command->get_name()),
          "' tells more."));
}

int ShowHelp(const CLI::App& app, const std::string& topic) {
  if (topic.empty()) {
    return Report(Print(app.get_formatter()->make_help(
        &app, app.get_name(), CLI::AppFormatMode::Normal)));
  }
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == topic) {
      return Report(Print(command->help(app.get_name())));
    }
  }
  return UnknownCommand(app, topic);
}

}  // namespace

std::string Names(const std::string& names) {
  std::vector<std::string> all = absl::StrSplit(names, ',');
  const size_t num = all.size();
  for (size_t i = 0; i < num; ++i) {
    std::string dashed = WithDashes(all[i]);
    if (dashed != all[i]) all.push_back(std::move(dashed));
  }
  return absl::StrJoin(all, ",");
}

CLI::Validator WholeNumber(uint64_t largest) {
  return CLI::Validator(
      [largest](std::string& text) {
        uint64_t number = 0;
        if (!absl::SimpleAtoi(text, &number) || number > largest) {
          return absl::StrCat("must be a whole number from 0 to ", largest,
                              ", is '", text, "'");
        }
        text = absl::StrCat(number);  // "010" is ten, CLI11 makes it eight
        return std::string();
      },
      "");
}

CLI::Validator Number(const std::string& range) {
  return CLI::Validator(
      [range](std::string& text) {
        double number = 0;
        if (!absl::SimpleAtod(text, &number)) {
          return absl::StrCat("must be ", range, ", is '", text, "'");
        }
        text = std::string(absl::StripAsciiWhitespace(text));
        return std::string();
      },
      "");
}

CLI::Validator Seconds() {
  return CLI::Validator(
      [](const std::string& text) {
        double seconds = 0;
        return absl::SimpleAtod(text, &seconds) && seconds > 0 &&
                       std::isfinite(seconds)
                   ? ""
                   : absl::StrCat("must be a number of seconds above 0, is '",
                                  text, "'");
      },
      "");
}

CLI::Validator NotEmpty(const std::string& what) {
  return CLI::Validator(
      [what](const std::string& text) {
        return text.empty() ? absl::StrCat("must be ", what, ", is empty")
                            : std::string();
      },
      "");
}

void PutAboveFooter(CLI::App* command, const std::string& text) {
  command->footer(absl::StrCat(text, command->get_footer()));
}

std::string DidYouMean(const std::string& word,
                       const std::vector<std::string>& known) {
  constexpr size_t kMostEdits = 2;
  std::string best;
  size_t least = std::min(kMostEdits + 1, (word.size() + 1) / 2);
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

HelpFormatter::HelpFormatter() {
  column_width(30);
  label("SUBCOMMAND", "COMMAND");
}

std::string HelpFormatter::make_option_name(const CLI::Option* option,
                                            bool is_positional) const {
  if (is_positional) return option->get_name(true, false);
  std::vector<std::string> names;
  for (const std::string& name : option->get_snames()) {
    names.push_back(absl::StrCat("-", name));
  }
  std::vector<std::string> shown;  // with underscores, where it has any
  for (const std::string& name : option->get_lnames()) {
    if (std::find(shown.begin(), shown.end(), name) == shown.end()) {
      names.push_back(absl::StrCat("--", name));
      shown.push_back(WithDashes(name));
    }
  }
  return absl::StrJoin(names, ",");
}

std::optional<int> Parse(CLI::App& app, int argc, const char* const* argv) {
  CLI::App* const help = app.add_subcommand("help", "How a command is used");
  const CLI::Option* const topic =
      help->add_option_function<std::string>(
              "COMMAND", [](const std::string&) {}, "A command")
          ->type_name("");
  for (CLI::App* command : app.get_subcommands({})) command->group("Commands");
  const auto not_a_command = [&] { return NotACommand(app, argc, argv); };
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    if (const auto word = not_a_command()) return UnknownCommand(app, *word);
    return Report(Print(app.help()));
  } catch (const CLI::CallForVersion& version) {
    return Report(Print(absl::StrCat(version.what(), "\n")));
  } catch (const CLI::ParseError& error) {
    if (const auto word = not_a_command()) return UnknownCommand(app, *word);
    return Explain(app, error);
  }
  if (!help->parsed()) return std::nullopt;
  return ShowHelp(app, topic->count() > 0 ? topic->as<std::string>() : "");
}

}  // namespace ounce::client
