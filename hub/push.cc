#include "hub/push.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/read_file.h"
#include "base/status_macros.h"
#include "hub/digest.h"
#include "hub/hub_api.h"
#include "hub/json_fields.h"
#include "hub/lfs_upload.h"
#include "hub/local_files.h"
#include "hub/parallel.h"

namespace ounce::hub {
namespace {

using Json = nlohmann::json;

constexpr size_t kPreuploadBatch = 256;
constexpr size_t kSampleBytes = 512;
// Of files that go inside the commit.
constexpr int64_t kMaxInlineBytes = 256 << 20;

// A file and what becomes of it.
struct Outgoing {
  LocalFile file;
  std::string hash = {};  // as the hub names it
  bool large = false;     // goes to the storage
  bool ignored = false;   // the repository's .gitignore says so
  bool is_there = false;
};

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

class Pusher {
 public:
  Pusher(const Environment& environment, const PushOptions& options,
         const Hooks& hooks)
      : environment_(environment), options_(options), hooks_(hooks) {
    for (int i = 0; i < std::max(1, options.connections); ++i) {
      apis_.push_back(
          std::make_unique<HubApi>(environment, options.name, hooks));
    }
  }

  absl::StatusOr<Pushed> Run(const OnProgress& on_progress) {
    ASSIGN_OR_RETURN(const std::vector<LocalFile> files,
                     FilesToPush(options_.folder));
    RETURN_IF_ERROR(Create());
    ASSIGN_OR_RETURN(const std::string parent, Parent());
    for (const LocalFile& file : files) files_.push_back({file});
    for (size_t i = 0; i < files_.size(); i += kPreuploadBatch) {
      RETURN_IF_ERROR(
          Preupload(i, std::min(i + kPreuploadBatch, files_.size())));
    }
    std::erase_if(files_, [](const Outgoing& file) { return file.ignored; });
    ProgressTeller progress(on_progress);
    for (const Outgoing& file : files_) {
      progress.AddFile(file.file.path, file.file.size);
    }
    RETURN_IF_ERROR(UploadAll(progress));
    ASSIGN_OR_RETURN(const std::string commit, Commit(parent, progress));
    return Pushed{absl::StrCat(environment_.endpoint, "/", options_.name.id),
                  commit, progress.files()};
  }

 private:
  HubApi& api() { return *apis_.front(); }

  std::string ApiUrl(const std::string& what) const {
    return absl::StrCat(environment_.endpoint, "/api/models/", options_.name.id,
                        what);
  }
  std::string Branch() const {
    return UrlEscaped(options_.name.revision, /*slashes=*/false);
  }

  static HttpRequest JsonPost(const std::string& url, const Json& body) {
    HttpRequest request;
    request.method = "POST";
    request.url = url;
    request.headers = {"Content-Type: application/json"};
    request.body = Dump(body);
    request.max_body_bytes = 16 << 20;
    return request;
  }

  absl::Status Create() {
    const std::string& id = options_.name.id;
    const size_t slash = id.find('/');
    Json body = {{"name", id.substr(slash + 1)},
                 {"organization", id.substr(0, slash)},
                 {"type", "model"}};
    if (options_.is_private) body["visibility"] = "private";
    ASSIGN_OR_RETURN(
        const HttpReply reply,
        api().AskPatiently(JsonPost(
            absl::StrCat(environment_.endpoint, "/api/repos/create"), body)));
    if (reply.code / 100 == 2) return absl::OkStatus();
    if (reply.code != 409) return api().Refused(reply, "a new repository");
    return options_.is_private ? CheckPrivate() : absl::OkStatus();
  }

