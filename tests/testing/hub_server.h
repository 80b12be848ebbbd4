// A Hugging Face hub on this machine, for tests: its HTTP API, with files that
// the test puts there and faults that it asks for.
//
//   HubServer hub;
//   hub.Put("org/model", "config.json", "{}");
//   hub.Fault({.path = "config.json", .code = 503});  // once
#ifndef OUNCE_TESTS_TESTING_HUB_SERVER_H_
#define OUNCE_TESTS_TESTING_HUB_SERVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ounce::testing {

// What a test of the hub may want to know of a request.
struct SeenRequest {
  bool storage = false;  // of the other host, where large files' bytes lie
  std::string method, path, authorization, range;
  std::string body = {};
};

// What becomes of the next request whose path has `path` in it.
struct HubFault {
  std::string path;
  std::string method = "";  // empty: any
  int code = 0;             // 0: as without the fault
  std::map<std::string, std::string> headers = {};
  std::string body = {};
  std::optional<size_t> break_after = {};  // bytes of the body
  bool ignores_range = false;              // 200 and all of it
  std::optional<std::string> bytes = {};   // in place of the file's
};

class HubServer {
 public:
  static constexpr char kCommit[] = "0123456789abcdef0123456789abcdef01234567";

  // Without a `token` everybody may do everything.
  explicit HubServer(std::string token = "");
  ~HubServer();

  // "http://127.0.0.1:PORT"; the storage is another port of "localhost".
  std::string endpoint() const;

  // `large` files are led to the storage, and have a SHA-256 for an ETag.
  void Put(const std::string& model, const std::string& path,
           const std::string& bytes, bool large = false);
  void Fault(HubFault fault);
  // Of uploads: 0 lets a file come in one request. The parts are numbered in
  // both ways that storages do: "1", "00002".
  void SetChunkSize(size_t bytes);

  // All requests so far, in order; those whose path has `part` in it.
  std::vector<SeenRequest> Seen(std::string_view part = "") const;
  // What has been committed to `model`, by path.
  std::map<std::string, std::string> Committed(const std::string& model) const;

 private:
  class State;
  struct Daemon;

  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<Daemon>> daemons_;
};

// By which the hub names bytes: git's of a blob, and of large ones.
std::string GitSha1(const std::string& bytes);
std::string Sha256(const std::string& bytes);

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_HUB_SERVER_H_
