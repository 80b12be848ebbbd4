#include "tests/testing/hub_server.h"

#include <microhttpd.h>
#include <openssl/sha.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/mutex.h"
#include "tests/testing/loopback.h"

namespace ounce::testing {
namespace {

using Headers = std::map<std::string, std::string>;

struct Answer {
  int code = 404;
  Headers headers = {};
  std::string body = {};
  std::optional<size_t> break_after = {};
};

struct File {
  std::string bytes;
  bool large = false;
};

// "org/model" of "/api/models/org/model" and what `end` begins; "" for others.
std::string ModelOf(const std::string& path, const std::string& end) {
  constexpr absl::string_view kApi = "/api/models/";
  if (!absl::StartsWith(path, kApi)) return "";
  const size_t size = end.empty() ? path.size() : path.find(end, kApi.size());
  if (size == std::string::npos) return "";
  return path.substr(kApi.size(), size - kApi.size());
}

// The part of `bytes` that "bytes=N-" asks for.
Answer Part(const std::string& bytes, const std::string& range) {
  int64_t begin = 0;
  if (!absl::StartsWith(range, "bytes=") ||
      !absl::SimpleAtoi(range.substr(6, range.size() - 7), &begin)) {
    return {.code = 200, .body = bytes};
  }
  if (begin >= static_cast<int64_t>(bytes.size())) return {.code = 416};
  return {.code = 206,
          .headers = {{"Content-Range",
                       absl::StrCat("bytes ", begin, "-", bytes.size() - 1, "/",
                                    bytes.size())}},
          .body = bytes.substr(begin)};
}

std::string Text(const unsigned char* hash, size_t size) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash), size));
}

// The body of an answer that ends before its time.
struct BrokenBody {
  std::string bytes;
  size_t break_after = 0;

  static ssize_t Read(void* self, uint64_t position, char* buffer,
                      size_t most) {
    const auto& broken = *static_cast<BrokenBody*>(self);
    if (position >= broken.break_after)
      return MHD_CONTENT_READER_END_WITH_ERROR;
    const size_t size = std::min<size_t>(most, broken.break_after - position);
    broken.bytes.copy(buffer, size, position);
    return static_cast<ssize_t>(size);
  }
  static void Free(void* self) { delete static_cast<BrokenBody*>(self); }
};

MHD_Response* AsResponse(const Answer& answer) {
  if (answer.break_after.has_value()) {
    return MHD_create_response_from_callback(
        answer.body.size(), 4096, &BrokenBody::Read,
        new BrokenBody{answer.body, *answer.break_after}, &BrokenBody::Free);
  }
  return MHD_create_response_from_buffer(answer.body.size(),
                                         const_cast<char*>(answer.body.data()),
                                         MHD_RESPMEM_MUST_COPY);
}

}  // namespace

std::string GitSha1(const std::string& bytes) {
  const std::string blob =
      absl::StrCat("blob ", bytes.size(), std::string(1, '\0'), bytes);
  unsigned char hash[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(blob.data()), blob.size(), hash);
  return Text(hash, sizeof(hash));
}

std::string Sha256(const std::string& bytes) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         hash);
  return Text(hash, sizeof(hash));
}

// All there is, and what is answered.
class HubServer::State {
 public:
  explicit State(std::string token) : token_(std::move(token)) {}

  Answer Reply(const SeenRequest& request) {
    const MutexLock lock(&mu_);
    seen.push_back(request);
    for (auto fault = faults.begin(); fault != faults.end(); ++fault) {
      if (!absl::StrContains(request.path, fault->path) ||
          (!fault->method.empty() && fault->method != request.method)) {
        continue;
      }
      const HubFault taken = *fault;
      faults.erase(fault);
      if (taken.code != 0) return {taken.code, taken.headers, taken.body};
      return Regular(request, taken);
    }
    return Regular(request, {});
  }

  Mutex mu_;
  std::string endpoint, storage;  // addresses
  std::map<std::string, std::map<std::string, File>> models;
  std::vector<HubFault> faults;
  std::vector<SeenRequest> seen;
  size_t chunk_size = 0;

