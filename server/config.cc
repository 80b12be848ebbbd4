#include "server/config.h"

#include <google/protobuf/text_format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/cpu.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "ounce/v1/server_config.pb.h"
#include "server/config_file.h"
#include "server/scheduler/model_catalog.h"
#include "server/settings.h"

namespace ounce::server {
namespace {

constexpr char kFooter[] = R"(
Examples:
  ounce-server --model tiny=embedded/codegen-tiny
  ounce-server --model code=Salesforce/codegen-350M-mono,method=linear
  ounce-server --model 'code=org/name,plan=lm_head=keep *.mlp.*=bfloat16 linear'
  ounce-server --model detr=facebook/detr-resnet-50 --compute float32
  ounce-server --config server.textproto --threads 4 --kv_cache_bytes 512MiB

Signals: SIGTERM, SIGINT and SIGHUP let running requests finish, then end the
server with exit code 0. A second signal, or one before it is ready, ends it at once
with 128 plus the signal's number.
Exit codes: 0 stopped as told, 1 cannot serve, 2 wrong flags or file, 3 a stop
took longer than it may.)";

constexpr char kModelForm[] =
    "NAME=PATH[,method=SPEC][,convolutions=true] or NAME=PATH,plan=PLAN";

absl::StatusOr<model::MethodPlan> PlanOfModel(const std::string& name,
                                              std::string_view plan,
                                              const model::ShortForm& form) {
  absl::StatusOr<model::MethodPlan> parsed = model::PlanOf(plan, form);
  RETURN_IF_ERROR(
      WithContext(parsed.status(),
                  StrCat("model '", name, "'", plan.empty() ? "" : ": plan")));
  return parsed;
}

// A spec may have commas of its own, so `convolutions` is looked for at the
// end; and a plan is all that follows.
absl::StatusOr<Config::Model> ParseModel(const std::string& flag) {
  const auto error = [&](const auto&... words) {
    return absl::InvalidArgumentError(
        StrCat("--model '", flag, "': ", words...));
  };
  const size_t equals = flag.find('=');
  if (equals == std::string::npos) {
    return error("must be ", kModelForm);
  }
  Config::Model model;
  model.name = flag.substr(0, equals);
  model.path = flag.substr(equals + 1);
  std::string plan;
  constexpr std::string_view kPlan = ",plan=";
  if (const size_t at = model.path.find(kPlan); at != std::string::npos) {
    plan = model.path.substr(at + kPlan.size());
    model.path.resize(at);
    if (plan.empty()) {
      return error("a plan must follow 'plan=', like 'lm_head=keep linear'");
    }
  }
  model::ShortForm form;
  constexpr std::string_view kConvolutions = ",convolutions=";
  if (const size_t at = model.path.rfind(kConvolutions);
      at != std::string::npos) {
    const std::string value = model.path.substr(at + kConvolutions.size());
    if (value != "true" && value != "false") {
      return error("convolutions, the last option, must be true or false, is '",
                   value, "'");
    }
    form.convolutions = value == "true";
    model.path.resize(at);
  }
  constexpr std::string_view kMethod = ",method=";
  if (const size_t at = model.path.find(kMethod); at != std::string::npos) {
    form.method = model.path.substr(at + kMethod.size());
    model.path.resize(at);
    if (form.method.empty()) {
      return error("a spec must follow 'method=', like linear");
    }
  }
  // No folder is called like that; one that is can be named in the file.
  static const std::regex* const kOption = new std::regex(",([A-Za-z_]+)=");
  if (std::smatch match; std::regex_search(model.path, match, *kOption)) {
    return error("unknown option '", match[1].str(),
                 "'; there are method=SPEC, convolutions=true and plan=PLAN");
  }
  ASSIGN_OR_RETURN(model.plan, PlanOfModel(model.name, plan, form));
  return model;
}

// Those of the file.
absl::Status AddModels(const v1::ServerConfig& file, Config* config) {
  for (const v1::ModelConfig& model : file.models()) {
    ASSIGN_OR_RETURN(model::MethodPlan plan,
                     PlanOfModel(model.name(), model.plan(),
                                 {.method = model.method(),
                                  .convolutions = model.convolutions()}));
    config->models.push_back({model.name(), model.path(), std::move(plan)});
  }
  return absl::OkStatus();
}

// Models of flags replace those of the same name, and join the others.
absl::Status AddModels(const std::vector<std::string>& flags, Config* config) {
  std::vector<Config::Model> models;
  for (const std::string& flag : flags) {
    ASSIGN_OR_RETURN(Config::Model model, ParseModel(flag));
    std::erase_if(config->models, [&](const Config::Model& other) {
      return other.name == model.name;
    });
    models.push_back(std::move(model));
  }
  for (Config::Model& model : models) {
    config->models.push_back(std::move(model));
  }
  return absl::OkStatus();
}

absl::Status CheckModels(const Config& config) {
  std::set<std::string> names;
  for (const Config::Model& model : config.models) {
    if (!IsModelName(model.name)) {
      return absl::InvalidArgumentError(StrCat("a model's name must be ",
                                               kModelNameRule, ", is '",
                                               model.name, "'"));
    }
    if (model.path.empty()) {
      return absl::InvalidArgumentError(StrCat(
          "model '", model.name, "' has no path; give a folder or org/name"));
    }
    if (model.path[0] == '~') {
      return absl::InvalidArgumentError(
          StrCat("model '", model.name, "': the path '", model.path,
                 "' begins with ~, which only a shell expands, and only at the "
                 "beginning of a word; write $HOME or the whole path"));
    }
    if (!names.insert(model.name).second) {
      return absl::InvalidArgumentError(
          StrCat("two models are named '", model.name, "'"));
    }
  }
  return absl::OkStatus();
}

// What TLS is told fits together.
absl::Status CheckTls(const Config& config) {
  const Config::Tls& tls = config.tls;
  const auto error = [](const auto&... words) {
    return absl::InvalidArgumentError(StrCat(words...));
  };
  if (tls.cert.empty() != tls.key.empty()) {
    return tls.cert.empty() ? error("--tls_key: needs --tls_cert too")
                            : error("--tls_cert: needs --tls_key too");
  }
  struct ClientCa {
    const char* setting;
    const std::string& file;
    const char* listener;
  };
  for (const ClientCa& ca :
       {ClientCa{"tls_client_ca", tls.client_ca, "listen"},
        ClientCa{"admin_tls_client_ca", tls.admin_client_ca, "admin_listen"},
        ClientCa{"metrics_tls_client_ca", tls.metrics_client_ca,
                 "metrics_listen"}}) {
    if (ca.file.empty() || tls.On(ca.listener)) continue;
    return tls.cert.empty()
               ? error("--", ca.setting, ": needs --tls_cert and --tls_key too")
               : error("--", ca.setting, ": ", ca.listener,
                       " speaks no TLS; name it in --tls_listeners");
  }
  return absl::OkStatus();
}

// Whoever reaches ModelAdmin can load any file and unload every model.
absl::Status CheckAdmin(const Config& config) {
  if (IsLoopbackAddress(config.listen.admin) || !config.token_file.empty() ||
      !config.tls.admin_client_ca.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat("--admin_listen: at '", config.listen.admin,
             "' others reach it, so it needs to know who calls: set "
             "--token_file, or --admin_tls_client_ca, or listen on 127.0.0.1"));
}

// --max-new-tokens as --max_new_tokens; values keep their dashes.
std::vector<std::string> WithUnderscores(int argc, const char* const* argv) {
  std::vector<std::string> args(argv, argv + argc);
  for (std::string& arg : args) {
    if (arg == "--") break;
    if (arg.rfind("--", 0) != 0) continue;
    const size_t end = std::min(arg.find('='), arg.size());
    std::replace(arg.begin() + 2, arg.begin() + end, '-', '_');
  }
  return args;
}

// One file: of two it would be a guess which goes first.
absl::Status CheckOneFile(const std::vector<std::string>& paths) {
  if (paths.size() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("--config: is given ", paths.size(), " times ('",
             absl::StrJoin(paths, "', '"),
             "'); give it once. A container's entrypoint may name a file "
             "already: mount yours in its place, or set another entrypoint"));
}

// What is wrong in the file, though a flag overrides it.
absl::Status OverriddenByFlag(const absl::Status& wrong) {
  return absl::InvalidArgumentError(
      absl::StrCat(wrong.message(),
                   "; a flag overrides it, but the file is checked as a "
                   "whole: mend it there, or take it out"));
}

// Flags as given, by setting.
using GivenFlags = std::map<std::string_view, std::vector<std::string>>;

void AddSettings(CLI::App& app, GivenFlags* given) {
  for (const Setting& setting : Settings()) {
    const std::string flag = StrCat("--", setting.name);
    std::vector<std::string>& texts = (*given)[setting.name];
    if (setting.type == SettingType::kFlag) {
      // As text: SetField says what is wrong with --keep_going=maybe.
      app.add_flag(flag, texts, HelpOf(setting));
    } else {
      app.add_option(flag, texts, HelpOf(setting))
          ->allow_extra_args(false)
          ->type_name(FormOf(setting));
    }
  }
}

// What is wrong with the words of the command line.
std::string Fault(const CLI::App& app, const CLI::ParseError& error) {
  std::string what = error.what();
  if (const auto words = app.remaining(); !words.empty()) {
    return StrCat("'", words[0], "' is neither a flag nor a flag's value");
  }
  if (error.get_name() == "ArgumentMismatch") {
    return StrCat(what.substr(0, what.find(':')), ": needs a value");
  }
  return what;
}

// "--threads N" where CLI11 would write "--threads N ...".
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string form = option->get_type_name();
    return form.empty() ? "" : " " + form;
  }
};

}  // namespace

