// generate, tokenize, detokenize.
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/report.h"

namespace ounce::client {
namespace {

// CLI11's own check lets "--seed -1" pass.
std::string CheckSeed(const std::string& text) {
  uint64_t seed = 0;
  return absl::SimpleAtoi(text, &seed)
             ? ""
             : absl::StrCat("0 to 18446744073709551615 wanted, ", text,
                            " found");
}

std::string TextOrStdin(const std::string& argument) {
  if (argument != "-") return argument;
  return std::string(std::istreambuf_iterator<char>(std::cin), {});
}

struct GenerateFlags {
  std::string model;
  std::string prompt;
  std::optional<uint32_t> max_new_tokens;
  std::optional<float> temperature;
  std::optional<uint32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::optional<uint32_t> logprobs;
  bool echo = false;
};

v1::GenerateRequest ToRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  request.set_model(flags.model);
  request.set_prompt(TextOrStdin(flags.prompt));
  request.set_max_new_tokens(flags.max_new_tokens.value_or(0));
  v1::Sampling* sampling = request.mutable_sampling();
  sampling->set_temperature(flags.temperature.value_or(0));
  sampling->set_top_k(flags.top_k.value_or(0));
  sampling->set_top_p(flags.top_p.value_or(0));
  sampling->set_min_p(flags.min_p.value_or(0));
  sampling->set_repetition_penalty(flags.repetition_penalty.value_or(0));
  if (flags.seed.has_value()) sampling->set_seed(*flags.seed);
  request.mutable_stop()->Add(flags.stop.begin(), flags.stop.end());
  request.set_logprobs(flags.logprobs.value_or(0));
  return request;
}

absl::Status Generate(Client& client, const GenerateFlags& flags, bool json) {
  const v1::GenerateRequest request = ToRequest(flags);
  if (flags.echo && !json) std::cout << request.prompt() << std::flush;
  std::string logprobs;
  v1::GenerateResponse last;
  char last_char = '\n';
  absl::Status status =
      client.Generate(request, [&](const v1::GenerateResponse& response) {
        last = response;
        if (json) {
          std::cout << ToJson(response) << std::endl;
          return true;
        }
        std::cout << response.text() << std::flush;
        if (!response.text().empty()) last_char = response.text().back();
        for (int i = 0; i < response.logprobs_size(); ++i) {
          absl::StrAppendFormat(&logprobs, "%d %.4f\n", response.token_ids(i),
                                response.logprobs(i).logprob());
          for (const v1::TopLogprob& top : response.logprobs(i).top()) {
            absl::StrAppendFormat(&logprobs, "    %d %.4f '%s'\n",
                                  top.token_id(), top.logprob(),
                                  absl::CHexEscape(top.token()));
          }
        }
        return true;
      });
  if (json) return status;
  if (isatty(STDOUT_FILENO) && last_char != '\n') std::cout << std::endl;
  RETURN_IF_ERROR(status);
  std::cerr << logprobs << UsageText(flags.model, last) << std::endl;
  return absl::OkStatus();
}

void AddGenerate(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand("generate", "Continue a prompt");
  auto flags = std::make_shared<GenerateFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("PROMPT", flags->prompt, "Text; - reads it from stdin")
      ->required()
      ->type_name("");
  sub->add_option("-n,--max_new_tokens", flags->max_new_tokens,
                  "Tokens to generate, at most; 0 is the default [256]")
      ->type_name("N");
  sub->add_option("-t,--temperature", flags->temperature, "0 is greedy [0]")
      ->type_name("T");
  sub->add_option("--top_k", flags->top_k,
                  "Draw from the K most probable [all]")
      ->type_name("K");
  sub->add_option("--top_p", flags->top_p,
                  "Draw from the most probable that make up P [all]")
      ->type_name("P");
  sub->add_option("--min_p", flags->min_p,
                  "Draw from those at least P times as probable as the best "
                  "[all]")
      ->type_name("P");
  sub->add_option("--repetition_penalty", flags->repetition_penalty,
                  "Makes tokens that already occur less likely [1]")
      ->type_name("R");
  sub->add_option("--seed", flags->seed, "Same seed, same tokens [random]")
      ->type_name("N")
      ->check(CheckSeed);
  sub->add_option("--stop", flags->stop, "End before this text; again for more")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  sub->add_option("--logprobs", flags->logprobs,
                  "Log-probabilities of each token and the N best, on stderr")
      ->type_name("N");
  sub->add_flag("--echo", flags->echo, "Print the prompt first");
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Report(Generate(client, *flags, json));
    };
  });
}

void AddTokens(CLI::App& app, Command* command) {
  auto model = std::make_shared<std::string>();
  auto text = std::make_shared<std::string>();
  auto* tokenize = app.add_subcommand("tokenize", "Text to token ids");
  tokenize->add_option("MODEL", *model, "A served model")
      ->required()
      ->type_name("");
  tokenize->add_option("TEXT", *text, "Text; - reads it from stdin")
      ->required()
      ->type_name("");
  tokenize->callback([model, text, command] {
    *command = [model, text](Client& client, bool json) {
      v1::TokenizeRequest request;
      request.set_model(*model);
      request.set_text(TextOrStdin(*text));
      return Show(client.Tokenize(request), json,
                  [](const v1::TokenizeResponse& response) {
                    std::cout << absl::StrJoin(response.token_ids(), " ")
                              << std::endl;
                  });
    };
  });

  auto ids = std::make_shared<std::vector<int32_t>>();
  auto* detokenize = app.add_subcommand("detokenize", "Token ids to text");
  detokenize->add_option("MODEL", *model, "A served model")
      ->required()
      ->type_name("");
  detokenize->add_option("ID", *ids, "Token ids")->required()->type_name("");
  detokenize->callback([model, ids, command] {
    *command = [model, ids](Client& client, bool json) {
      v1::DetokenizeRequest request;
      request.set_model(*model);
      request.mutable_token_ids()->Add(ids->begin(), ids->end());
      return Show(client.Detokenize(request), json,
                  [](const v1::DetokenizeResponse& response) {
                    std::cout << response.text() << std::endl;
                  });
    };
  });
}

}  // namespace

void AddTextCommands(CLI::App& app, Command* command) {
  AddGenerate(app, command);
  AddTokens(app, command);
}

}  // namespace ounce::client
