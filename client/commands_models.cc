// models, methods, load, unload, health.
#include <unistd.h>

#include <chrono>
#include <future>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/report.h"
#include "grpc/health/v1/health.pb.h"

namespace ounce::client {
namespace {

// What the server makes of a load whose call did not come to its end.
std::string AfterLoad(const Client& client, const std::string& name) {
  const std::unique_ptr<Client> asking = client.WithTimeout(absl::Seconds(5));
  v1::GetModelRequest request;
  request.set_name(name);
  constexpr int kMostLooks = 100;
  for (int i = 0; i < kMostLooks; ++i) {
    const absl::StatusOr<v1::Model> model = asking->GetModel(request);
    if (absl::IsNotFound(model.status())) {
      return absl::StrCat("; '", name, "' is not served");
    }
    if (!model.ok()) return "";
    if (model->version() > 0) {
      return absl::StrCat("; '", name,
                          "' was loaded by then and is served: ounce unload ",
                          name, " ends that");
    }
    WaitAMoment();
  }
  return absl::StrCat("; the server still loads '", name,
                      "': ounce models shows it");
}

// Shows how long it takes: the server does not tell how far it is.
absl::StatusOr<v1::Model> LoadShowingSeconds(
    Client& client, const v1::LoadModelRequest& request) {
  auto loading =
      std::async(std::launch::async, [&] { return client.LoadModel(request); });
  constexpr std::chrono::seconds kTick(1);
  for (int s = 1; loading.wait_for(kTick) != std::future_status::ready; ++s) {
    ShowOnTerminal(absl::StrCat("loading ", request.name(), ": ", s, " s"));
  }
  ShowOnTerminal("");
  return loading.get();
}

absl::StatusOr<v1::Model> Load(Client& client,
                               const v1::LoadModelRequest& request, bool json) {
  absl::StatusOr<v1::Model> model = !json && IsTerminal(STDERR_FILENO)
                                        ? LoadShowingSeconds(client, request)
                                        : client.LoadModel(request);
  const absl::Status& status = model.status();
  if (absl::IsCancelled(status) || absl::IsDeadlineExceeded(status)) {
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), AfterLoad(client, request.name())));
  }
  return model;
}

// Of the admin port, or, if nothing answers there, of the public one.
int ShowModels(Client& client, bool json) {
  const absl::StatusOr<v1::ListModelsResponse> models = client.ListModels();
  if (absl::IsUnavailable(models.status())) {
    const absl::StatusOr<v1::ListServedModelsResponse> served =
        client.ListServedModels();
    if (served.ok()) {
      std::cerr << "ounce: sizes and load are left out, because only the admin "
                   "port tells them: "
                << PrintableLines(models.status().message()) << std::endl;
      return Show(served, json,
                  [](const v1::ListServedModelsResponse& response) {
                    std::cout << ServedModelsText(response);
                  });
    }
  }
  return Show(models, json, [](const v1::ListModelsResponse& response) {
    std::cout << ModelsText(response);
  });
}

}  // namespace

void AddModelCommands(CLI::App& app, Command* command) {
  auto* models = app.add_subcommand("models", "Show what is served");
  PutAboveFooter(
      models,
      "Where the admin port can't be reached it shows what the public one "
      "tells: names,\ntasks, states and methods, without sizes and load.\n");
  models->callback([command] { *command = ShowModels; });
  auto* methods = app.add_subcommand(
      "methods", "Show the ways to quantize, with their parameters");
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
  auto plan = std::make_shared<std::string>();
  auto convolutions = std::make_shared<bool>(false);
  auto* load = app.add_subcommand("load", "Load a checkpoint and serve it");
  load->add_option("NAME", *name, "The name to serve it under")
      ->required()
      ->type_name("");
  load->add_option("PATH", *path, "A folder or a GGUF file on the server, or org/name")
      ->required()
      ->type_name("");
  load->add_option("--method", *method,
                   "How to store the weights (ounce methods) [as in the\n"
                   "checkpoint]")
      ->type_name("SPEC")
      ->check(NotEmpty("a method"));
  load->add_flag("--convolutions", *convolutions,
                 "Store convolutions by that method too");
  load->add_option("--plan", *plan,
                   "In place of these: which modules are stored how\n"
                   "(ounce quantize --help)")
      ->type_name("PLAN")
      ->check(NotEmpty("a plan"));
  PutAboveFooter(
      load,
      "On a terminal it shows the seconds: the server does not tell how far it "
      "is. Ctrl-C,\nor --deadline, cancels it, and what became of it is "
      "told.\n");
  load->callback([name, path, method, convolutions, plan, command] {
    *command = [name, path, method, convolutions, plan](Client& client,
                                                        bool json) {
      v1::LoadModelRequest request;
      request.set_name(*name);
      request.set_path(*path);
      request.set_method(*method);
      request.set_convolutions(*convolutions);
      request.set_plan(*plan);
      return Show(Load(client, request, json), json,
                  [](const v1::Model& model) {
                    v1::ListModelsResponse list;
                    *list.add_models() = model;
                    std::cout << ModelsText(list);
                  });
    };
  });

  auto force = std::make_shared<bool>(false);
  auto* unload = app.add_subcommand("unload", "Stop serving a model");
  unload->add_option("MODEL", *name, "A served model")
      ->required()
      ->type_name("");
  unload->add_flag("--force", *force,
                   "End its running requests at once (UNAVAILABLE), also\n"
                   "while another unload waits for them");
  PutAboveFooter(
      unload,
      "Returns when the model's running requests have ended and its memory is "
      "free.\n--deadline ends the waiting, not the unloading.\n");
  unload->callback([name, force, command] {
    *command = [name, force](Client& client, bool json) {
      v1::UnloadModelRequest request;
      request.set_name(*name);
      request.set_force(*force);
      return Show(client.UnloadModel(request), json,
                  [&](const v1::UnloadModelResponse&) {
                    std::cout << "unloaded " << *name << std::endl;
                  });
    };
  });
}

void AddHealthCommand(CLI::App& app, Command* command) {
  auto service = std::make_shared<std::string>();
  auto* health = app.add_subcommand(
      "health", "Ask whether the server, or a model, serves");
  health
      ->add_option("SERVICE", *service,
                   "liveness, ounce.v1.Inference, ounce.v1.ModelAdmin or\n"
                   "models/NAME [the whole server]")
      ->type_name("");
  health->callback([service, command] {
    *command = [service](Client& client, bool json) {
      using Response = grpc::health::v1::HealthCheckResponse;
      const absl::StatusOr<bool> serving = client.IsServing(*service);
      if (!serving.ok()) return Report(serving.status());
      absl::Status written = absl::OkStatus();
      if (json) {
        Response response;
        response.set_status(*serving ? Response::SERVING
                                     : Response::NOT_SERVING);
        written = Print(JsonLine(ToJson(response)));
      } else {
        written = Print(*serving ? "serving\n" : "not serving\n");
      }
      if (!written.ok()) return Report(written);
      return *serving ? 0
                      : Report(absl::UnavailableError(
                            absl::StartsWith(*service, "models/")
                                ? "not ready: it is being loaded or could not "
                                  "be, or the server is shutting down"
                                : "not ready: loading models, or shutting "
                                  "down"));
    };
  });
}

}  // namespace ounce::client
