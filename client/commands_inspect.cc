// inspect.
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/inspection.h"

namespace ounce::client {
namespace {

struct InspectFlags {
  std::string what, plan, tensor, method;
};

v1::InspectRequest Request(const InspectFlags& flags) {
  v1::InspectRequest request;
  // No name of a model has one.
  if (flags.what.find('/') == std::string::npos) {
    request.set_model(flags.what);
  } else {
    request.set_path(flags.what);
  }
  request.set_plan(flags.plan);
  request.set_tensor(flags.tensor);
  request.set_method(flags.method);
  return request;
}

}  // namespace

void AddInspectCommand(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand(
      "inspect", "Show a checkpoint's tensors, and how values are distributed");
  auto flags = std::make_shared<InspectFlags>();
  sub->add_option(
         "MODEL|FOLDER", flags->what,
         "A served model; or, with a / in it, a folder or a GGUF file on\n"
         "the server (./code) or org/name")
      ->required()
      ->type_name("");
  sub->add_option("--plan", flags->plan,
                  "What to store it by (ounce quantize --help) [the model's\n"
                  "own, of a folder keep]")
      ->type_name("PLAN")
      ->check(NotEmpty("a plan"));
  auto* tensor =
      sub->add_option("--tensor", flags->tensor,
                      "Show how this tensor's values are distributed")
          ->type_name("NAME")
          ->check(NotEmpty("a tensor's name"));
  sub->add_option("--method", flags->method,
                  "And what a method does to them (ounce methods)")
      ->type_name("SPEC")
      ->check(NotEmpty("a method"))
      ->needs(tensor);
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Show(client.Inspect(Request(*flags)), json,
                  [](const v1::InspectResponse& response) {
                    std::cout << (response.has_values()
                                      ? ValuesText(response.values())
                                      : InspectionText(response));
                  });
    };
  });
}

}  // namespace ounce::client