 private:
  Answer Regular(const SeenRequest& request, const HubFault& fault) {
    if (request.storage) return Storage(request, fault);
    if (!token_.empty() && request.authorization != "Bearer " + token_) {
      return {.code = 401, .headers = {{"X-Error-Code", "RepoNotFound"}}};
    }
    const std::string& path = request.path;
    if (request.method == "POST") return Post(path, request.body);
    if (const std::string model = ModelOf(path, "/revision/"); !model.empty()) {
      return List(model, path.substr(path.find("/revision/") + 10));
    }
    if (const std::string model = ModelOf(path, "/tree/"); !model.empty()) {
      return Tree(model);
    }
    if (const std::string model = ModelOf(path, ""); models.contains(model)) {
      return {
          .code = 200,
          .body =
              nlohmann::json{{"private", privates_.contains(model)}}.dump()};
    }
    const std::vector<std::string> parts =
        absl::StrSplit(path, absl::MaxSplits("/resolve/", 1));
    if (parts.size() != 2) return {};
    return Resolve(request, parts[0].substr(1),
                   parts[1].substr(parts[1].find('/') + 1), fault);
  }

  Answer List(const std::string& model, const std::string& revision) {
    if (!models.contains(model)) {
      return {.code = 404, .headers = {{"X-Error-Code", "RepoNotFound"}}};
    }
    if (revision != "main" && revision != "refs/pr/1" && revision != kCommit) {
      return {.code = 404, .headers = {{"X-Error-Code", "RevisionNotFound"}}};
    }
    nlohmann::json json = {
        {"id", model}, {"sha", kCommit}, {"siblings", nlohmann::json::array()}};
    for (const auto& [path, file] : models[model]) {
      json["siblings"].push_back({{"rfilename", path}});
    }
    return {.code = 200, .body = json.dump()};
  }

  // What Hugging Face's own client asks for besides.
  Answer Tree(const std::string& model) {
    nlohmann::json json = nlohmann::json::array();
    for (const auto& [path, file] : models[model]) {
      json.push_back({{"type", "file"},
                      {"path", path},
                      {"size", file.bytes.size()},
                      {"oid", GitSha1(file.bytes)}});
      if (!file.large) continue;
      json.back()["lfs"] = {{"oid", Sha256(file.bytes)},
                            {"size", file.bytes.size()},
                            {"pointerSize", 134}};
    }
    return {.code = 200, .body = json.dump()};
  }

  Answer Resolve(const SeenRequest& request, const std::string& model,
                 const std::string& path, const HubFault& fault) {
    if (!models.contains(model) || !models[model].contains(path)) {
      return {.code = 404, .headers = {{"X-Error-Code", "EntryNotFound"}}};
    }
    const File& file = models[model][path];
    if (file.large) {
      const std::string hash = Sha256(file.bytes);
      return {.code = 302,
              .headers = {{"X-Repo-Commit", kCommit},
                          {"X-Linked-Etag", absl::StrCat("\"", hash, "\"")},
                          {"X-Linked-Size", absl::StrCat(file.bytes.size())},
                          {"Location", absl::StrCat(storage, "/get/", hash)}}};
    }
    Answer answer = Bytes(request, file.bytes, fault);
    answer.headers["ETag"] = absl::StrCat("W/\"", GitSha1(file.bytes), "\"");
    answer.headers["X-Repo-Commit"] = kCommit;
    return answer;
  }

  static Answer Bytes(const SeenRequest& request, const std::string& bytes,
                      const HubFault& fault) {
    Answer answer = Part(fault.bytes.value_or(bytes),
                         fault.ignores_range ? "" : request.range);
    answer.break_after = fault.break_after;
    return answer;
  }

  Answer Storage(const SeenRequest& request, const HubFault& fault) {
    const std::string hash = request.path.substr(request.path.rfind('/') + 1);
    if (request.method == "PUT") {
      parts_[request.path] = request.body;
      if (absl::StartsWith(request.path, "/put/"))
        objects_[hash] = request.body;
      return {.code = 200,
              .headers = {{"ETag", absl::StrCat("\"", hash, "\"")}}};
    }
    for (const auto& [model, files] : models) {
      for (const auto& [path, file] : files) {
        if (Sha256(file.bytes) == hash) {
          return Bytes(request, file.bytes, fault);
        }
      }
    }
    return {};
  }

