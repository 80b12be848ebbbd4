// The command line: one command per RPC.
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <functional>
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
#include "base/check.h"
#include "base/status_macros.h"
#include "client/client.h"
#include "client/report.h"
#include "grpc/health/v1/health.pb.h"

namespace ounce::client {
namespace {

constexpr char kFooter[] = R"(
Examples:
  ounce generate tiny "def fibonacci(n):" --max_new_tokens 64
  ounce quantize tiny linear:bits=8
  ounce models --json | python3 -m json.tool

Ends with 0 when all went well; 2 when the command line is wrong; 3 when the
server refused (wrong argument, no such model, queue full, ...); 4 when it
failed (no server, time over, cancelled, ...).)";

constexpr char kCommandFooter[] = R"(
--server, --admin, --deadline and --json are for all commands: ounce --help.)";

constexpr int kWrongUsage = 2;
constexpr int kRefused = 3;
constexpr int kFailed = 4;

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return kRefused;
    default:
      return kFailed;
  }
}

struct Options {
  Client::Options client;
  std::optional<double> deadline_seconds;
  bool json = false;
};

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  OUNCE_CHECK(status.ok(), "a received message has a JSON form");
  std::cout << json << std::endl;
}

// CLI11's own checks let "nan" and "--seed -1" pass.
std::string CheckSeconds(const std::string& text) {
  double seconds = 0;
  return absl::SimpleAtod(text, &seconds) && seconds > 0 &&
                 std::isfinite(seconds)
             ? ""
             : absl::StrCat("a number of seconds above 0 wanted, ", text,
                            " found");
}

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
          PrintJson(response);
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

// To shorten specs by; without it they are shown in full.
v1::ListMethodsResponse MethodsOf(Client& client) {
  return client.ListMethods().value_or(v1::ListMethodsResponse());
}

struct QuantizeFlags {
  std::string model, method, as;
  std::vector<std::string> include, exclude;
  bool dry_run = false;
  bool all = false;
};

absl::Status Quantize(Client& client, const QuantizeFlags& flags, bool json) {
  v1::QuantizeRequest request;
  request.set_model(flags.model);
  request.set_method(flags.method);
  request.mutable_include()->Add(flags.include.begin(), flags.include.end());
  request.mutable_exclude()->Add(flags.exclude.begin(), flags.exclude.end());
  request.set_as(flags.as);
  request.set_dry_run(flags.dry_run);
  const bool terminal = isatty(STDERR_FILENO);
  int64_t next_tenth = 0;
  v1::QuantizeStage stage = v1::QUANTIZE_STAGE_UNSPECIFIED;
  v1::QuantizeReport report;
  const absl::Status status =
      client.Quantize(request, [&](const v1::QuantizeProgress& progress) {
        if (progress.has_report()) report = progress.report();
        if (json) {
          PrintJson(progress);
        } else if (terminal) {
          std::cerr << "\r\033[K" << ProgressBar(progress) << std::flush;
        } else {
          // A line per stage, and per tenth of the tensors.
          const int64_t tenth =
              progress.tensors_total() > 0
                  ? 10 * progress.tensors_done() / progress.tensors_total()
                  : 0;
          if (progress.stage() != stage || tenth >= next_tenth) {
            std::cerr << StageName(progress.stage()) << " "
                      << progress.tensors_done() << "/"
                      << progress.tensors_total() << std::endl;
            next_tenth = tenth + 1;
          }
          stage = progress.stage();
        }
        return true;
      });
  if (terminal && !json) std::cerr << "\r\033[K" << std::flush;
  RETURN_IF_ERROR(status);
  if (!json) std::cout << ReportText(report, MethodsOf(client), flags.all);
  return absl::OkStatus();
}

template <class Response, class Print>
absl::Status Show(const absl::StatusOr<Response>& response, bool json,
                  Print print) {
  if (!response.ok()) return response.status();
  if (json) {
    PrintJson(*response);
  } else {
    print(*response);
  }
  return absl::OkStatus();
}

// A command of the line, run after parsing.
using Command = std::function<absl::Status(Client&, bool json)>;

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
                  "Tokens to generate, at most [256]")
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
      return Generate(client, *flags, json);
    };
  });
}

void AddTexts(CLI::App& app, Command* command) {
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

void AddQuantize(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand(
      "quantize", "Serve a model in other bits, while it serves");
  auto flags = std::make_shared<QuantizeFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("SPEC", flags->method,
                  "name or name:key=value,... (ounce methods)")
      ->required()
      ->type_name("");
  sub->add_option("--include", flags->include,
                  "Only modules that match the glob [all but lm_head and "
                  "embeddings]; again for more")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  sub->add_option("--exclude", flags->exclude,
                  "Leave alone modules that match; again for more")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  sub->add_option("--as", flags->as,
                  "Serve the result under this name beside the old model")
      ->type_name("NAME");
  sub->add_flag("--dry_run", flags->dry_run,
                "Report only; what is served stays as it is");
  sub->add_flag("--all", flags->all, "Show every tensor");
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Quantize(client, *flags, json);
    };
  });
}

