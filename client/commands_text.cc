// generate, tokenize, detokenize.
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/report.h"

namespace ounce::client {
namespace {

constexpr uint64_t kMax32 = std::numeric_limits<uint32_t>::max();

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

absl::StatusOr<v1::GenerateRequest> ToRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  request.set_model(flags.model);
  ASSIGN_OR_RETURN(*request.mutable_prompt(),
                   TextOrStdin(flags.prompt, "prompt"));
  if (flags.max_new_tokens.has_value()) {
    request.set_max_new_tokens(*flags.max_new_tokens);
  }
  v1::Sampling* sampling = request.mutable_sampling();
  if (flags.temperature.has_value()) {
    sampling->set_temperature(*flags.temperature);
  }
  if (flags.top_k.has_value()) sampling->set_top_k(*flags.top_k);
  if (flags.top_p.has_value()) sampling->set_top_p(*flags.top_p);
  if (flags.min_p.has_value()) sampling->set_min_p(*flags.min_p);
  if (flags.repetition_penalty.has_value()) {
    sampling->set_repetition_penalty(*flags.repetition_penalty);
  }
  if (flags.seed.has_value()) sampling->set_seed(*flags.seed);
  request.mutable_stop()->Add(flags.stop.begin(), flags.stop.end());
  request.set_logprobs(flags.logprobs.value_or(0));
  return request;
}

// What stdout ends with need not be a line; what comes next on stderr is one.
// Ends it there, or returns what stderr has to begin with: in one piece with
// what follows, because a program between may pass the text on at any moment.
std::string EndLine() {
  if (isatty(STDOUT_FILENO)) {
    std::cout << std::endl;
    return "";
  }
  return OutputsMeet() ? "\n" : "";
}

absl::Status AfterTokens(const absl::Status& status, int64_t num_tokens) {
  if (status.ok() || num_tokens == 0) return status;
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), " after ", num_tokens,
                                   num_tokens == 1 ? " token" : " tokens"));
}

// Flags that change how tokens are drawn, where none was drawn.
std::string WhatHadNoEffect(const GenerateFlags& flags) {
  std::vector<std::string> given;
  if (flags.top_k.value_or(0) > 0) given.emplace_back("--top_k");
  if (flags.top_p.value_or(0) > 0) given.emplace_back("--top_p");
  if (flags.min_p.value_or(0) > 0) given.emplace_back("--min_p");
  if (flags.seed.has_value()) given.emplace_back("--seed");
  if (given.empty()) return "";
  return absl::StrCat(
      "ounce: without --temperature the most probable token is taken: ",
      absl::StrJoin(given, ", "), " had no effect\n");
}

// Log-probabilities of the tokens of one message, a line each.
std::string LogprobsText(const v1::GenerateResponse& response) {
  std::string text;
  for (int i = 0; i < response.logprobs_size(); ++i) {
    absl::StrAppendFormat(&text, "%d %.4f\n", response.token_ids(i),
                          response.logprobs(i).logprob());
    for (const v1::TopLogprob& top : response.logprobs(i).top()) {
      absl::StrAppendFormat(&text, "    %d %.4f '%s'\n", top.token_id(),
                            top.logprob(), absl::CHexEscape(top.token()));
    }
  }
  return text;
}

absl::Status Generate(Client& client, const GenerateFlags& flags, bool json) {
  ASSIGN_OR_RETURN(const v1::GenerateRequest request, ToRequest(flags));
  absl::Status written = absl::OkStatus();
  char last_char = '\n';
  const auto print = [&](const std::string& text) {
    if (!text.empty()) last_char = text.back();
    written = Print(text);
    return written.ok();
  };
  if (flags.echo && !json && !print(request.prompt())) return written;
  std::string logprobs;
  int64_t num_tokens = 0;
  v1::GenerateResponse last;
  const absl::Status status =
      client.Generate(request, [&](const v1::GenerateResponse& response) {
        last = response;
        num_tokens += response.token_ids_size();
        if (json) return print(JsonLine(ToJson(response)));
        logprobs += LogprobsText(response);
        return print(response.text());
      });
  std::string told = last_char == '\n' ? "" : EndLine();
  if (!written.ok() || !status.ok()) {
    std::cerr << told;
    RETURN_IF_ERROR(written);
    return AfterTokens(status, num_tokens);
  }
  if (!last.has_seed()) told += WhatHadNoEffect(flags);
  if (!json) {
    absl::StrAppend(&told, logprobs, UsageText(flags.model, last), "\n");
  }
  std::cerr << told << std::flush;
  return absl::OkStatus();
}

void AddGenerate(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand("generate", "Continue a prompt");
  auto flags = std::make_shared<GenerateFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("PROMPT", flags->prompt,
                  "The text to continue; - reads it from stdin")
      ->required()
      ->type_name("");
  sub->add_option(Names("-n,--max_new_tokens"), flags->max_new_tokens,
                  "Tokens to generate at most [the model's default, else\n256]")
      ->type_name("N")
      ->transform(WholeNumber(kMax32));
  sub->add_option(
         "-t,--temperature", flags->temperature,
         "0 takes the most probable token [the model's default,\nelse 0]")
      ->type_name("T")
      ->transform(Number("a number from 0 to 100"));
  sub->add_option(Names("--top_k"), flags->top_k,
                  "Draw from the K most probable tokens; 0 is all "
                  "[the\nmodel's default, else all]")
      ->type_name("K")
      ->transform(WholeNumber(kMax32));
  sub->add_option(Names("--top_p"), flags->top_p,
                  "Draw from the most probable tokens that together\n"
                  "have probability P [the model's default, else all]")
      ->type_name("P")
      ->transform(Number("from 0 to 1"));
  sub->add_option(Names("--min_p"), flags->min_p,
                  "Draw from tokens at least P times as probable as\n"
                  "the best [the model's default, else all]")
      ->type_name("P")
      ->transform(Number("from 0 to 1"));
  sub->add_option(Names("--repetition_penalty"), flags->repetition_penalty,
                  "Above 1 makes tokens that already occur less likely\n[the "
                  "model's default, else 1]")
      ->type_name("R")
      ->transform(Number("a number from 0.01 to 100"));
  sub->add_option("--seed", flags->seed,
                  "The same seed draws the same tokens [random]")
      ->type_name("N")
      ->transform(WholeNumber(std::numeric_limits<uint64_t>::max()));
  sub->add_option("--stop", flags->stop,
                  "End before this text; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  sub->add_option("--logprobs", flags->logprobs,
                  "Print the log-probabilities of each token and of the N\n"
                  "best, on stderr")
      ->type_name("N")
      ->transform(WholeNumber(kMax32));
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
  auto* tokenize = app.add_subcommand("tokenize", "Turn text into token ids");
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
      absl::StatusOr<std::string> input = TextOrStdin(*text, "text");
      if (!input.ok()) return Report(input.status());
      request.set_text(*std::move(input));
      return Show(client.Tokenize(request), json,
                  [](const v1::TokenizeResponse& response) {
                    std::cout << absl::StrJoin(response.token_ids(), " ")
                              << std::endl;
                  });
    };
  });

  auto ids = std::make_shared<std::vector<int32_t>>();
  auto* detokenize =
      app.add_subcommand("detokenize", "Turn token ids into text");
  detokenize->add_option("MODEL", *model, "A served model")
      ->required()
      ->type_name("");
  detokenize->add_option("ID", *ids, "Token ids")
      ->required()
      ->type_name("")
      ->transform(WholeNumber(std::numeric_limits<int32_t>::max()));
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
