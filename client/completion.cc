#include "client/completion.h"

#include <algorithm>
#include <iterator>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "client/command_line.h"
#include "client/output.h"

namespace ounce::client {
namespace {

constexpr char kCompleteCommand[] = "__complete";
// Nobody waits longer for the server's words.
constexpr absl::Duration kPatience = absl::Milliseconds(500);

constexpr char kBash[] =
    R"script(# Completion of ounce for bash: source <(ounce completion bash)
_ounce() {
  local words=() word i joined=
  COMPREPLY=()
  # bash splits at : and = too; ounce does not.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((${#words[@]})) && [[ -n $joined || $word == [:=]* ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
    if [[ $word == *[:=] ]]; then joined=1; else joined=; fi
  done
  local part=${COMP_WORDS[COMP_CWORD]}
  if [[ $part == [:=]* ]]; then part=; fi
  local before=${words[-1]%"$part"}
  while IFS=$'\t' read -r word _; do
    case $word in
      :files)
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$part")
        ;;
      :) ;;
      *) COMPREPLY+=("${word#"$before"}") ;;
    esac
  done < <("$1" __complete "${words[@]}" 2>/dev/null)
}
complete -F _ounce ounce
)script";

constexpr char kZsh[] = R"script(#compdef ounce
# Completion of ounce for zsh: source <(ounce completion zsh), after compinit; or
# this file as _ounce in a folder of $fpath.
_ounce() {
  local -a found
  local line files=
  for line in ${(f)"$(${words[1]} __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)"}; do
    case $line in
      :files) files=1 ;;
      :) ;;
      *) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
    esac
  done
  (( $#found )) && _describe 'ounce' found
  if [[ -n $files ]]; then
    compset -P '*='
    _files
  fi
}
if [[ $funcstack[1] == _ounce ]]; then
  _ounce "$@"
else
  compdef _ounce ounce
fi
)script";

constexpr char kFish[] =
    R"script(# Completion of ounce for fish: ounce completion fish | source
function __ounce_complete
  set -l words (commandline -opc)
  for line in (ounce __complete $words[2..] "$(commandline -ct)" 2>/dev/null)
    switch $line
      case ':files'
        __fish_complete_path (commandline -ct)
      case ':'
      case '*'
        echo $line
    end
  end
end
complete -c ounce -f -a '(__ounce_complete)'
)script";

constexpr std::pair<const char*, const char*> kScripts[] = {
    {"bash", kBash}, {"zsh", kZsh}, {"fish", kFish}};