  // So that nothing becomes public that was not to be.
  absl::Status CheckPrivate() {
    HttpRequest request;
    request.url = ApiUrl("");
    request.max_body_bytes = 32 << 20;
    ASSIGN_OR_RETURN(const HttpReply reply, api().AskPatiently(request));
    if (reply.code != 200) return api().Refused(reply, "the repository");
    if (IsTrueIn(Json::parse(reply.body, nullptr, false), "private")) {
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(
        absl::StrCat(options_.name.id,
                     " is there already and is not private: change that "
                     "at ",
                     environment_.endpoint, "/", options_.name.id,
                     "/settings, or push without --private"));
  }

  // The commit that ours follows; empty where there is none yet.
  absl::StatusOr<std::string> Parent() {
    absl::StatusOr<Listing> listing = api().List();
    if (absl::IsNotFound(listing.status())) return "";
    if (!listing.ok()) return listing.status();
    return listing->commit;
  }

  // Asks how files [begin, end) are to be sent.
  absl::Status Preupload(size_t begin, size_t end) {
    std::map<std::string, Outgoing*> asked;
    Json body = {{"files", Json::array()}};
    for (size_t i = begin; i < end; ++i) {
      Outgoing& file = files_[i];
      ASSIGN_OR_RETURN(const std::string sample,
                       ReadFile(file.file.full, kSampleBytes));
      body["files"].push_back({{"path", file.file.path},
                               {"size", file.file.size},
                               {"sample", absl::Base64Escape(sample)}});
      asked[file.file.path] = &file;
    }
    ASSIGN_OR_RETURN(
        const HttpReply reply,
        api().AskPatiently(JsonPost(ApiUrl("/preupload/" + Branch()), body)));
    if (reply.code != 200) return api().Refused(reply, "an upload");
    const Json json = Json::parse(reply.body, nullptr, false);
    const absl::Status malformed = absl::DataLossError(
        "the hub's answer on how to upload is none of its own");
    const Json* const answers = ListIn(json, "files");
    if (answers == nullptr) return malformed;
    for (const Json& answer : *answers) {
      const auto mode = TextIn(answer, "uploadMode");
      const auto file = asked.find(TextIn(answer, "path").value_or(""));
      if (file == asked.end() || !mode) return malformed;
      Outgoing& outgoing = *file->second;
      // The storage takes no empty files.
      outgoing.large = *mode == "lfs" && outgoing.file.size > 0;
      outgoing.ignored = IsTrueIn(answer, "shouldIgnore");
      RETURN_IF_ERROR(Hash(outgoing, TextIn(answer, "oid").value_or("")));
      asked.erase(file);
    }
    return asked.empty() ? absl::OkStatus() : malformed;
  }

  // `known` is the hash that the hub has at the file's path.
  absl::Status Hash(Outgoing& file, const std::string& known) {
    if (file.ignored) return absl::OkStatus();
    ASSIGN_OR_RETURN(
        file.hash, file.large
                       ? Sha256OfFile(file.file.full, file.file.size, hooks_)
                       : GitHashOfFile(file.file.full, file.file.size, hooks_));
    file.is_there = file.hash == known;
    return absl::OkStatus();
  }

  // Brings the large files to the storage.
  absl::Status UploadAll(ProgressTeller& progress) {
    std::vector<LargeFile> large;
    std::vector<int> numbers;
    for (size_t i = 0; i < files_.size(); ++i) {
      const Outgoing& file = files_[i];
      if (file.is_there) progress.SetWasThere(static_cast<int>(i));
      if (file.is_there || !file.large) continue;
      large.push_back({file.file.full, file.hash, file.file.size});
      numbers.push_back(static_cast<int>(i));
    }
    ASSIGN_OR_RETURN(const auto actions, AskForUploads(api(), large));
    return InParallel(
        static_cast<int>(apis_.size()), static_cast<int>(large.size()),
        [&](int worker, int i) {
          const Json& wanted = actions.at(large[i].hash);
          if (wanted.empty()) {
            progress.SetWasThere(numbers[i]);
            return absl::OkStatus();
          }
          return UploadLarge(
              *apis_[worker], large[i], wanted,
              [&](int64_t bytes) { progress.SetDone(numbers[i], bytes); });
        });
  }

  // The commit as lines of JSON; empty where nothing has changed.
  absl::StatusOr<std::string> CommitBody(const std::string& parent) const {
    Json header = {{"summary", options_.summary}, {"description", ""}};
    if (!parent.empty()) header["parentCommit"] = parent;
    std::string body = Dump({{"key", "header"}, {"value", header}}) + "\n";
    bool any = false;
    int64_t room = kMaxInlineBytes;
    for (const Outgoing& file : files_) {
      if (file.is_there) continue;
      any = true;
      if (file.large) {
        body += Dump({{"key", "lfsFile"},
                      {"value",
                       {{"path", file.file.path},
                        {"algo", "sha256"},
                        {"oid", file.hash},
                        {"size", file.file.size}}}});
      } else {
        room -= file.file.size;
        if (room < 0) {
          return absl::FailedPreconditionError(
              absl::StrCat(file.file.path,
                           ": the hub wants it inside the commit, which "
                           "takes no more than ",
                           FormatByteSize(kMaxInlineBytes)));
        }
        ASSIGN_OR_RETURN(const std::string bytes,
                         ReadUnchanged(file.file, file.hash));
        body += Dump({{"key", "file"},
                      {"value",
                       {{"path", file.file.path},
                        {"encoding", "base64"},
                        {"content", absl::Base64Escape(bytes)}}}});
      }
      body += '\n';
    }
    return any ? body : "";
  }

  // Asks once: an answer that is lost may have been a yes.
  absl::StatusOr<std::string> Commit(const std::string& parent,
                                     ProgressTeller& progress) {
    HttpRequest request;
    request.method = "POST";
    request.url = ApiUrl("/commit/" + Branch());
    request.headers = {"Content-Type: application/x-ndjson"};
    ASSIGN_OR_RETURN(request.body, CommitBody(parent));
    if (request.body.empty()) return "";
    absl::StatusOr<HttpReply> reply = api().Ask(std::move(request));
    if (absl::IsUnavailable(reply.status())) {
      return absl::UnavailableError(
          absl::StrCat(reply.status().message(),
                       "; whether the commit was made is not "
                       "known: push again, which sends what is lacking"));
    }
    if (!reply.ok()) return reply.status();
    if (reply->code == 409 || reply->code == 412) {
      return absl::AbortedError(absl::StrCat(
          options_.name.id, " has got another commit meanwhile: push again"));
    }
    if (reply->code / 100 != 2) return api().Refused(*reply, "a commit");
    for (size_t i = 0; i < files_.size(); ++i) {
      if (!files_[i].is_there) {
        progress.SetDone(static_cast<int>(i), files_[i].file.size);
      }
    }
    return TextIn(Json::parse(reply->body, nullptr, false), "commitOid")
        .value_or("");
  }

  const Environment& environment_;
  const PushOptions& options_;
  const Hooks& hooks_;
  std::vector<std::unique_ptr<HubApi>> apis_;  // one for each connection
  std::vector<Outgoing> files_;
};

}  // namespace

absl::StatusOr<Pushed> Push(const Environment& environment,
                            const PushOptions& options, const Hooks& hooks,
                            const OnProgress& on_progress) {
  if (environment.offline) {
    return absl::FailedPreconditionError(
        "HF_HUB_OFFLINE is set: unset it to upload");
  }
  if (environment.token.empty()) {
    return absl::UnauthenticatedError(absl::StrCat(
        "uploading needs a token that may write: make one at ",
        environment.endpoint, "/settings/tokens, and put it into HF_TOKEN"));
  }
  if (options.name.id.find('/') == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", options.name.id,
                     "': must be ORG/NAME, of an organization or a user"));
  }
  return Pusher(environment, options, hooks).Run(on_progress);
}

}  // namespace ounce::hub
