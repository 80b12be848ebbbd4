// What a shell offers for the next word of a command line, from the tree of
// commands and flags that CLI11 parses.
//
// The shell's script (ounce completion SHELL) knows nothing: it runs
//   ounce __complete WORD...
// with the words after "ounce", the last being what is typed of the next one,
// and reads a line for each word that fits (WORD, a tab, what it is) and then
// ":files" if names of files fit too, else ":".
#ifndef OUNCE_CLIENT_COMPLETION_H_
#define OUNCE_CLIENT_COMPLETION_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "client/command.h"

namespace ounce::client {

// What only a server knows; may be empty.
struct ServerWords {
  std::function<std::vector<std::string>()> models;
  std::function<std::vector<std::string>()> methods;
  std::function<std::vector<std::string>()> formats;  // of ounce save
};

struct Completion {
  // With what each is; empty where nothing is to be said.
  std::vector<std::pair<std::string, std::string>> words;
  bool files = false;  // names of files, too
};

// `words` has one at least. Values of global flags among the complete ones are
// taken as Parse would take them; those that are wrong are passed over.
Completion Complete(CLI::App& app, const std::vector<std::string>& words,
                    const ServerWords& server);

// Whether the program was started by a shell's script; then `command` tells
// what it wants to know.
bool WantsCompletion(CLI::App& app, int argc, const char* const* argv,
                     Command* command);

// Of "bash", "zsh" or "fish"; empty for any other.
std::string CompletionScript(const std::string& shell);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COMPLETION_H_