bool TakesValue(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// One after the other.
bool TakesSeveral(const CLI::Option& option) {
  return option.get_items_expected_max() > 1 && option.get_allow_extra_args();
}

// What help says of it, on one line.
std::string OneLine(const std::string& text) {
  std::string line = absl::StrReplaceAll(text, {{"\n", " "}, {"\t", " "}});
  absl::RemoveExtraAsciiWhitespace(&line);
  return line;
}

// Where the next word stands.
class Place {
 public:
  Place(CLI::App& app, const std::vector<std::string>& words)
      : app_(app), command_(&app) {
    for (auto word = words.begin(); word != std::prev(words.end()); ++word) {
      Pass(*word);
    }
  }

  Completion Next(const std::string& typed, const ServerWords& server) {
    Completion completion;
    const size_t equals = typed.find('=');
    // "-" is the beginning of one; where it is whole, it is stdin.
    const bool flag = IsFlag(typed + "-");
    if (value_of_ != nullptr && !(TakesSeveral(*value_of_) && flag)) {
      AddValues(value_of_->get_type_name(), server, &completion);
    } else if (flag && equals != std::string::npos) {
      const CLI::Option* option = Find(typed.substr(0, equals));
      if (option != nullptr && TakesValue(*option)) {
        AddValues(option->get_type_name(), server, &completion);
      }
      for (auto& [word, help] : completion.words) {
        word = absl::StrCat(typed.substr(0, equals + 1), word);
      }
    } else if (flag) {
      AddFlags(typed, &completion);
    } else if (command_ == &app_) {
      AddCommands(&completion);
    } else if (const CLI::Option* option = Positional(); option != nullptr) {
      AddValues(option->get_name(/*positional=*/true), server, &completion);
    }
    auto& words = completion.words;
    words.erase(std::remove_if(words.begin(), words.end(),
                               [&](const auto& word) {
                                 return !absl::StartsWith(word.first, typed);
                               }),
                words.end());
    return completion;
  }

 private:
  bool IsFlag(const std::string& word) const {
    return !only_positionals_ && absl::StartsWith(word, "-") && word != "-";
  }

  CLI::Option* Find(const std::string& name) {
    CLI::Option* option = command_->get_option_no_throw(name);
    return option != nullptr ? option : app_.get_option_no_throw(name);
  }

  void Pass(const std::string& word) {
    if (IsFlag(word)) {
      value_of_ = nullptr;
      if (word == "--") {
        only_positionals_ = true;
        return;
      }
      const size_t equals = word.find('=');
      CLI::Option* option = Find(word.substr(0, equals));
      if (option == nullptr) return;
      if (!TakesValue(*option)) {
        Take(*option, "true");
      } else if (equals == std::string::npos) {
        value_of_ = option;
      } else {
        Take(*option, word.substr(equals + 1));
      }
    } else if (value_of_ != nullptr) {
      Take(*value_of_, word);
      if (!TakesSeveral(*value_of_)) value_of_ = nullptr;
    } else if (command_ == &app_) {
      for (CLI::App* command : app_.get_subcommands({})) {
        if (command->get_name() == word) command_ = command;
      }
    } else {
      ++num_positionals_;
    }
  }

  // Only those of the whole program count: they say where the server is.
  void Take(CLI::Option& option, const std::string& value) {
    if (app_.get_option_no_throw(option.get_name()) != &option) return;
    try {
      option.clear();
      option.add_result(value);
      option.run_callback();
    } catch (const CLI::Error&) {  // then it is told when the line is run
    }
  }

  const CLI::Option* Positional() const {
    const std::vector<CLI::Option*> positionals = command_->get_options(
        [](CLI::Option* option) { return option->get_positional(); });
    if (positionals.empty()) return nullptr;
    if (num_positionals_ < positionals.size()) {
      return positionals[num_positionals_];
    }
    return TakesSeveral(*positionals.back()) ? positionals.back() : nullptr;
  }

  void AddCommands(Completion* completion) const {
    for (const CLI::App* command : app_.get_subcommands({})) {
      completion->words.emplace_back(command->get_name(),
                                     OneLine(command->get_description()));
    }
    // Parse makes it.
    completion->words.emplace_back("help", "How a command is used");
  }

  // Each once, by the first of its names that fits.
  static void AddFlagsOf(const CLI::App& app, const std::string& typed,
                         Completion* completion) {
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_group().empty()) continue;  // hidden
      for (const std::string& name : option->get_lnames()) {
        const std::string flag = absl::StrCat("--", name);
        if (!absl::StartsWith(flag, typed)) continue;
        completion->words.emplace_back(flag,
                                       OneLine(option->get_description()));
        break;
      }
    }
  }

  void AddFlags(const std::string& typed, Completion* completion) const {
    AddFlagsOf(*command_, typed, completion);
    if (command_ != &app_) AddFlagsOf(app_, typed, completion);
  }

  // Of a positional's name, or the type of a flag's value.
  void AddValues(const std::string& kind, const ServerWords& server,
                 Completion* completion) const {
    const auto add = [&](const auto& words) {
      for (const auto& word : words) completion->words.emplace_back(word, "");
    };
    for (const char* file : {"FILE", "DIR", "PATH", "PICTURE", "OUT.png"}) {
      if (kind == file) completion->files = true;
    }
    if (kind == "MODEL" || kind == "MODEL|FOLDER") add(server.models());
    if (kind == "MODEL|FOLDER") completion->files = true;
    if (kind == "SPEC") add(server.methods());
    if (kind == "FORMAT") add(server.formats());
    if (kind == "SHELL") {
      for (const auto& [shell, script] : kScripts) {
        completion->words.emplace_back(shell, "");
      }
    }
    if (kind == "SERVICE") {
      add(std::vector<std::string>{"liveness", "ounce.v1.Inference",
                                   "ounce.v1.ModelAdmin"});
      for (const std::string& model : server.models()) {
        completion->words.emplace_back(absl::StrCat("models/", model), "");
      }
    }
  }

  CLI::App& app_;
  CLI::App* command_;  // `app_` until there is one
  CLI::Option* value_of_ = nullptr;
  size_t num_positionals_ = 0;
  bool only_positionals_ = false;  // behind "--"
};