  Answer Post(const std::string& path, const std::string& body) {
    if (path == "/api/repos/create") return Create(nlohmann::json::parse(body));
    if (absl::StrContains(path, "/preupload/")) {
      return Preupload(ModelOf(path, "/preupload/"),
                       nlohmann::json::parse(body));
    }
    if (absl::EndsWith(path, ".git/info/lfs/objects/batch")) {
      return Batch(nlohmann::json::parse(body));
    }
    if (absl::StartsWith(path, "/complete/")) {
      return Complete(nlohmann::json::parse(body));
    }
    if (path == "/verify") return Verify(nlohmann::json::parse(body));
    const std::string model = ModelOf(path, "/commit/");
    return model.empty() ? Answer{} : Commit(model, body);
  }

  Answer Create(const nlohmann::json& wanted) {
    const std::string model =
        absl::StrCat(wanted.value("organization", ""), "/",
                     wanted["name"].get<std::string>());
    if (models.contains(model)) return {.code = 409};
    models[model] = {};
    if (wanted.value("visibility", "") == "private") privates_.insert(model);
    return {.code = 200, .body = "{}"};
  }

  Answer Preupload(const std::string& model, const nlohmann::json& wanted) {
    nlohmann::json files = nlohmann::json::array();
    for (const auto& file : wanted["files"]) {
      const std::string path = file["path"];
      const bool large = absl::EndsWith(path, ".safetensors");
      files.push_back({{"path", path},
                       {"uploadMode", large ? "lfs" : "regular"},
                       {"shouldIgnore", absl::EndsWith(path, ".ignored")}});
      if (!models[model].contains(path)) continue;
      const std::string& bytes = models[model][path].bytes;
      files.back()["oid"] = large ? Sha256(bytes) : GitSha1(bytes);
    }
    return {.code = 200, .body = nlohmann::json{{"files", files}}.dump()};
  }

  Answer Batch(const nlohmann::json& wanted) {
    nlohmann::json objects = nlohmann::json::array();
    for (const auto& object : wanted["objects"]) {
      const std::string hash = object["oid"];
      const size_t size = object["size"];
      nlohmann::json answer = {{"oid", hash}, {"size", size}};
      if (!objects_.contains(hash)) {
        nlohmann::json upload = {
            {"href", absl::StrCat(storage, "/put/", hash)}};
        if (chunk_size > 0) {
          upload["href"] = absl::StrCat(endpoint, "/complete/", hash);
          upload["header"]["chunk_size"] = absl::StrCat(chunk_size);
          for (size_t i = 0; i * chunk_size < size; ++i) {
            const std::string number = i % 2 == 0
                                           ? absl::StrCat(i + 1)
                                           : absl::StrFormat("%05d", i + 1);
            upload["header"][number] =
                absl::StrCat(storage, "/part/", hash, "-", i + 1);
          }
        }
        answer["actions"] = {
            {"upload", upload},
            {"verify", {{"href", absl::StrCat(endpoint, "/verify")}}}};
      }
      objects.push_back(answer);
    }
    return {.code = 200, .body = nlohmann::json{{"objects", objects}}.dump()};
  }

  Answer Complete(const nlohmann::json& wanted) {
    std::string bytes;
    int number = 0;
    for (const auto& part : wanted["parts"]) {
      const std::string name =
          absl::StrCat(wanted["oid"].get<std::string>(), "-", ++number);
      if (part["partNumber"] != number ||
          part["etag"] != absl::StrCat("\"", name, "\"")) {
        return {.code = 400};
      }
      bytes += parts_["/part/" + name];
    }
    objects_[wanted["oid"]] = bytes;
    return {.code = 200, .body = "{}"};
  }

  Answer Verify(const nlohmann::json& wanted) {
    const std::string hash = wanted["oid"];
    const bool right = objects_.contains(hash) &&
                       Sha256(objects_[hash]) == hash &&
                       objects_[hash].size() == wanted["size"];
    return {.code = right ? 200 : 422, .body = "{}"};
  }

  Answer Commit(const std::string& model, const std::string& body) {
    std::map<std::string, File> files;
    for (const auto line : absl::StrSplit(body, '\n', absl::SkipEmpty())) {
      const auto json = nlohmann::json::parse(std::string(line));
      const auto& value = json["value"];
      if (json["key"] == "file") {
        std::string bytes;
        absl::Base64Unescape(value["content"].get<std::string>(), &bytes);
        files[value["path"]] = {bytes};
      } else if (json["key"] == "lfsFile") {
        if (!objects_.contains(value["oid"])) return {.code = 400};
        files[value["path"]] = {objects_[value["oid"]], true};
      }
    }
    for (auto& [path, file] : files) models[model][path] = file;
    return {.code = 200,
            .body = nlohmann::json{{"commitOid", kCommit},
                                   {"commitUrl",
                                    absl::StrCat(endpoint, "/", model)}}
                        .dump()};
  }