bool IsLoopbackAddress(std::string_view address) {
  const std::string_view host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") &&
          host.find_first_not_of("0123456789.") == std::string_view::npos);
}

bool Config::Tls::On(std::string_view listener) const {
  if (cert.empty()) return false;
  const std::vector<std::string> names = absl::StrSplit(listeners, ',');
  return std::find(names.begin(), names.end(), listener) != names.end();
}

absl::StatusOr<Config> ReadConfig(int argc, const char* const* argv) {
  std::vector<std::string> models;
  std::vector<std::string> paths;
  GivenFlags given;
  CLI::App app(
      "Serves Hugging Face models, and quantizes them while it serves.",
      "ounce-server");
  app.footer(kFooter);
  app.formatter(std::make_shared<HelpFormatter>());
  app.get_formatter()->column_width(34);
  app.add_option(
         "--model", models,
         StrCat("A model to serve: ", kModelForm,
                ". PATH is a folder in Hugging Face layout, a GGUF file, or "
                "org/name from the local Hugging Face cache; a PLAN is as in "
                "ounce quantize --plan. Repeat it for more models"))
      ->allow_extra_args(false)
      ->type_name("NAME=PATH");
  app.add_option("--config", paths,
                 "File with these settings in protobuf text format, an "
                 "ounce.v1.ServerConfig; flags override it")
      ->allow_extra_args(false)
      ->type_name("FILE");
  AddSettings(app, &given);
  app.set_version_flag("--version", OUNCE_VERSION);

  // CLI11 reports by exceptions, --help and --version too.
  try {
    std::vector<std::string> args = WithUnderscores(argc, argv);
    // In reverse, without the program's name: as it wants them.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend() - 1));
  } catch (const CLI::Success& success) {
    std::ostringstream out, err;
    app.exit(success, out, err);
    Config config;
    config.print = out.str();
    return config;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(Fault(app, error), " (see ounce-server --help)"));
  }
  v1::ServerConfig file;
  std::string path;
  if (!paths.empty()) {
    RETURN_IF_ERROR(CheckOneFile(paths));
    path = paths[0];
    if (path.empty()) {
      return absl::InvalidArgumentError("--config: must be a file, is ''");
    }
    ASSIGN_OR_RETURN(file, ReadConfigFile(path));
  }
  Config config;
  const absl::Status of_file = WithContext(ApplyFields(file, &config), path);
  for (const Setting& setting : Settings()) {
    if (given[setting.name].empty()) continue;
    RETURN_IF_ERROR(SetField(setting, given[setting.name], &file));
  }
  config = Config();
  const absl::Status with_flags = ApplyFields(file, &config);
  if (!of_file.ok()) {
    return with_flags.ok() ? OverriddenByFlag(of_file) : of_file;
  }
  RETURN_IF_ERROR(with_flags);
  RETURN_IF_ERROR(WithContext(AddModels(file, &config), path));
  RETURN_IF_ERROR(AddModels(models, &config));
  RETURN_IF_ERROR(CheckModels(config));
  RETURN_IF_ERROR(CheckTls(config));
  RETURN_IF_ERROR(CheckAdmin(config));
  if (config.threads == 0) config.threads = NumCpus();
  file.clear_models();
  google::protobuf::TextFormat::PrintToString(file, &config.settings);
  return config;
}

}  // namespace ounce::server