void AddModels(CLI::App& app, Command* command) {
  auto* models = app.add_subcommand("models", "What is served");
  models->callback([command] {
    *command = [](Client& client, bool json) {
      return Show(client.ListModels(), json,
                  [&](const v1::ListModelsResponse& response) {
                    std::cout << ModelsText(response, MethodsOf(client));
                  });
    };
  });
  auto* methods =
      app.add_subcommand("methods", "Ways to quantize, with their parameters");
  methods->callback([command] {
    *command = [](Client& client, bool json) {
      return Show(client.ListMethods(), json,
                  [](const v1::ListMethodsResponse& response) {
                    std::cout << MethodsText(response);
                  });
    };
  });

  auto name = std::make_shared<std::string>();
  auto path = std::make_shared<std::string>();
  auto method = std::make_shared<std::string>();
  auto* load = app.add_subcommand("load", "Serve a checkpoint");
  load->add_option("NAME", *name, "To serve it under")
      ->required()
      ->type_name("");
  load->add_option("PATH", *path, "A folder on the server, or org/name")
      ->required()
      ->type_name("");
  load->add_option("--method", *method, "[as in the checkpoint]")
      ->type_name("SPEC");
  load->callback([name, path, method, command] {
    *command = [name, path, method](Client& client, bool json) {
      v1::LoadModelRequest request;
      request.set_name(*name);
      request.set_path(*path);
      request.set_method(*method);
      return Show(client.LoadModel(request), json, [&](const v1::Model& model) {
        v1::ListModelsResponse list;
        *list.add_models() = model;
        std::cout << ModelsText(list, MethodsOf(client));
      });
    };
  });

  auto* unload = app.add_subcommand("unload", "Stop serving a model");
  unload->add_option("NAME", *name, "A served model")
      ->required()
      ->type_name("");
  unload->callback([name, command] {
    *command = [name](Client& client, bool json) {
      v1::UnloadModelRequest request;
      request.set_name(*name);
      return Show(client.UnloadModel(request), json,
                  [&](const v1::UnloadModelResponse&) {
                    std::cout << "unloaded " << *name << std::endl;
                  });
    };
  });
}

void AddHealth(CLI::App& app, Command* command) {
  auto service = std::make_shared<std::string>();
  auto* health = app.add_subcommand("health", "Does it serve?");
  health
      ->add_option("SERVICE", *service,
                   "ounce.v1.Inference or models/NAME [all of it]")
      ->type_name("");
  health->callback([service, command] {
    *command = [service](Client& client, bool json) -> absl::Status {
      using Response = grpc::health::v1::HealthCheckResponse;
      ASSIGN_OR_RETURN(const bool serving, client.IsServing(*service));
      if (json) {
        Response response;
        response.set_status(serving ? Response::SERVING
                                    : Response::NOT_SERVING);
        PrintJson(response);
      } else {
        std::cout << (serving ? "serving" : "not serving") << std::endl;
      }
      return serving ? absl::OkStatus()
                     : absl::UnavailableError("the server does not serve now");
    };
  });
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Talks to an ounce-server.", "ounce");
  app.footer(kCommandFooter);  // which commands take over
  app.get_formatter()->column_width(30);
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", OUNCE_VERSION);
  app.add_option("--server", options.client.server,
                 "Inference [127.0.0.1:8500]")
      ->envname("OUNCE_SERVER")
      ->type_name("HOST:PORT");
  app.add_option("--admin", options.client.admin, "ModelAdmin [127.0.0.1:8501]")
      ->envname("OUNCE_ADMIN")
      ->type_name("HOST:PORT");
  app.add_option("--deadline", options.deadline_seconds,
                 "That the call may take [no limit]")
      ->type_name("SECONDS")
      ->check(CheckSeconds);
  app.add_flag("--json", options.json,
               "Print each message of the server as JSON, one a line");
  Command command;
  AddGenerate(app, &command);
  AddTexts(app, &command);
  AddModels(app, &command);
  AddQuantize(app, &command);
  AddHealth(app, &command);
  app.footer(kFooter);
  // CLI11 reports by exceptions, --help and --version too.
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool no_command =
        error.get_name() == "RequiredError" && app.get_subcommands().empty();
    if (no_command && app.remaining_size() > 0) {
      std::cerr << "no command '" << app.remaining().front() << "'\n"
                << "Run with --help for more information." << std::endl;
      return kWrongUsage;
    }
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (options.deadline_seconds.has_value()) {
    options.client.timeout = absl::Seconds(*options.deadline_seconds);
  }
  const absl::Status status =
      command(*Client::Create(options.client), options.json);
  if (!status.ok()) {
    const bool terminal = isatty(STDERR_FILENO);
    std::cerr << (terminal ? "\033[31m" : "")
              << "ounce: " << absl::StatusCodeToString(status.code()) << ": "
              << std::string(status.message()) << (terminal ? "\033[0m" : "")
              << std::endl;
  }
  return ExitCode(status);
}

}  // namespace
}  // namespace ounce::client

int main(int argc, char** argv) {
  // What is no UTF-8 the server names better than protobuf's own log.
  google::protobuf::SetLogHandler(nullptr);
  return ounce::client::Main(argc, argv);
}
