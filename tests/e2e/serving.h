// A real ounce-server with the embedded model, the real ounce command line, and
// a client of our own, for tests of the whole.
#ifndef OUNCE_TESTS_E2E_SERVING_H_
#define OUNCE_TESTS_E2E_SERVING_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "tests/e2e/process.h"
#include "tests/testing/http_get.h"
#include "tests/testing/loopback.h"
#include "tests/testing/temp_folder.h"

namespace ounce::testing {

inline constexpr char kTinyModel[] = OUNCE_SOURCE_ROOT "/embedded/codegen-tiny";

// AddressSanitizer keeps what is freed, so figures of memory mean nothing.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kMemoryIsReal = false;
#else
inline constexpr bool kMemoryIsReal = true;
#endif

class ServingTest : public ::testing::Test {
 protected:
  // Starts a server on free ports and waits until it serves. `under` is what
  // starts it: a command that takes another one as its arguments.
  void Start(std::vector<std::string> flags = {"--model",
                                               absl::StrCat("tiny=",
                                                            kTinyModel)},
             std::vector<std::string> under = {}) {
    std::vector<std::string> args = {
        OUNCE_SERVER_BINARY, "--listen",     "127.0.0.1:0",
        "--admin_listen",    "127.0.0.1:0",  "--metrics_listen",
        "127.0.0.1:0",       "--ports_file", folder_.Path("ports")};
    args.insert(args.begin(), under.begin(), under.end());
    args.insert(args.end(), flags.begin(), flags.end());
    server_ = std::make_unique<Process>(args);
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (ReadFile(folder_.Path("ports")).empty()) {
      ASSERT_TRUE(server_->Running()) << server_->err();
      ASSERT_LT(absl::Now(), deadline) << server_->err();
      absl::SleepFor(absl::Milliseconds(10));
    }
    const auto ports = nlohmann::json::parse(ReadFile(folder_.Path("ports")));
    inference_ = ports["inference"];
    admin_ = ports["admin"];
    metrics_ = ports["metrics"];
    client_ = client::Client::Create({.server = inference_, .admin = admin_});
  }

  // Stops it as an operator would; it must end well.
  void Stop() {
    server_->Signal(SIGTERM);
    EXPECT_EQ(server_->Wait(absl::Minutes(1)), 0) << server_->err();
    std::filesystem::remove(folder_.Path("ports"));
  }

  void TearDown() override {
    if (server_ != nullptr && server_->Running()) Stop();
  }

  // The command line against this server.
  Finished Cli(std::vector<std::string> args, const std::string& input = "") {
    args.insert(args.begin(),
                {OUNCE_CLI_BINARY, "--server", inference_, "--admin", admin_});
    return RunToEnd(args, input);
  }

  static v1::GenerateRequest Request(const std::string& prompt,
                                     uint32_t max_new_tokens) {
    v1::GenerateRequest request;
    request.set_model("tiny");
    request.set_prompt(prompt);
    request.set_max_new_tokens(max_new_tokens);
    return request;
  }

  // The embedded model as if it had been trained on longer texts; it writes
  // without end then, though not well.
  std::string LongModel() {
    const std::string folder = folder_.Path("long");
    std::filesystem::copy(kTinyModel, folder);
    nlohmann::json config =
        nlohmann::json::parse(ReadFile(folder + "/config.json"));
    config["n_positions"] = 8192;
    config["n_ctx"] = 8192;
    std::filesystem::remove(folder + "/config.json");
    std::ofstream(folder + "/config.json") << config;
    return folder;
  }

