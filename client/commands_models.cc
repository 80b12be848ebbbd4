// models, methods, load, unload, health.
#include <iostream>
#include <memory>
#include <string>

#include "client/command.h"
#include "client/report.h"
#include "grpc/health/v1/health.pb.h"

namespace ounce::client {

void AddModelCommands(CLI::App& app, Command* command) {
  auto* models = app.add_subcommand("models", "What is served");
  models->callback([command] {
    *command = [](Client& client, bool json) {
      return Show(client.ListModels(), json,
                  [](const v1::ListModelsResponse& response) {
                    std::cout << ModelsText(response);
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
  auto convolutions = std::make_shared<bool>(false);
  auto* load = app.add_subcommand("load", "Serve a checkpoint");
  load->add_option("NAME", *name, "To serve it under")
      ->required()
      ->type_name("");
  load->add_option("PATH", *path, "A folder on the server, or org/name")
      ->required()
      ->type_name("");
  load->add_option("--method", *method, "[as in the checkpoint]")
      ->type_name("SPEC");
  load->add_flag("--convolutions", *convolutions,
                 "By that method convolutions too");
  load->callback([name, path, method, convolutions, command] {
    *command = [name, path, method, convolutions](Client& client, bool json) {
      v1::LoadModelRequest request;
      request.set_name(*name);
      request.set_path(*path);
      request.set_method(*method);
      request.set_convolutions(*convolutions);
      return Show(client.LoadModel(request), json, [&](const v1::Model& model) {
        v1::ListModelsResponse list;
        *list.add_models() = model;
        std::cout << ModelsText(list);
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

void AddHealthCommand(CLI::App& app, Command* command) {
  auto service = std::make_shared<std::string>();
  auto* health = app.add_subcommand("health", "Does it serve?");
  health
      ->add_option("SERVICE", *service,
                   "ounce.v1.Inference or models/NAME [all of it]")
      ->type_name("");
  health->callback([service, command] {
    *command = [service](Client& client, bool json) {
      using Response = grpc::health::v1::HealthCheckResponse;
      const absl::StatusOr<bool> serving = client.IsServing(*service);
      if (!serving.ok()) return Report(serving.status());
      if (json) {
        Response response;
        response.set_status(*serving ? Response::SERVING
                                     : Response::NOT_SERVING);
        std::cout << ToJson(response) << std::endl;
      } else {
        std::cout << (*serving ? "serving" : "not serving") << std::endl;
      }
      return *serving ? 0
                      : Report(absl::UnavailableError(
                            "the server does not serve now"));
    };
  });
}

}  // namespace ounce::client