// What is safe on a command line as it is; names of others are left out.
bool IsPlain(const std::string& word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return absl::ascii_isalnum(c) ||
           absl::StrContains("._-", std::string(1, c));
  });
}

template <class Items>
std::vector<std::string> PlainNames(const Items& items) {
  std::vector<std::string> names;
  for (const auto& item : items) {
    if (IsPlain(item.name())) names.push_back(item.name());
  }
  return names;
}

}  // namespace

Completion Complete(CLI::App& app, const std::vector<std::string>& words,
                    const ServerWords& server) {
  return Place(app, words).Next(words.back(), server);
}

bool WantsCompletion(CLI::App& app, int argc, const char* const* argv,
                     Command* command) {
  if (argc < 3 || std::string(argv[1]) != kCompleteCommand) return false;
  const std::vector<std::string> words(argv + 2, argv + argc);
  // It takes where the server is, before the client is made.
  const auto place = std::make_shared<Place>(app, words);
  *command = [place, typed = words.back()](Client& client, bool) {
    const std::unique_ptr<Client> asked = client.WithTimeout(kPatience);
    const Completion completion = place->Next(
        typed, {.models =
                    [&] {
                      const auto served = asked->ListServedModels();
                      return served.ok() ? PlainNames(served->models())
                                         : std::vector<std::string>();
                    },
                .methods =
                    [&] {
                      const auto known = asked->ListMethods();
                      return known.ok() ? PlainNames(known->methods())
                                        : std::vector<std::string>();
                    },
                .formats =
                    [&] {
                      const auto known = asked->ListMethods();
                      return known.ok() ? PlainNames(known->save_formats())
                                        : std::vector<std::string>();
                    }});
    std::string text;
    for (const auto& [word, help] : completion.words) {
      absl::StrAppend(&text, word, "\t", help, "\n");
    }
    absl::StrAppend(&text, completion.files ? ":files\n" : ":\n");
    return Report(Print(text));
  };
  return true;
}

std::string CompletionScript(const std::string& shell) {
  for (const auto& [name, script] : kScripts) {
    if (shell == name) return script;
  }
  return "";
}

void AddCompletionCommand(CLI::App& app, Command* command) {
  auto shell = std::make_shared<std::string>();
  auto* sub = app.add_subcommand(
      "completion", "Write what makes a shell complete ounce's words");
  sub->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::Validator(
          [](const std::string& text) {
            return CompletionScript(text).empty()
                       ? absl::StrCat("must be bash, zsh or fish, is '", text,
                                      "'")
                       : std::string();
          },
          ""))
      ->type_name("");
  PutAboveFooter(
      sub,
      "Commands, flags, files, and names of models and methods that the "
      "server tells.\n"
      "In ~/.bashrc: source <(ounce completion bash)\n"
      "In ~/.zshrc, after compinit: source <(ounce completion zsh)\n"
      "For fish: ounce completion fish > "
      "~/.config/fish/completions/ounce.fish\n");
  sub->callback([shell, command] {
    *command = [shell](Client&, bool) {
      return Report(Print(CompletionScript(*shell)));
    };
  });
}

}  // namespace ounce::client