  // What takes the better part of a second to quantize, so that a client may do
  // something meanwhile: the embedded model, with its first layer in the place
  // of each of many.
  std::string DeepModel() {
    constexpr int kLayers = 64;
    const std::string folder = folder_.Path("deep");
    std::filesystem::copy(kTinyModel, folder);
    auto config = nlohmann::json::parse(ReadFile(folder + "/config.json"));
    config["n_layer"] = kLayers;
    folder_.WriteFile("deep/config.json", config.dump());

    const std::string file = ReadFile(folder + "/model.safetensors");
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
    const auto tensors =
        nlohmann::json::parse(file.substr(sizeof(header_bytes), header_bytes));
    nlohmann::json header;
    std::string data;
    const auto add = [&](const std::string& name, nlohmann::json tensor) {
      const size_t begin = tensor["data_offsets"][0];
      const size_t end = tensor["data_offsets"][1];
      tensor["data_offsets"] = {data.size(), data.size() + (end - begin)};
      data.append(file, sizeof(header_bytes) + header_bytes + begin,
                  end - begin);
      header[name] = tensor;
    };
    const std::string first = "transformer.h.0.";
    for (const auto& [name, tensor] : tensors.items()) {
      if (name.starts_with(first)) {
        for (int i = 0; i < kLayers; ++i) {
          add(absl::StrCat("transformer.h.", i, ".", name.substr(first.size())),
              tensor);
        }
      } else if (!name.starts_with("transformer.h.") &&
                 name != "__metadata__") {
        add(name, tensor);
      }
    }
    const std::string text = header.dump();
    header_bytes = text.size();
    std::string length(sizeof(header_bytes), 0);
    std::memcpy(length.data(), &header_bytes, sizeof(header_bytes));
    folder_.WriteFile("deep/model.safetensors", length + text + data);
    return folder;
  }

  // The whole text, and the last message.
  absl::StatusOr<std::pair<std::string, v1::GenerateResponse>> Generate(
      const v1::GenerateRequest& request) {
    std::string text;
    v1::GenerateResponse last;
    const absl::Status status =
        client_->Generate(request, [&](const v1::GenerateResponse& message) {
          text += message.text();
          last = message;
          return true;
        });
    if (!status.ok()) return status;
    return std::pair(text, last);
  }

  absl::StatusOr<v1::QuantizeReport> Quantize(
      const v1::QuantizeRequest& request,
      const std::function<bool(const v1::QuantizeProgress&)>& on_message =
          [](const v1::QuantizeProgress&) { return true; }) {
    v1::QuantizeReport report;
    const absl::Status status =
        client_->Quantize(request, [&](const v1::QuantizeProgress& progress) {
          if (progress.has_report()) report = progress.report();
          return on_message(progress);
        });
    if (!status.ok()) return status;
    return report;
  }
  static v1::QuantizeRequest ToInt8() {
    v1::QuantizeRequest request;
    request.set_model("tiny");
    request.set_method("linear:bits=8");
    return request;
  }

  v1::Model Model(const std::string& name) {
    v1::GetModelRequest request;
    request.set_name(name);
    const auto model = client_->GetModel(request);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.value_or(v1::Model());
  }

  // The value of a metric whose line begins with its name and holds each of
  // `labels` (key="value"); -1 if there is none, summed if there are several.
  double Metric(const std::string& name,
                const std::vector<std::string>& labels = {}) {
    double sum = 0;
    bool found = false;
    for (const absl::string_view view :
         absl::StrSplit(HttpGet(metrics_, "/metrics"), '\n')) {
      const std::string line(view);
      if (!line.starts_with(name + "{") && !line.starts_with(name + " ")) {
        continue;
      }
      bool matches = true;
      for (const std::string& label : labels) {
        matches &= line.find(label) != std::string::npos;
      }
      if (!matches) continue;
      found = true;
      sum += std::stod(line.substr(line.rfind(' ') + 1));
    }
    return found ? sum : -1;
  }

  // For servers that are started until LD_PRELOAD is unset. AddressSanitizer
  // may come after it: it takes nobody's place but that of few functions.
  static void PreloadForServers(const char* library) {
    setenv("LD_PRELOAD", library, 1);
    const char* const options = getenv("ASAN_OPTIONS");
    setenv("ASAN_OPTIONS",
           absl::StrCat(options != nullptr ? absl::StrCat(options, ":") : "",
                        "verify_asan_link_order=0")
               .c_str(),
           1);
  }

  // One that nothing listens on now, for programs that can't choose one.
  static int FreePort() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    OUNCE_CHECK(bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0,
                "a free port");
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    close(fd);
    return ntohs(address.sin_port);
  }

  static bool WaitUntil(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  const TempFolder folder_;
  std::unique_ptr<Process> server_;
  std::string inference_, admin_, metrics_;  // HOST:PORT
  std::unique_ptr<client::Client> client_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_E2E_SERVING_H_
