// consumer SERVER MODEL PROMPT: prints what the model writes.
#include <ounce/client.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  ounce::client::Client::Options options;
  options.server = argv[1];
  options.timeout = absl::Seconds(60);
  options.retries = 3;
  const auto client = ounce::client::Client::Create(options);
  ounce::v1::GenerateRequest request;
  request.set_model(argv[2]);
  request.set_prompt(argv[3]);
  request.set_max_new_tokens(4);
  const absl::Status status =
      client->Generate(request, [](const ounce::v1::GenerateResponse& message) {
        std::cout << message.text();
        return true;
      });
  if (!status.ok()) std::cerr << status << std::endl;
  return status.ok() ? 0 : 1;
}
