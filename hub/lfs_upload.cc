#include "hub/lfs_upload.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "hub/files.h"
#include "hub/json_fields.h"

namespace ounce::hub {
namespace {

using Json = nlohmann::json;

constexpr char kMediaType[] = "application/vnd.git-lfs+json";
constexpr size_t kBatch = 100;
constexpr int64_t kMaxParts = 10'000;

absl::Status Malformed(const LargeFile& file) {
  return absl::DataLossError(absl::StrCat(
      file.path, ": the hub's answer about its upload is none of Git LFS's"));
}

absl::StatusOr<HttpReply> PostLfs(HubApi& api, const std::string& url,
                                  const Json& body) {
  HttpRequest request;
  request.method = "POST";
  request.url = url;
  request.headers = {absl::StrCat("Accept: ", kMediaType),
                     absl::StrCat("Content-Type: ", kMediaType)};
  request.body = body.dump();
  request.max_body_bytes = 16 << 20;
  ASSIGN_OR_RETURN(const HttpReply reply, api.AskPatiently(request));
  if (reply.code / 100 != 2) return api.Refused(reply, "an upload");
  return reply;
}

// Adds what the storage wants for files [begin, end).
absl::Status AskForBatch(HubApi& api, const std::vector<LargeFile>& files,
                         size_t begin, size_t end,
                         std::map<std::string, Json>& actions) {
  Json body = {{"operation", "upload"},
               {"transfers", {"basic", "multipart"}},
               {"hash_algo", "sha256"},
               {"ref", {{"name", api.name().revision}}},
               {"objects", Json::array()}};
  std::map<std::string, const LargeFile*> asked;
  for (size_t i = begin; i < end; ++i) {
    body["objects"].push_back(
        {{"oid", files[i].hash}, {"size", files[i].size}});
    asked[files[i].hash] = &files[i];
  }
  ASSIGN_OR_RETURN(
      const HttpReply reply,
      PostLfs(api,
              absl::StrCat(api.environment().endpoint, "/", api.name().id,
                           ".git/info/lfs/objects/batch"),
              body));
  const Json json = Json::parse(reply.body, nullptr, false);
  if (TextIn(json, "transfer") == "xet") {
    return absl::UnimplementedError(absl::StrCat(
        api.environment().endpoint,
        " takes large files by Xet alone, which is not supported: upload with "
        "`hf upload`"));
  }
  const Json* const objects = ListIn(json, "objects");
  if (objects == nullptr) return Malformed(files[begin]);
  for (const Json& object : *objects) {
    const auto hash = TextIn(object, "oid");
    const auto file = asked.find(hash.value_or(""));
    if (file == asked.end()) return Malformed(files[begin]);
    if (const Json* const error = ObjectIn(object, "error")) {
      return absl::FailedPreconditionError(absl::StrCat(
          file->second->path, ": the hub does not take it: ",
          absl::CHexEscape(TextIn(*error, "message").value_or("no reason"))));
    }
    const Json* const wanted = ObjectIn(object, "actions");
    actions[*hash] = wanted == nullptr ? Json::object() : *wanted;
    asked.erase(file);
  }
  return asked.empty() ? absl::OkStatus() : Malformed(*asked.begin()->second);
}

// Puts a part of the open file at `url`; returns the ETag of what is there.
absl::StatusOr<std::string> PutPart(
    HubApi& api, const std::string& url, const FilePart& part,
    const std::function<void(int64_t)>& on_sent) {
  HttpRequest request;
  request.method = "PUT";
  request.url = url;
  request.file = part;
  request.on_sent = on_sent;
  ASSIGN_OR_RETURN(const HttpReply reply, api.AskPatiently(request));
  if (reply.code / 100 != 2) return api.Refused(reply, "an upload");
  return reply.Header("etag");
}

// The addresses of the parts: the fields of `header` that are the numbers 1, 2,
// ..., which may be padded: "00001".
std::optional<std::vector<std::string>> PartUrls(const Json& header,
                                                 int64_t num_parts) {
  std::vector<std::string> urls(static_cast<size_t>(num_parts));
  for (const auto& [key, url] : header.items()) {
    int64_t number = 0;
    if (!std::all_of(key.begin(), key.end(), absl::ascii_isdigit) ||
        !absl::SimpleAtoi(key, &number) || number < 1 || number > num_parts) {
      continue;
    }
    if (!url.is_string()) return std::nullopt;
    urls[static_cast<size_t>(number - 1)] = url.get<std::string>();
  }
  const bool lacks_one =
      std::any_of(urls.begin(), urls.end(),
                  [](const std::string& url) { return url.empty(); });
  if (lacks_one) return std::nullopt;
  return urls;
}

absl::Status UploadInParts(HubApi& api, const LargeFile& file, int descriptor,
                           const std::string& url, const Json& header,
                           int64_t chunk_size,
                           const std::function<void(int64_t)>& on_bytes) {
  const int64_t num_parts = (file.size - 1) / chunk_size + 1;
  if (num_parts > kMaxParts) return Malformed(file);
  const auto urls = PartUrls(header, num_parts);
  if (!urls.has_value()) return Malformed(file);
  Json parts = Json::array();
  for (int64_t i = 0; i < num_parts; ++i) {
    const int64_t begin = i * chunk_size;
    const int64_t size = std::min(chunk_size, file.size - begin);
    ASSIGN_OR_RETURN(const std::string etag,
                     PutPart(api, (*urls)[i], {descriptor, begin, size},
                             [&](int64_t sent) { on_bytes(begin + sent); }));
    if (etag.empty()) return Malformed(file);
    parts.push_back({{"partNumber", i + 1}, {"etag", etag}});
  }
  return PostLfs(api, url, {{"oid", file.hash}, {"parts", parts}}).status();
}

}  // namespace

absl::StatusOr<std::map<std::string, Json>> AskForUploads(
    HubApi& api, const std::vector<LargeFile>& files) {
  std::map<std::string, Json> actions;
  for (size_t begin = 0; begin < files.size(); begin += kBatch) {
    RETURN_IF_ERROR(AskForBatch(
        api, files, begin, std::min(begin + kBatch, files.size()), actions));
  }
  return actions;
}

absl::Status UploadLarge(HubApi& api, const LargeFile& file,
                         const Json& actions,
                         const std::function<void(int64_t)>& on_bytes) {
  const Json* const upload = ObjectIn(actions, "upload");
  const auto url = upload == nullptr ? std::nullopt : TextIn(*upload, "href");
  if (!url) return Malformed(file);
  const OpenedFile opened(open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.ok()) {
    return absl::DataLossError(
        absl::StrCat("cannot read '", file.path, "': ", std::strerror(errno)));
  }
  const Json* const header = ObjectIn(*upload, "header");
  if (header != nullptr && header->contains("chunk_size")) {
    int64_t chunk_size = WholeNumberIn(*header, "chunk_size").value_or(0);
    if (const auto text = TextIn(*header, "chunk_size")) {
      if (!absl::SimpleAtoi(*text, &chunk_size)) return Malformed(file);
    }
    if (chunk_size <= 0) return Malformed(file);
    RETURN_IF_ERROR(UploadInParts(api, file, opened.get(), *url, *header,
                                  chunk_size, on_bytes));
  } else {
    RETURN_IF_ERROR(
        PutPart(api, *url, {opened.get(), 0, file.size}, on_bytes).status());
  }
  const Json* const verify = ObjectIn(actions, "verify");
  if (verify == nullptr) return absl::OkStatus();
  const auto verify_url = TextIn(*verify, "href");
  if (!verify_url) return Malformed(file);
  return PostLfs(api, *verify_url, {{"oid", file.hash}, {"size", file.size}})
      .status();
}

}  // namespace ounce::hub