  const std::string token_;
  std::set<std::string> privates_;              // models
  std::map<std::string, std::string> objects_;  // large ones, by hash
  std::map<std::string, std::string> parts_;    // by the path of their PUT
};

struct HubServer::Daemon {
  State* state = nullptr;
  bool storage = false;
  MHD_Daemon* daemon = nullptr;

  ~Daemon() { MHD_stop_daemon(daemon); }

  void Start() {
    sockaddr_in address = Loopback(0);
    daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD, 0, nullptr, nullptr, &Daemon::Handle,
        this, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_NOTIFY_COMPLETED,
        &Daemon::End, nullptr, MHD_OPTION_END);
    OUNCE_CHECK(daemon != nullptr, "a port");
  }

  int port() const {
    return MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
  }

  static std::string Header(MHD_Connection* connection, const char* name) {
    const char* value =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
    return value == nullptr ? "" : value;
  }

  static MHD_Result Handle(void* self, MHD_Connection* connection,
                           const char* url, const char* method, const char*,
                           const char* upload, size_t* upload_size,
                           void** request) {
    const auto& daemon = *static_cast<Daemon*>(self);
    auto* seen = static_cast<SeenRequest*>(*request);
    if (seen == nullptr) {
      *request = new SeenRequest{daemon.storage, method, url,
                                 Header(connection, "Authorization"),
                                 Header(connection, "Range")};
      return MHD_YES;
    }
    if (*upload_size > 0) {
      seen->body.append(upload, *upload_size);
      *upload_size = 0;
      return MHD_YES;
    }
    const Answer answer = daemon.state->Reply(*seen);
    MHD_Response* const response = AsResponse(answer);
    for (const auto& [name, value] : answer.headers) {
      MHD_add_response_header(response, name.c_str(), value.c_str());
    }
    const MHD_Result queued = MHD_queue_response(
        connection, static_cast<unsigned>(answer.code), response);
    MHD_destroy_response(response);
    return queued;
  }

  static void End(void*, MHD_Connection*, void** request,
                  MHD_RequestTerminationCode) {
    delete static_cast<SeenRequest*>(*request);
  }
};

HubServer::HubServer(std::string token)
    : state_(std::make_unique<State>(std::move(token))) {
  for (const bool storage : {false, true}) {
    daemons_.push_back(std::make_unique<Daemon>());
    daemons_.back()->state = state_.get();
    daemons_.back()->storage = storage;
    daemons_.back()->Start();
  }
  const MutexLock lock(&state_->mu_);
  state_->endpoint = absl::StrCat("http://127.0.0.1:", daemons_[0]->port());
  state_->storage = absl::StrCat("http://localhost:", daemons_[1]->port());
}

HubServer::~HubServer() = default;

std::string HubServer::endpoint() const {
  const MutexLock lock(&state_->mu_);
  return state_->endpoint;
}

void HubServer::Put(const std::string& model, const std::string& path,
                    const std::string& bytes, bool large) {
  const MutexLock lock(&state_->mu_);
  state_->models[model][path] = {bytes, large};
}

void HubServer::Fault(HubFault fault) {
  const MutexLock lock(&state_->mu_);
  state_->faults.push_back(std::move(fault));
}

void HubServer::SetChunkSize(size_t bytes) {
  const MutexLock lock(&state_->mu_);
  state_->chunk_size = bytes;
}

std::vector<SeenRequest> HubServer::Seen(std::string_view part) const {
  const MutexLock lock(&state_->mu_);
  std::vector<SeenRequest> seen;
  for (const SeenRequest& request : state_->seen) {
    if (request.path.find(part) != std::string::npos) seen.push_back(request);
  }
  return seen;
}

std::map<std::string, std::string> HubServer::Committed(
    const std::string& model) const {
  const MutexLock lock(&state_->mu_);
  std::map<std::string, std::string> committed;
  for (const auto& [path, file] : state_->models[model]) {
    committed[path] = file.bytes;
  }
  return committed;
}

}  // namespace ounce::testing
