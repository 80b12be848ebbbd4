// Command lines in our own words, on top of CLI11: flags that are written with
// dashes or underscores, help that lists each once, and errors that say what to
// do.
#ifndef OUNCE_CLIENT_COMMAND_LINE_H_
#define OUNCE_CLIENT_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ounce::client {

// For add_option: "-n,--max_new_tokens" -> "-n,--max_new_tokens,
// --max-new-tokens".
std::string Names(const std::string& names);

// For Option::transform: text that is no number of the option's type is refused
// with what it must be. The range of Number is for that message only; what is
// out of it goes to the server, which knows its limits.
CLI::Validator WholeNumber(uint64_t largest);
CLI::Validator Number(const std::string& range);

// For Option::check: what is no number of seconds above 0 is refused.
CLI::Validator Seconds();

// For Option::check: an empty text is refused, which would mean to the server
// that nothing is given: --as "$NAME" with a name that is not set. `what` is
// what it must be: "a name".
CLI::Validator NotEmpty(const std::string& what);

// Puts `text` above the footer that the command has as all others have.
void PutAboveFooter(CLI::App* command, const std::string& text);

// The word of `known` that is closest to `word`: at most two letters added,
// left out, changed or swapped with the next, and fewer than half; else "".
std::string DidYouMean(const std::string& word,
                       const std::vector<std::string>& known);

// Help that lists a flag by its first name, not by Names' second one too.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_option_name(const CLI::Option* option,
                               bool is_positional) const override;
};

// Parses, with a command "help [COMMAND]" besides the ones that `app` has.
// Returns the exit code where that ends the program: after help or a version,
// which it has printed, or after telling on stderr what is wrong.
std::optional<int> Parse(CLI::App& app, int argc, const char* const* argv);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COMMAND_LINE_H_
